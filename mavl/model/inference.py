"""Fast inference: a model with fixed text embeddings, computed for the requested findings alone.

Exact up to rounding: the text and the first layer's self-attention are computed once, the last layer for the requested
findings alone, no location head, every BatchNorm folded into its convolution.
"""

from collections.abc import Iterable, Sequence
from copy import copy, deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mavl.model.mavl import MAVL, ImageFeatures, MAVLOutput, TextQueries
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import healthy

Model = TypeVar("Model", bound=nn.Module)

FOLDED_APART = 1e-3
"""Largest difference that folding may make, as a share of the largest feature; rounding makes some 1e-6."""

CPU_BATCH = 8
"""Images at once on a CPU, where more are no faster and take memory in proportion."""


class InferenceModel:
    """model(images [B, 3, H, W]) -> MAVLOutput of the findings of `model.embeddings`, without gradients.

    The output is on the model's device. Queries of all given embeddings take part in the self-attention, so the numbers
    are those of the whole. The weights are copied: later training of the model has no effect here.

    Args:
        findings: names that the output holds, all of the embeddings when None.
        compile: torch.compile the model; it takes a minute or so and pays on a GPU with many images of one size.
    """

    def __init__(
        self, model: MAVL, embeddings: TextEmbeddings, findings: Sequence[str] | None = None, compile: bool = False
    ):
        self.model = folded(model)
        self._encode, self._decode = self.model.encode_image, self.model.decode
        if compile:
            self._encode, self._decode = torch.compile(self._encode), torch.compile(self._decode)
        self._set_text(embeddings, embeddings.findings if findings is None else findings)

    def with_embeddings(self, embeddings: TextEmbeddings, findings: Sequence[str] | None = None) -> "InferenceModel":
        """The same weights, not copied again, with another text, of the same findings or of others."""
        other = copy(self)
        other._set_text(embeddings, self.embeddings.findings if findings is None else findings)
        return other

    def _set_text(self, embeddings: TextEmbeddings, findings: Sequence[str]) -> None:
        wanted = tuple(dict.fromkeys(findings))
        self.rows = embeddings.index(wanted)
        self.embeddings = embeddings if wanted == embeddings.findings else embeddings.select(wanted)
        self._vectors = embeddings.vectors
        self._queries: dict[torch.dtype | None, TextQueries] = {}

    def __call__(self, images: Tensor, return_attention: bool = False) -> MAVLOutput:
        return concatenate(self.decode(self.encode_image(part), return_attention) for part in in_parts(images))

    @torch.inference_mode()
    def encode_image(self, images: Tensor) -> ImageFeatures:
        """images [B, 3, H, W] -> ImageFeatures, of use with any text; all at once, whatever the device."""
        return self._encode(images.contiguous(memory_format=torch.channels_last))

    @torch.inference_mode()
    def decode(self, image: ImageFeatures, return_attention: bool = False) -> MAVLOutput:
        """ImageFeatures of this model's weights -> MAVLOutput."""
        queries = self._text_queries(image.grid.device.type)
        return self._decode(image, queries, findings=self.rows, return_attention=return_attention)

    def _text_queries(self, device: str) -> TextQueries:
        """The text in the precision of the surrounding autocast, computed once for each precision."""
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        if dtype not in self._queries:
            self._queries[dtype] = self.model.encode_text(self._vectors)
        return self._queries[dtype]


def for_findings(
    current: InferenceModel | None, model: MAVL, embeddings: TextEmbeddings, findings: Sequence[str]
) -> InferenceModel:
    """The model for these findings and for those that the contrastive head compares them with.

    It is `current` where that has these findings, else one with the weights of `current`, or of `model` without it.
    """
    wanted = tuple(dict.fromkeys([*findings, *healthy(embeddings.findings)]))
    if current is None:
        return InferenceModel(model, embeddings, wanted)
    return current if current.embeddings.findings == wanted else current.with_embeddings(embeddings, wanted)


def in_parts(images: Tensor) -> tuple[Tensor, ...]:
    """A batch as it is computed at once: parts of CPU_BATCH on a CPU, the whole elsewhere."""
    whole = images.device.type != "cpu" or len(images) <= CPU_BATCH
    return (images,) if whole else images.split(CPU_BATCH)


def concatenate(parts: Iterable[MAVLOutput]) -> MAVLOutput:
    """Outputs of parts of a batch -> the output of the batch."""
    parts = list(parts)

    def join(*values: Any) -> Any:
        if isinstance(values[0], tuple):
            return tuple(map(torch.cat, zip(*values, strict=True)))
        return None if values[0] is None else torch.cat(values)

    by_image = ("presence_logits", "location_embedding", "aspect_features", "grid", "cosine", "attention")
    joined = {name: join(*(getattr(part, name) for part in parts)) for name in by_image}
    return replace(parts[0], **joined) if len(parts) > 1 else parts[0]


def folded(model: Model) -> Model:
    """A copy for inference: evaluation mode, channels-last, each BatchNorm2d folded into the convolution before it.

    A BatchNorm that is more than one, as timm's with an activation inside, leaves the rest of itself. Which
    convolution comes before one is read from the order of the modules: where the backbone then gives other numbers, as
    it would if its code used them in another order, nothing is folded.
    """
    plain = deepcopy(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    inner, changed = deepcopy(plain), False
    for module in inner.modules():
        children: list[tuple[str, Any]] = list(module.named_children())
        for (name, first), (following, second) in pairwise(children):
            if isinstance(first, nn.Conv2d) and (rest := _after_norm(second)) is not None:
                setattr(module, name, fuse_conv_bn_eval(first, second))
                setattr(module, following, rest)
                changed = True
    return inner if changed and _alike(plain, inner) else plain


def _after_norm(module: Any) -> nn.Module | None:
    """What a BatchNorm2d does after the normalization; None for what is none, or does something unknown."""
    if type(module) is nn.BatchNorm2d:
        return nn.Identity()
    if isinstance(module, nn.BatchNorm2d) and type(module).__name__ == "BatchNormAct2d":  # of timm
        return nn.Sequential(module.get_submodule("drop"), module.get_submodule("act"))
    return None


@torch.inference_mode()
def _alike(plain: Any, inner: Any) -> bool:
    """Whether both backbones give the same grid, up to rounding, for an image of noise."""
    side, parameter = plain.backbone.preprocessing.image_size, next(plain.parameters())
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)).to(parameter)
    expected, actual = (each.backbone(image)[0].float() for each in (plain, inner))
    return torch.allclose(actual, expected, rtol=0, atol=FOLDED_APART * float(expected.abs().max()))
