"""A heatmap over its radiograph: picture + attention -> colour picture.

Attention is shown as a multiple of that of a uniform map, on one logarithmic scale in all pictures: up to 1× it is
transparent, at STRONGEST and above it has the last colour. The colours are fainter where the probability is low.
"""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mavl.backbones import PatchGrid
from mavl.files import printable
from mavl.model.heatmaps import enlarge

STRONGEST = 8
"""The multiple of a uniform map with the last colour."""

OPACITY, FAINTEST = 0.6, 0.1
"""Of the last colour at a probability of 1, and the least share of it that a low probability leaves."""

LONGEST = 3000
"""Longest side in pixels of a radiograph in an overlay."""

_INK, _PAPER, _FAINT = (240, 240, 240), (16, 18, 20), (165, 170, 175)
_MIN_WIDTH = 360


def blend(
    picture: Image.Image, heatmap: Tensor, patch_grid: PatchGrid | None = None, probability: float = 1.0
) -> Image.Image:
    """picture (mode "L"), heatmap [h, w] of attention mass -> the same size in colour.

    The map covers the whole picture; patch_grid: position of its patches (mavl.model.heatmaps.enlarge); probability: of
    the finding, in proportion to which the colour is opaque.
    """
    relative = enlarge(_relative(heatmap)[None, None], (picture.height, picture.width), patch_grid)[0, 0]
    level = relative.log2_().div_(np.log2(STRONGEST)).clamp_(0, 1).mul_(255).byte().numpy()
    # the square root makes weak colours visible as colours, not as grey
    strongest = 255 * OPACITY * min(max(probability, FAINTEST), 1)
    opacity = (strongest * np.sqrt(np.linspace(0, 1, 256))).round().astype(np.uint8)
    return Image.composite(_coloured(level), picture.convert("RGB"), Image.fromarray(opacity[level]))


def reduced(picture: Image.Image, longest: int) -> Image.Image:
    """The picture, or a smaller copy with sides of at most `longest` pixels."""
    scale = longest / max(picture.size)
    if scale >= 1:
        return picture
    width, height = (max(1, round(scale * side)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


def overlay(
    picture: Image.Image,
    heatmap: Tensor,
    title: str,
    score: str,
    patch_grid: PatchGrid | None = None,
    probability: float = 1.0,
    unit: str = "attention",
) -> Image.Image:
    """The picture with the heatmap, a line of text above, the colour bar to the right, and its unit below.

    The picture is in its own resolution, up to LONGEST pixels. score: text at the right end of the line; unit: what
    the heatmap measures.
    """
    picture = reduced(picture, LONGEST)
    width, height = max(picture.width, _MIN_WIDTH), max(picture.height, _MIN_WIDTH // 2)
    size = min(max(width // 40, 14), 72)
    head, side, foot = round(2.2 * size), round(5 * size), round(1.6 * size)
    canvas = Image.new("RGB", (width + side, height + head + foot), _PAPER)
    corner = ((width - picture.width) // 2, head + (height - picture.height) // 2)
    canvas.paste(blend(picture, heatmap, patch_grid, probability), corner)
    draw = ImageDraw.Draw(canvas)
    line = f"colour: {unit} as a multiple of a uniform map; fainter for a low probability"
    small = _font(int(min(0.8 * size, size * (canvas.width - size) / _font(size).getlength(line))))
    draw.text((size / 2, canvas.height - foot / 2), line, _FAINT, small, anchor="lm")
    font = _font(size)
    room = canvas.width - draw.textlength(score, font) - 2.5 * size
    draw.text((size / 2, head / 2), _shortened(printable(title), font, room), _INK, font, anchor="lm")
    draw.text((canvas.width - size / 2, head / 2), score, _INK, font, anchor="rm")
    _draw_bar(canvas, (width + size // 2, head + size, size, height - 2 * size), _font(round(0.8 * size)))
    return canvas


def _relative(heatmap: Tensor) -> Tensor:
    """Attention mass [h, w] as multiples of a uniform map."""
    heatmap = heatmap.float().cpu()
    return heatmap * (heatmap.numel() / heatmap.sum())


def _draw_bar(canvas: Image.Image, box: tuple[int, int, int, int], font: ImageFont.FreeTypeFont) -> None:
    """Draw the colour bar into box (x, y, width, height), from 1× at the bottom to STRONGEST at the top."""
    x, y, width, height = box
    canvas.paste(_coloured(np.linspace(255, 0, height).round().astype(np.uint8)[:, None].repeat(width, axis=1)), (x, y))
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((x, y, x + width - 1, y + height - 1), outline=_FAINT)
    for doublings in range(round(np.log2(STRONGEST)) + 1):
        level = y + height - doublings / np.log2(STRONGEST) * height
        draw.text((x + width + font.size / 3, level), f"{2**doublings}×", _INK, font, anchor="lm")


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
