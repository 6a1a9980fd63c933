"""Output -> heatmaps by finding name, and the maps without a model that they are compared with. Pure functions.

A query's cross-attention is the share of its look that goes to each patch, so a map of the grid sums to 1. SPEC §11.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mavl.backbones.build import PatchGrid
from mavl.model.mavl import MAVLOutput
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import DESCRIPTION, GROUNDING_ASPECTS, unknown_name

AGGREGATIONS = ("avg", "max", "global")
"""How a finding's aspects become one map: their mean, their largest value in each patch, the description alone."""

BLOB_SIGMA = 0.25
"""Standard deviation of `centre_map`, in sides of the map."""


class HeatmapError(ValueError):
    """A map that this model does not have; the message says which ones it has."""


def aspect_maps(
    output: MAVLOutput,
    embeddings: TextEmbeddings,
    findings: Sequence[str],
    aspects: Sequence[str],
    layers: Sequence[int] = (),
) -> Tensor:
    """Attention mass [B, len(findings), len(aspects), h, w], float32, the mean over these layers (over all if empty).

    KeyError for a finding that is not in the embeddings; HeatmapError for an aspect or a layer that the model does not have,
    and for an output without attention.
    """
    if output.attention is None:
        raise HeatmapError("the output holds no attention: call the model with return_attention=True")
    depth = len(output.attention)
    if missing := [layer for layer in layers if layer not in range(depth)]:
        raise HeatmapError(f"the model has no decoder layer {missing[0]}, only 0 to {depth - 1}")
    for aspect in aspects:
        if aspect not in embeddings.aspects:
            raise HeatmapError(unknown_name("aspect", aspect, embeddings.aspects))
    columns = [embeddings.aspects.index(aspect) for aspect in aspects]
    queries = torch.tensor(
        [[row * len(embeddings.aspects) + column for column in columns] for row in embeddings.index(findings)]
    )
    mass = torch.stack([output.attention[layer][:, queries].float() for layer in layers or range(depth)]).mean(dim=0)
    return mass.unflatten(-1, output.grid.shape[-2:])


def heatmaps(
    output: MAVLOutput,
    embeddings: TextEmbeddings,
    findings: Sequence[str],
    *,
    aspects: Sequence[str] | None = None,
    aggregation: str = "avg",
    layers: Sequence[int] = (),
) -> Tensor:
    """Where each finding is looked for: attention mass [B, len(findings), h, w], float32, from its `used_aspects`.

    Each map sums to 1 (with `max`, to 1 or more). Errors as in `aspect_maps` and `used_aspects`.
    """
    used = used_aspects(embeddings.aspects, aspects, aggregation)
    maps = aspect_maps(output, embeddings, findings, used, layers)
    return maps.amax(dim=2) if aggregation == "max" else maps.mean(dim=2)


def used_aspects(known: Sequence[str], aspects: Sequence[str] | None, aggregation: str) -> tuple[str, ...]:
    """Those of the known aspects that make a map: of a model with one aspect that one, whatever is asked.

    Where none are asked for they are its `default_aspects`.
    HeatmapError for an aggregation other than AGGREGATIONS.
    """
    if aggregation not in AGGREGATIONS:
        raise HeatmapError(unknown_name("aggregation", aggregation, AGGREGATIONS))
    if len(known) == 1:
        return tuple(known)
    if aggregation == "global":
        return (DESCRIPTION,)
    return default_aspects(known) if aspects is None else tuple(aspects)


def default_aspects(known: Sequence[str]) -> tuple[str, ...]:
    """The grounding aspects among those that a model knows, or all that it knows where it has none of them."""
    return tuple(aspect for aspect in GROUNDING_ASPECTS if aspect in known) or tuple(known)


def enlarge(maps: Tensor, size: tuple[int, int], patch_grid: PatchGrid | None = None) -> Tensor:
    """maps [B, F, h, w] -> [B, F, H, W], bilinear between the patches' patch_grid, which are where `patch_grid` says.

    Without them the corner patches' patch_grid are put on the corner pixels, as the release does: that draws the map out,
    by up to half a patch at the borders and more at a convolution's far ones.
    """
    if patch_grid is None:
        return F.interpolate(maps, size, mode="bilinear", align_corners=True)
    lengths = zip(maps.shape[-2:], size, patch_grid.size, strict=True)
    down, across = (_between(*length, patch_grid.first, patch_grid.stride).to(maps) for length in lengths)
    return down @ maps @ across.T


def _between(patches: int, pixels: int, shown: int, first: float, stride: int) -> Tensor:
    """The share [pixels, patches] of each patch in each pixel of a picture of an input `shown` pixels long."""
    place = (torch.arange(pixels, dtype=torch.float64) + 0.5) * shown / pixels - 0.5
    place = ((place - first) / stride).clamp(0, patches - 1)
    return (1 - (place[:, None] - torch.arange(patches)).abs()).clamp(min=0)


def random_map(shape: tuple[int, int], seed: int | Sequence[int]) -> np.ndarray:
    """Uniform noise [h, w], float32, that sums to 1: what a map without any knowledge scores."""
    noise = np.random.default_rng(seed).random(shape)
    return (noise / noise.sum()).astype(np.float32)


def centre_map(shape: tuple[int, int]) -> np.ndarray:
    """A Gaussian [h, w], float32, that sums to 1: what knowing where images tend to have something scores."""
    vertical, horizontal = (
        np.exp(-((((np.arange(length) + 0.5) / length - 0.5) / BLOB_SIGMA) ** 2) / 2) for length in shape
    )
    blob = np.outer(vertical, horizontal)
    return (blob / blob.sum()).astype(np.float32)
