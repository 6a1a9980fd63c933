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
    folder: Path | str, seed: int, indices: Iterable[int], size: int, exclude: Collection[str] = ()
) -> Path:
    """Draw phantoms into a folder and return it. It then holds, for every index,

    - images/NAME.png, whose text chunk says that this is no patient;
    - masks/FINDING/NAME.png, 0 or 255, for each finding that is there;
    - a row of labels.csv: image, one column of 0/1 a finding, then normal and clear: what was drawn;
    - an entry of reports.json, RadGraph's format.
    """
    folder, columns, reports = Path(folder), [*FINDINGS, NORMAL, CLEAR], {}
    notice = PngInfo()
    notice.add_text("Description", NOTICE)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", *columns])
        for index in indices:
            phantom, name = draw(seed, index, size, exclude), study_name(index)
            Image.fromarray(phantom.image).save(folder / "images" / f"{name}.png", pnginfo=notice)
            for finding, mask in phantom.masks.items():
                path = folder / "masks" / finding / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(path, pnginfo=notice)
            rows.writerow([f"images/{name}.png", *truth(phantom, columns).tolist()])
            reports[report_path(index)] = phantom.graph
    (folder / "reports.json").write_text(json.dumps(reports, indent=1), encoding="utf-8")
    return folder
