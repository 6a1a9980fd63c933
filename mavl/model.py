"""MAVL: image and text vectors in, one output for training, diagnosis, grounding and explanation.

Letters in shapes, here and everywhere: B images in a batch, F findings, A aspects, Q = F·A queries (query f·A + a),
D width, T text width, C backbone channels, h × w the grid, P = h·w patches, L decoder layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.backbones import build_backbone, interpolate_positions
from mavl.decoder import QueryDecoder
from mavl.vocab import ASPECTS

INITIAL_TEMPERATURE = 0.07
POOLING_HEADS = 8


@dataclass(frozen=True)
class MAVLOutput:
    """All that a forward pass computes.

    presence_logits [B, F, 2]: (absent, present); location_embedding [B, F, T]: to be compared with anatomy vectors;
    aspect_features [B, F, A, D]: decoder output; grid [B, D, h, w]; cosine [B, A, F] of the pooled image with each
    query, in -1..1, and log_scale [A], its learned log inverse temperature (both None without a contrastive head);
    attention: one [B, Q, P] per decoder layer, rows sum to 1 (None unless asked for).
    """

    presence_logits: Tensor
    location_embedding: Tensor
    aspect_features: Tensor
    grid: Tensor
    cosine: Tensor | None
    log_scale: Tensor | None
    attention: tuple[Tensor, ...] | None


class AttentionPool(nn.Module):
    """CLIP's attention pooling (Radford et al. 2021): the mean token asks, all tokens answer."""

    def __init__(self, channels: int, width: int, positions: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(positions + 1, channels) / channels**0.5)
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, width)

    def forward(self, grid: Tensor) -> Tensor:
        """grid [B, C, h, w] -> pooled [B, D]."""
        patches = grid.flatten(2).mT
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        tokens = tokens + interpolate_positions(self.positional_embedding, tuple(grid.shape[-2:]))
        query, key, value = (
            projection(part).unflatten(-1, (POOLING_HEADS, -1)).transpose(1, 2)
            for projection, part in ((self.q_proj, tokens[:, :1]), (self.k_proj, tokens), (self.v_proj, tokens))
        )
        pooled = F.scaled_dot_product_attention(query, key, value)
        return self.c_proj(pooled.transpose(1, 2).flatten(1))


class MAVL(nn.Module):
    """Multi-aspect vision-language network; with `aspects=("description",)` and no contrastive head it is MedKLIP.

    image_size: the size (pixels) that learned positions are laid out for; other input sizes interpolate them.
    text_width: T of the banks it is used with. feature_dropout: the chance that a whole (image, query) vector is zeroed
    before the heads in training.
    """

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        image_size: int = 224,
        aspects: Sequence[str] = ASPECTS,
        text_width: int = 768,
        width: int = 256,
        layers: int = 4,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        feature_dropout: float = 0.1,
        self_attention: bool = True,
        contrastive: bool = True,
    ):
        super().__init__()
        self.aspects = tuple(aspects)
        self.backbone = build_backbone(backbone)
        channels = self.backbone.channels
        self.grid_projection = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.PReLU(), nn.Conv2d(channels, width, 1)
        )
        self.query_projection = nn.Linear(text_width, width)
        self.decoder = QueryDecoder(width, layers, heads, feedforward, dropout, self_attention)
        self.feature_dropout = nn.Dropout1d(feature_dropout)
        self.presence_head = nn.Linear(len(aspects) * width, 2)
        self.location_head = nn.Conv1d(width, text_width, kernel_size=len(aspects), stride=len(aspects))
        self.apply(_initialise)
        if contrastive:
            positions = math.ceil(image_size / self.backbone.stride) ** 2
            self.pool = _pool(self.backbone, width, positions)
            self.log_scale = nn.Parameter(torch.full((len(aspects),), INITIAL_TEMPERATURE).log().neg())
        else:
            self.pool = self.log_scale = None

    def forward(self, images: Tensor, text: Tensor, return_attention: bool = False) -> MAVLOutput:
        """images [B, 3, H, W] normalised, text [F, A, T] (a bank's vectors) -> MAVLOutput."""
        if text.shape[1] != len(self.aspects):
            raise ValueError(
                f"text has {text.shape[1]} aspects a finding, the model has {len(self.aspects)}: {self.aspects}"
            )
        backbone_grid, class_token = self.backbone(images)
        grid = self.grid_projection(backbone_grid)
        queries = self.query_projection(text.flatten(0, 1))
        features, attention = self.decoder(
            queries.expand(len(images), -1, -1), grid.flatten(2).mT, return_attention=return_attention
        )
        features = self.feature_dropout(features)
        aspect_features = features.unflatten(1, text.shape[:2])
        cosine = None
        if self.pool is not None:
            pooled = self.pool(backbone_grid if class_token is None else class_token)
            similarity = F.normalize(pooled, dim=-1) @ F.normalize(queries, dim=-1).T
            cosine = similarity.unflatten(-1, text.shape[:2]).mT
        return MAVLOutput(
            presence_logits=self.presence_head(aspect_features.flatten(2)),
            location_embedding=self.location_head(features.mT).mT,
            aspect_features=aspect_features,
            grid=grid,
            cosine=cosine,
            log_scale=self.log_scale,
            attention=attention,
        )

    @classmethod
    def from_pretrained(cls, source: str) -> "MAVL":
        """The model of a run folder, a hub id, or a released .pth; `mavl.checkpoint.load` also gives its bank."""
        from mavl.checkpoint import load

        return load(source).model


def _pool(backbone: nn.Module, width: int, positions: int) -> nn.Module:
    """What makes one D-vector of the image: attention pooling, or the class token (projected when it is not D wide)."""
    if not backbone.has_class_token:
        return AttentionPool(backbone.channels, width, positions)
    return nn.Linear(backbone.channels, width) if backbone.channels != width else nn.Identity()


def _initialise(module: nn.Module) -> None:
    """Normal(0, 0.02) for linear and attention weights, zero biases; convolutions keep their library's start."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
        nn.init.normal_(module.in_proj_weight, std=0.02)
