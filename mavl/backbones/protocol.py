"""The interface of image encoders: images -> a grid of patches.

Letters in shapes: B images, C channels, h × w the grid, H × W the input.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from mavl.backbones.preprocessing import Preprocessing


class BackboneError(ValueError):
    """A backbone that does not exist, or weights that do not fit it."""


class Backbone(Protocol):
    """An image encoder: an nn.Module called with images [B, 3, H, W], normalised by its `preprocessing`.

    It returns (grid [B, C, h, w], class token [B, C]); the class token is None where `has_class_token` is False.

    channels: C. stride: input pixels of one grid cell. offset: input pixel on which the first cell is centred: 0 for a
    padded convolution, (stride - 1) / 2 for a patch. preprocessing: how an image becomes its input. weights: the module
    whose state dict has the parameter names of the backbone's library. blocks: its repeated modules, in
    the order in which a tensor passes through them; mavl.backbones.checkpointing can make each keep its input alone.
    """

    channels: int
    stride: int
    offset: float
    has_class_token: bool
    preprocessing: Preprocessing

    @property
    def weights(self) -> torch.nn.Module: ...

    @property
    def blocks(self) -> Sequence[torch.nn.Module]: ...

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]: ...


def check_side(image_size: int, stride: int, name: str) -> None:
    """BackboneError for a side in pixels that the stride does not divide, with the two nearest ones that it does."""
    if image_size % stride:
        below = max(1, image_size // stride) * stride
        raise BackboneError(
            f"{name}: image_size {image_size} is no multiple of its stride {stride}: set it to {below} or "
            f"{(image_size // stride + 1) * stride}"
        )


def check_sides(size: tuple[int, int], stride: int) -> None:
    """BackboneError for an input that the stride does not divide, whose last pixels would be cut off unseen."""
    if size[0] % stride or size[1] % stride:
        raise BackboneError(
            f"an image of {size[0]} × {size[1]} pixels, sides that the stride {stride} of the backbone does not "
            f"divide: resize or pad it to a multiple of {stride}"
        )


@dataclass(frozen=True)
class PatchGrid:
    """The positions of a grid's patches: patch i, down or across, is centred on input pixel `offset` + i · `stride`.

    size: height and width of the input in pixels.
    """

    offset: float
    stride: int
    size: tuple[int, int]


def patch_grid(backbone: Backbone, size: tuple[int, int]) -> PatchGrid:
    """The PatchGrid of a backbone for inputs of this height and width."""
    return PatchGrid(backbone.offset, backbone.stride, size)


def interpolate_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """Position embeddings [1 + n·n, C], the first for the class token -> [1 + h·w, C] for a grid of `size` (h, w)."""
    side = math.isqrt(positions.shape[0] - 1)
    if size == (side, side):
        return positions
    token, grid = positions[:1], positions[1:]
    grid = grid.unflatten(0, (side, side)).movedim(-1, 0)[None]
    grid = F.interpolate(grid, size, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([token, grid[0].flatten(1).T])
