"""Reading images fast: a model and text embeddings, and of what they compute only what was asked for.

Exact up to rounding: text and the first layer's questions are computed once, the last layer for the findings that are
asked for, no location head, every BatchNorm folded into its convolution.
"""

from collections.abc import Iterable, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mavl.model.mavl import MAVL, MAVLOutput, Queries
from mavl.text.embeddings import TextEmbeddings

ON_A_CPU = 8
"""Images at once on a CPU, where more are no faster and take memory in proportion."""


class InferenceModel:
    """inference_model(images [B, 3, H, W]) -> MAVLOutput of the findings of `inference_model.embeddings`, on the model's device, no gradients.

    findings: names of the embeddings, all when None. All of the embeddings takes part where the queries ask one another, so the
    numbers are those of the whole. It holds a copy of the model as it is now; later training does not reach it.
    compile: torch.compile the model, which takes a minute or so and pays on a GPU with many images of one size.
    """

    def __init__(
        self, model: MAVL, embeddings: TextEmbeddings, findings: Sequence[str] | None = None, compile: bool = False
    ):
        self.model = folded(model)
        self._forward = torch.compile(self.model) if compile else self.model
        self._ask(embeddings, embeddings.findings if findings is None else findings)

    def with_embeddings(self, embeddings: TextEmbeddings, findings: Sequence[str] | None = None) -> "InferenceModel":
        """This inference_model with the same weights, not copied again, and other text: of the same findings or of others."""
        other = copy(self)
        other._ask(embeddings, self.embeddings.findings if findings is None else findings)
        return other

    def _ask(self, embeddings: TextEmbeddings, findings: Sequence[str]) -> None:
        wanted = tuple(dict.fromkeys(findings))
        self.rows = None if wanted == embeddings.findings else embeddings.index(wanted)
        self.embeddings = embeddings if self.rows is None else embeddings.select(wanted)
        self._vectors = embeddings.vectors
        self._queries: dict[torch.dtype | None, Queries] = {}

    @torch.inference_mode()
    def __call__(self, images: Tensor, return_attention: bool = False) -> MAVLOutput:
        rows = range(len(self.embeddings.findings)) if self.rows is None else self.rows
        queries = self._asked(images.device.type)
        return joined(
            self._forward(
                part.contiguous(memory_format=torch.channels_last),
                queries,
                findings=rows,
                return_attention=return_attention,
            )
            for part in in_parts(images)
        )

    def _asked(self, device: str) -> Queries:
        """The queries in the precision that autocast asks for."""
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        if dtype not in self._queries:
            self._queries[dtype] = self.model.queries(self._vectors)
        return self._queries[dtype]


def in_parts(images: Tensor) -> tuple[Tensor, ...]:
    """What a inference_model takes at once of a batch: parts of it on a CPU, itself where it is small enough or on a GPU."""
    whole = images.device.type != "cpu" or len(images) <= ON_A_CPU
    return (images,) if whole else images.split(ON_A_CPU)


def joined(parts: Iterable[MAVLOutput]) -> MAVLOutput:
    """Outputs of parts of a batch -> the output of the batch."""
    first, *others = parts
    if not others:
        return first

    def together(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in (first, *others)]
        return None if values[0] is None else torch.cat(values)

    by_image = ("presence_logits", "location_embedding", "aspect_features", "grid", "cosine")
    attention = None
    if first.attention is not None:
        attention = tuple(map(torch.cat, zip(*(part.attention for part in (first, *others)), strict=True)))
    return replace(first, attention=attention, **{name: together(name) for name in by_image})


def folded(model: nn.Module) -> nn.Module:
    """A copy for inference: evaluation mode, channels-last, each BatchNorm2d folded into the convolution before it."""
    inner = deepcopy(model).eval().requires_grad_(False)
    for module in inner.modules():
        children = list(module.named_children())
        for (name, first), (following, second) in pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, following, nn.Identity())
    return inner.to(memory_format=torch.channels_last)
