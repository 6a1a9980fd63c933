"""Images and whole reports in one space (CLIP, Radford et al. 2021)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_TEMPERATURE = 0.07


@dataclass(frozen=True)
class ReportPairs:
    """Each image beside its report, as unit vectors in one space.

    images, reports [B, D]. logit_scale []: the learned log inverse temperature of their cosine.
    """

    images: Tensor
    reports: Tensor
    logit_scale: Tensor


class ReportHead(nn.Module):
    """The pooled image as it is, and a linear projection of the report's text vector."""

    def __init__(self, text_width: int, width: int):
        super().__init__()
        self.projection = nn.Linear(text_width, width)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.logit_scale = nn.Parameter(torch.tensor(INITIAL_TEMPERATURE).log().neg())

    def forward(self, pooled: Tensor, reports: Tensor) -> ReportPairs:
        """pooled [B, D] and text vectors [B, T] -> ReportPairs, float32."""
        images, reports = (F.normalize(vectors.float(), dim=-1) for vectors in (pooled, self.projection(reports)))
        return ReportPairs(images, reports, self.logit_scale)
