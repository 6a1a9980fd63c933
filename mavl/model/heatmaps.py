"""Output -> heatmaps by finding name, and the baselines made without a model (docs/protocols.md).

A query's cross-attention is a distribution over the patches, so a map of the grid sums to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mavl.backbones import PatchGrid
from mavl.model.mavl import MAVLOutput
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import DESCRIPTION, GROUNDING_ASPECTS, unknown_name

AGGREGATIONS = ("avg", "max", "global")
"""One map of those of a finding's aspects: the mean, the largest value of each patch, the description's map alone."""

BLOB_SIGMA = 0.25
"""Standard deviation of `centre_map`, in sides of the map."""


class HeatmapError(ValueError):
    """A map that a model or a prediction does not have; the message names those that it has."""


@dataclass(frozen=True)
class MapOptions:
    """The reduction of attention to a finding's map, for grounding, pages and explanations.

    aspects: those that are averaged, by default GROUNDING_ASPECTS. aggregation: one of AGGREGATIONS. layers: decoder
    layers that are averaged, counted from 0, all when empty.
    """

    aspects: tuple[str, ...] | None = None
    aggregation: str = "avg"
    layers: tuple[int, ...] = ()

    def used_aspects(self, known: Sequence[str]) -> tuple[str, ...]:
        """The aspects of a map among those of a model; of a model with one aspect always that one.

        HeatmapError for an aggregation other than AGGREGATIONS.
        """
        if self.aggregation not in AGGREGATIONS:
            raise HeatmapError(unknown_name("aggregation", self.aggregation, AGGREGATIONS))
        if len(known) == 1:
            return tuple(known)
        if self.aggregation == "global":
            return (DESCRIPTION,)
        return self.aspects or tuple(aspect for aspect in GROUNDING_ASPECTS if aspect in known) or tuple(known)


DEFAULT_MAP = MapOptions()


def check_parts(aspects: Sequence[str], layers: Sequence[int], known: Sequence[str], depth: int) -> None:
    """HeatmapError for an aspect that is not among the known ones of a model, and for a layer beyond its depth."""
    if missing := [layer for layer in layers if layer not in range(depth)]:
        raise HeatmapError(f"the model has no decoder layer {missing[0]}, only 0 to {depth - 1}")
    if unknown := [aspect for aspect in aspects if aspect not in known]:
        raise HeatmapError(unknown_name("aspect", unknown[0], known))


def aspect_maps(
    output: MAVLOutput,
    embeddings: TextEmbeddings,
    findings: Sequence[str],
    aspects: Sequence[str],
    layers: Sequence[int] = (),
) -> Tensor:
    """Attention [B, len(findings), len(aspects), h, w], float32, the mean over these layers (over all if empty).

    UnknownFindingError for a finding that the embeddings lack; HeatmapError for an aspect or a layer that the model
    does not have, and for an output without attention.
    """
    if output.attention is None:
        raise HeatmapError("the output holds no attention: call the model with return_attention=True")
    depth = len(output.attention)
    check_parts(aspects, layers, embeddings.aspects, depth)
    columns = [embeddings.aspects.index(aspect) for aspect in aspects]
    rows = embeddings.index(findings)
    queries = torch.tensor([[row * len(embeddings.aspects) + column for column in columns] for row in rows])
    attention = [output.attention[layer][:, queries].float() for layer in layers or range(depth)]
    return torch.stack(attention).mean(dim=0).unflatten(-1, output.grid.shape[-2:])


def heatmaps(
    output: MAVLOutput, embeddings: TextEmbeddings, findings: Sequence[str], options: MapOptions = DEFAULT_MAP
) -> Tensor:
    """The map of each finding: attention [B, len(findings), h, w], float32.

    Each map sums to 1 (with the aggregation `max`, to 1 or more). Errors as of `aspect_maps` and `used_aspects`.
    """
    used = options.used_aspects(embeddings.aspects)
    maps = aspect_maps(output, embeddings, findings, used, options.layers)
    return maps.amax(dim=2) if options.aggregation == "max" else maps.mean(dim=2)


def enlarge(maps: Tensor, size: tuple[int, int], patch_grid: PatchGrid | None = None) -> Tensor:
    """maps [B, F, h, w] -> [B, F, H, W], bilinear between the centres of the patches, which `patch_grid` gives.

    Without it the centres of the corner patches are on the corner pixels, as in the release. That stretches the map by
    up to half a patch at the borders, by more at the far borders of a convolution.
    """
    if patch_grid is None:
        return F.interpolate(maps, size, mode="bilinear", align_corners=True)
    lengths = zip(maps.shape[-2:], size, patch_grid.size, strict=True)
    down, across = (_weights(*length, patch_grid.offset, patch_grid.stride).to(maps) for length in lengths)
    return down @ maps @ across.T


def _weights(patches: int, pixels: int, input_pixels: int, offset: float, stride: int) -> Tensor:
    """Weight [pixels, patches] of each patch in each pixel of an image that shows an input of `input_pixels`."""
    position = (torch.arange(pixels, dtype=torch.float64) + 0.5) * input_pixels / pixels - 0.5
    position = ((position - offset) / stride).clamp(0, patches - 1)
    return (1 - (position[:, None] - torch.arange(patches)).abs()).clamp(min=0)


def random_map(shape: tuple[int, int], seed: int | Sequence[int]) -> np.ndarray:
    """Uniform noise [h, w], float32, that sums to 1: a baseline that does not depend on the image."""
    noise = np.random.default_rng(seed).random(shape)
    return (noise / noise.sum()).astype(np.float32)


def centre_map(shape: tuple[int, int]) -> np.ndarray:
    """A centred Gaussian [h, w], float32, that sums to 1: the baseline of the usual position of findings."""
    vertical, horizontal = (
        np.exp(-((((np.arange(length) + 0.5) / length - 0.5) / BLOB_SIGMA) ** 2) / 2) for length in shape
    )
    blob = np.outer(vertical, horizontal)
    return (blob / blob.sum()).astype(np.float32)
