"""The released label files (SPEC §7) -> the same label file and manifests as from RadGraph's graphs.

The released matrix takes some 7 GB as float64; int8 holds the same numbers.
"""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from mavl.data.labels import LabelStore
from mavl.prepare.problems import Problem, Report
from mavl.prepare.processes import work_through
from mavl.prepare.radgraph.labels import BATCH, Labelled
from mavl.prepare.radgraph.manifests import MANIFESTS, Pair
from mavl.prepare.radgraph.mimic import Views
from mavl.prepare.radgraph.reading import members
from mavl.progress import progress_bar
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

IGNORED = 2  # occurs in the released files; the losses ignore it as they ignore UNKNOWN

_IMAGE = re.compile(r"(?:^|/)(p\d\d/p\d+/s\d+/[^/]+)$")


class ReleasedError(ValueError):
    """A released file that is damaged; the message names it."""


def convert(path: Path, workers: int) -> Iterator[Labelled]:
    """The rows of the released matrix as int8, in order. ReleasedError where the file is none, or is cut short."""
    starts = range(0, len(_matrix(path)), BATCH)
    return work_through(partial(_convert, path), progress_bar(starts, description=path.name, unit="batch"), workers)


def _convert(path: Path, start: int) -> Labelled:
    """The rows from `start` on; a value that is no label is reported and becomes unknown."""
    values = _matrix(path)[start : start + BATCH]
    known = np.isin(values, (PRESENT, ABSENT, UNKNOWN, IGNORED))
    problems = []
    for row in np.flatnonzero(~known.all(axis=(1, 2))).tolist():
        strange = values[row][~known[row]]
        detail = f"{len(strange)} values, {strange[0]} the first, are none of 1, 0, -1, 2; replaced by -1"
        problems.append(Problem("value that is no label", detail, f"row {start + row}"))
    return Labelled(np.where(known, values, UNKNOWN).astype(np.int8), [0] * len(values), problems)


def _matrix(path: Path) -> np.ndarray:
    """A memory map."""
    try:
        return LabelStore(path).array
    except ValueError as error:
        raise ReleasedError(f"{error}; download it again") from error


def released_pairs(source: Path, folder: str, views: Views | None, rows: int, report: Report) -> Iterator[Pair]:
    """The images of the three released manifests, their paths as in MIMIC-CXR-JPG below `folder`.

    Reported: images whose row does not exist, paths of another form (they are kept), rows without an image.
    """
    shown = np.zeros(rows, dtype=bool)
    for split, name in MANIFESTS.items():
        for key, text in members(source / name):
            entry = json.loads(text)
            row = entry.get("labels_id") if isinstance(entry, dict) else None
            if not isinstance(row, int) or not 0 <= row < rows:
                report(Problem("image without labels", f"labels_id {row!r} of {rows} rows; left out", f"{name}: {key}"))
                continue
            shown[row] = True
            image = _IMAGE.search(key)
            if image is None:
                report(Problem("path of no MIMIC image", "", f"{name}: {key}"))
            path = "/".join(filter(None, (folder, image[1]))) if image else key
            view = views.of(Path(path).stem) if views else None
            if views and view is None:
                report(Problem("image without metadata", "it has no view", path))
            yield Pair(path, split, view, row)
    for row in np.flatnonzero(~shown).tolist():
        report(Problem("graph without images", "", f"row {row}"))
