"""Phantoms as files, laid out as a benchmark's images, labels, masks and report graphs are."""

import csv
import json
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mavl.data.phantom.report import CLEAR, NORMAL
from mavl.data.phantom.study import FINDINGS, draw, truth

NOTICE = "synthetic phantom, not a patient"
FIRST_PATIENT, FIRST_STUDY = 10_000_000, 50_000_000


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
