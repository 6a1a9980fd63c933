"""Phantoms as files: a data set with images, labels, masks and report graphs, and a contact sheet to look at."""

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
    """The name of the study of an index, of its image and of its report: "s50000007"."""
    return f"s{FIRST_STUDY + index}"


def report_path(index: int) -> str:
    """The key of the report graph of a study, as in MIMIC-CXR: "p10/p10000007/s50000007.txt"."""
    patient = f"p{FIRST_PATIENT + index}"
    return f"{patient[:3]}/{patient}/{study_name(index)}.txt"


def write_dataset(
    folder: Path, split: str, seed: int, indices: Iterable[int], size: int, exclude: Collection[str] = ()
) -> None:
    """Write the phantoms of a split to a folder, which then holds, with ID = SPLIT/NAME for every index,

    - images/ID.png, with a text chunk that says that it shows no patient;
    - masks/FINDING/ID.png, 0 or 255, for each finding that is present;
    - SPLIT.csv, a row for each image: its ID, 0 or 1 for each finding, for normal and for clear, as in `truth`;
    - SPLIT_reports.json, in the format of RadGraph.

    Masks of the same images by a former call are removed.
    """
    columns, reports = [*FINDINGS, NORMAL, CLEAR], {}
    (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    with open(folder / f"{split}.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", *columns])
        for index in indices:
            phantom, name = draw(seed, index, size, exclude), f"{split}/{study_name(index)}.png"
            _save(folder / "images" / name, phantom.image)
            for finding in FINDINGS:
                if finding in phantom.masks:
                    _save(folder / "masks" / finding / name, phantom.masks[finding].astype(np.uint8) * 255)
                else:
                    (folder / "masks" / finding / name).unlink(missing_ok=True)
            rows.writerow([name.removesuffix(".png"), *truth(phantom, columns).tolist()])
            reports[report_path(index)] = phantom.graph
    (folder / f"{split}_reports.json").write_text(json.dumps(reports, indent=1), encoding="utf-8")


def _save(path: Path, pixels: np.ndarray) -> None:
    notice = PngInfo()
    notice.add_text("Description", NOTICE)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, pnginfo=notice)


def colour(finding: str) -> tuple[int, int, int]:
    """The colour (RGB) of a finding; neighbours in `FINDINGS` have very different hues."""
    number = FINDINGS.index(finding)
    hue, saturation = number * 0.382 % 1, 0.8 if number < len(FINDINGS) / 2 else 0.4
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, 1.0))
    return red, green, blue


def contact_sheet(phantoms: Sequence[Phantom], columns: int = 4) -> Image.Image:
    """A grid (RGB) of phantoms of one size: each with its masks outlined, and its findings below in the same colours.

    Raises ValueError for no phantoms or no columns.
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
    """The image (RGB) of a phantom with the outline of each mask."""
    pixels = np.repeat(phantom.image[:, :, None], 3, axis=2)
    for name, mask in phantom.masks.items():
        inner = np.asarray(Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MinFilter(3)))
        pixels[mask & (inner == 0)] = colour(name)
    return Image.fromarray(pixels)
