"""Random operations on grey pixels uint8 [B, 1, H, W], on any device: RandAugment as released.

One channel is enough: three equal channels would give the same three times. An operation is a code, chosen in a loader
worker and applied there, or later to the whole batch on the GPU: the code without its sign is a position in
OPERATIONS, its sign the direction, and 0 does nothing.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Level 7 of 10 in the released augmentation.
ENHANCE_FACTOR = 1.36
SHEAR = 0.21
TRANSLATE_PIXELS = 7
ROTATE_DEGREES = 21.0
FILL = 128

LEVELS = 256


def draw_operations(generator: np.random.Generator) -> np.ndarray:
    """codes int8 [2]: two random operations of OPERATIONS, with replacement, each applied with probability 0.5."""
    which, sign, applied = generator.random((2, 3)).T
    codes = (which * len(OPERATIONS)).astype(np.int8) * np.where(sign < 0.5, 1, -1)
    return np.where(applied < 0.5, codes, 0).astype(np.int8)


def apply_operations(pixels: Tensor, codes: Tensor) -> Tensor:
    """pixels uint8 [B, 1, H, W], codes int8 [B, 2] on the CPU -> uint8 [B, 1, H, W].

    The images of a batch that take the same operation take it together.
    """
    operations = list(OPERATIONS.values())
    for column in codes.T.tolist():
        for code in set(column) - {0}:
            rows = [row for row, other in enumerate(column) if other == code]
            apply, sign = operations[abs(code)], 1 if code > 0 else -1
            if len(rows) == len(pixels):  # a single image in a loader worker: no copies
                pixels = apply(pixels, sign)
                continue
            places = torch.tensor(rows).to(pixels.device, non_blocking=True)
            pixels = pixels.index_copy(0, places, apply(pixels[places], sign))
    return pixels


def _places(pixels: Tensor) -> Tensor:
    """pixels [B, 1, H, W] -> int32 [B * H * W], each value's place in tables [B, 256] laid end to end."""
    first = torch.arange(0, len(pixels) * LEVELS, LEVELS, dtype=torch.int32, device=pixels.device)
    return (pixels.flatten(1) + first[:, None]).flatten()


def _look_up(pixels: Tensor, tables: Tensor) -> Tensor:
    """Each image's values replaced by those of its own table, tables [B, 256] of any numbers within 0..255."""
    return tables.to(torch.uint8).flatten().index_select(0, _places(pixels)).view_as(pixels)


def _levels(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.arange(LEVELS, dtype=dtype, device=pixels.device)


def _autocontrast(pixels: Tensor, sign: int) -> Tensor:
    """Each image's least value to 0 and its greatest to 255, the fraction cut off as by Pillow."""
    flat = pixels.flatten(1)
    low, high = flat.amin(1, keepdim=True).double(), flat.amax(1, keepdim=True).double()
    span = (high - low).clamp(min=1)
    scale = torch.full_like(span, 255) / span  # of a plain 255 torch would multiply by the reciprocal
    stretched = (_levels(pixels, torch.float64) * scale - low * scale).clamp(0, 255)
    return _look_up(pixels, torch.where(high > low, stretched, _levels(pixels, torch.float64)))


def _equalize(pixels: Tensor, sign: int) -> Tensor:
    """An even histogram as Pillow has it: the number of the brightest pixels is left out of the step."""
    flat = pixels.flatten(1)
    counts = torch.zeros(len(pixels), LEVELS, dtype=torch.int64, device=pixels.device)
    counts.scatter_add_(1, flat.long(), counts.new_ones(()).expand(flat.shape))  # bincount would wait for the device
    brightest = counts.gather(1, flat.amax(1, keepdim=True).long())
    step = (flat.shape[1] - brightest) // 255
    below = counts.cumsum(1) - counts
    even = ((step // 2 + below) // step.clamp(min=1)).clamp(max=255)
    return _look_up(pixels, torch.where(step > 0, even, _levels(pixels, torch.int64)))


def _brightness(pixels: Tensor, sign: int) -> Tensor:
    table = (ENHANCE_FACTOR * _levels(pixels, torch.float32)).clamp(max=255)
    return _look_up(pixels, table.expand(len(pixels), -1))


def _sharpness(pixels: Tensor, sign: int) -> Tensor:
    """1.36 times as far from the smoothed image as the image is; its outermost pixels stay, as Pillow has it."""
    whole = pixels.short()
    inner = whole[..., 1:-1, 1:-1]
    rows = whole[..., :-2, :] + whole[..., 1:-1, :] + whole[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner  # the weights 1 1 1, 1 5 1, 1 1 1
    smooth = torch.floor(total / 13 + 0.5)
    sharpened = pixels.clone()
    sharpened[..., 1:-1, 1:-1] = (smooth + ENHANCE_FACTOR * (inner - smooth)).clamp_(0, 255)
    return sharpened


def _shift(pixels: Tensor, dimension: int, sign: int) -> Tensor:
    """Moved by whole pixels, without interpolation."""
    kept = pixels.shape[dimension] - TRANSLATE_PIXELS
    moved = torch.full_like(pixels, FILL)
    if kept > 0:
        source, target = (0, TRANSLATE_PIXELS) if sign > 0 else (TRANSLATE_PIXELS, 0)
        moved.narrow(dimension, target, kept).copy_(pixels.narrow(dimension, source, kept))
    return moved


def _turn(pixels: Tensor, matrix: tuple[float, ...], centred: bool) -> Tensor:
    """Bilinear; `matrix` (row by row) maps a place in the result to its place in the image.

    centred: places count from pixel (width / 2, height / 2), else from the first one.
    """
    grid = _grid(matrix, centred, *pixels.shape[-2:], pixels.device).expand(len(pixels), -1, -1, -1)
    # outside lies FILL, and pixels at the border are blended with it, as OpenCV does
    return (F.grid_sample(pixels.float() - FILL, grid, align_corners=False) + FILL).round_().to(torch.uint8)


@lru_cache(maxsize=32)
def _grid(matrix: tuple[float, ...], centred: bool, height: int, width: int, device: torch.device) -> Tensor:
    """The place of every pixel, [1, H, W, 2] in grid_sample's units.

    The operations have fixed angles, so that there are six of these for a size.
    """
    size = np.array([width, height])
    fixed = size / 2 if centred else np.zeros(2)  # as released, half a pixel past the centre
    place = (np.mgrid[:height, :width].transpose(1, 2, 0)[..., ::-1] - fixed) @ np.reshape(matrix, (2, 2)).T + fixed
    return torch.from_numpy((place[None] + 0.5) * 2 / size - 1).float().to(device, non_blocking=True)


def _rotate(pixels: Tensor, sign: int) -> Tensor:
    """About the centre, clockwise for the sign 1."""
    angle = math.radians(sign * ROTATE_DEGREES)
    cos, sin = math.cos(angle), math.sin(angle)
    return _turn(pixels, (cos, sin, -sin, cos), centred=True)


OPERATIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "identity": lambda pixels, sign: pixels,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": lambda pixels, sign: _turn(pixels, (1, sign * SHEAR, 0, 1), centred=False),  # about the first row
    "shear_y": lambda pixels, sign: _turn(pixels, (1, 0, sign * SHEAR, 1), centred=False),
    "translate_x": lambda pixels, sign: _shift(pixels, -1, sign),
    "translate_y": lambda pixels, sign: _shift(pixels, -2, sign),
    "rotate": _rotate,
}
"""Each takes pixels [B, 1, H, W] and a sign."""
