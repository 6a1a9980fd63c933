"""A heatmap over its radiograph: picture + attention -> colour picture.

Attention is shown as a multiple of that of a uniform map. Values up to 1x are transparent. The scale ends at the
maximum of the map, but never below MIN_SCALE, so that a nearly uniform map has weak colours.
"""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mavl.backbones import PatchGrid
from mavl.model.heatmaps import enlarge

MIN_SCALE = 2.0
OPACITY = 0.6

_INK, _PAPER, _FAINT = (240, 240, 240), (16, 18, 20), (165, 170, 175)
_MIN_WIDTH = 360


def blend(
    picture: Image.Image, heatmap: Tensor, patch_grid: PatchGrid | None = None, scale: float | None = None
) -> Image.Image:
    """picture (mode "L"), heatmap [h, w] of attention mass -> the same size in colour.

    The map covers the whole picture; patch_grid: position of its patches (mavl.model.heatmaps.enlarge); scale: the
    multiple of a uniform map with the strongest colour (`colour_scale` of the map if omitted).
    """
    relative = enlarge(_relative(heatmap)[None, None], (picture.height, picture.width), patch_grid)[0, 0]
    level = (relative - 1).div_((scale or colour_scale(heatmap)) - 1).clamp_(0, 1).mul_(255).byte().numpy()
    # the square root makes weak colours visible as colours, not as grey
    opacity = (255 * OPACITY * np.sqrt(np.linspace(0, 1, 256))).round().astype(np.uint8)
    return Image.composite(_coloured(level), picture.convert("RGB"), Image.fromarray(opacity[level]))


def colour_scale(heatmap: Tensor) -> float:
    """The multiple of a uniform map at the upper end of the colour bar."""
    return max(MIN_SCALE, _relative(heatmap).max().item())


def overlay(
    picture: Image.Image, heatmap: Tensor, title: str, score: str, patch_grid: PatchGrid | None = None
) -> Image.Image:
    """The picture in its own resolution with the heatmap, a line of text above and the colour bar to the right."""
    scale = colour_scale(heatmap)
    width, height = max(picture.width, _MIN_WIDTH), max(picture.height, _MIN_WIDTH // 2)
    size = min(max(width // 40, 14), 72)
    head, side = round(2.2 * size), round(5 * size)
    canvas = Image.new("RGB", (width + side, height + head), _PAPER)
    corner = ((width - picture.width) // 2, head + (height - picture.height) // 2)
    canvas.paste(blend(picture, heatmap, patch_grid, scale), corner)
    draw = ImageDraw.Draw(canvas)
    font = _font(size)
    room = canvas.width - draw.textlength(score, font) - 2.5 * size
    draw.text((size / 2, head / 2), _shortened(title, font, room), _INK, font, anchor="lm")
    draw.text((canvas.width - size / 2, head / 2), score, _INK, font, anchor="rm")
    _draw_bar(canvas, (width + size // 2, head + size, size, height - 2 * size), scale, _font(round(0.8 * size)))
    return canvas


def _relative(heatmap: Tensor) -> Tensor:
    """Attention mass [h, w] as multiples of a uniform map."""
    heatmap = heatmap.float().cpu()
    return heatmap * (heatmap.numel() / heatmap.sum())


def _draw_bar(canvas: Image.Image, box: tuple[int, int, int, int], scale: float, font: ImageFont.FreeTypeFont) -> None:
    """Draw the colour bar into box (x, y, width, height), from 1x at the bottom to `scale` at the top."""
    x, y, width, height = box
    canvas.paste(_coloured(np.linspace(255, 0, height).round().astype(np.uint8)[:, None].repeat(width, axis=1)), (x, y))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((x, y, x + width - 1, y + height - 1), outline=_FAINT)
    for value in np.linspace(1, scale, 4):
        level = y + height - (value - 1) / (scale - 1) * height
        draw.text((x + width + font.size / 3, level), f"{value:.1f}×", _INK, font, anchor="lm")


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """As much of the text as fits, with an ellipsis if it is not all."""
    if font.getlength(text) <= room:
        return text
    return next((f"{text[:n]}…" for n in range(len(text), 0, -1) if font.getlength(f"{text[:n]}…") <= room), "…")


def _coloured(level: np.ndarray) -> Image.Image:
    """The colours of levels, uint8 [H, W]."""
    image = Image.fromarray(level, "P")
    image.putpalette(palette().tobytes())
    return image.convert("RGB")


@cache
def palette() -> np.ndarray:
    """The colours of the levels, uint8 [256, 3]."""
    from matplotlib import colormaps

    return (colormaps["plasma"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which is part of matplotlib and has letters of many scripts for the names of findings."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
