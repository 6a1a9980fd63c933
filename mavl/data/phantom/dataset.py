"""Phantoms as files, laid out as a benchmark's images, labels, masks and report graphs are."""

import colorsys
import csv
import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from PIL.PngImagePlugin import PngInfo

from mavl.data.phantom.report import CLEAR, NORMAL
from mavl.data.phantom.study import FINDINGS, Phantom, draw, truth

NOTICE = "synthetic phantom, not a patient"
FIRST_PATIENT, FIRST_STUDY = 10_000_000, 50_000_000
HEADLINE = "synthetic phantoms, not patients"
GAP, LINE = 8, 15  # pixels between tiles; height of a line of text


def study_name(index: int) -> str:
    """The study of an index, which names its image and its report: "s50000007"."""
    return f"s{FIRST_STUDY + index}"


def report_path(index: int) -> str:
    """The key of a study's report graph, in MIMIC-CXR's form: "p10/p10000007/s50000007.txt"."""
    patient = f"p{FIRST_PATIENT + index}"
    return f"{patient[:3]}/{patient}/{study_name(index)}.txt"


def write_dataset(
    folder: Path, split: str, seed: int, indices: Iterable[int], size: int, exclude: Collection[str] = ()
) -> None:
    """Draw the phantoms of a split into a folder, which then holds, with ID = SPLIT/NAME for every index,

    - images/ID.png, whose text chunk says that this is no patient;
    - masks/FINDING/ID.png, 0 or 255, for each finding that is there;
    - SPLIT.csv, a row an image: its ID, one column of 0/1 a finding, then normal and clear: what was drawn;
    - SPLIT_reports.json, RadGraph's format.
    """
    columns, reports = [*FINDINGS, NORMAL, CLEAR], {}
    (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", *columns])
        for index in indices:
            phantom, name = draw(seed, index, size, exclude), f"{split}/{study_name(index)}.png"
            _save(folder / "images" / name, phantom.image)
            for finding, mask in phantom.masks.items():
                _save(folder / "masks" / finding / name, mask.astype(np.uint8) * 255)
            rows.writerow([name.removesuffix(".png"), *truth(phantom, columns).tolist()])
            reports[report_path(index)] = phantom.graph
    (folder / f"{split}_reports.json").write_text(json.dumps(reports, indent=1), encoding="utf-8")


def _save(path: Path, pixels: np.ndarray) -> None:
    notice = PngInfo()
    notice.add_text("Description", NOTICE)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, pnginfo=notice)


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
