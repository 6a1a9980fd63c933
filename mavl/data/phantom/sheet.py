"""Contact sheets: phantoms side by side, with their findings' names and outlines."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mavl.data.phantom.report import NORMAL
from mavl.data.phantom.study import FINDINGS, Phantom

HEADLINE = "synthetic phantoms, not patients"
GAP, LINE = 8, 15  # pixels between tiles; height of a line of text


def colour(finding: str) -> tuple[int, int, int]:
    """The finding's own colour (RGB): neighbours in `FINDINGS` are far apart on the wheel."""
    number = FINDINGS.index(finding)
    hue, saturation = number * 0.382 % 1, 0.8 if number < len(FINDINGS) / 2 else 0.4
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, 1.0))


def contact_sheet(phantoms: Sequence[Phantom], columns: int = 4) -> Image.Image:
    """A labelled grid (RGB) of phantoms of one size: under each its findings, each mask outlined in its name's colour.

    Raises ValueError where there are no phantoms or no columns.
    """
    if not phantoms or columns < 1:
        raise ValueError(f"a sheet needs phantoms and columns, got {len(phantoms)} phantoms and {columns} columns")
    columns, side = min(columns, len(phantoms)), len(phantoms[0].image)
    lines = max(1, *(len(phantom.findings) for phantom in phantoms))
    cell, pitch = side + GAP, side + GAP + lines * LINE
    rows = -(-len(phantoms) // columns)
    sheet = Image.new("RGB", (GAP + columns * cell, 2 * LINE + rows * pitch), (18, 18, 20))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=LINE - 3)
    pen.text((GAP, LINE / 2), HEADLINE, fill=(255, 255, 255), font=font)
    for number, phantom in enumerate(phantoms):
        left, top = GAP + number % columns * cell, 2 * LINE + number // columns * pitch
        sheet.paste(outlined(phantom), (left, top))
        names = [name for name in FINDINGS if name in phantom.findings]
        for line, name in enumerate(names or [NORMAL]):
            fill = colour(name) if names else (200, 200, 200)
            pen.text((left + 2, top + side + line * LINE), name, fill=fill, font=font)
    return sheet


def outlined(phantom: Phantom) -> Image.Image:
    """The phantom's image (RGB) with each mask's outline."""
    pixels = np.repeat(phantom.image[:, :, None], 3, axis=2)
    for name, mask in phantom.masks.items():
        inner = np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MinFilter(3)))
        pixels[mask & (inner == 0)] = colour(name)
    return Image.fromarray(pixels)
