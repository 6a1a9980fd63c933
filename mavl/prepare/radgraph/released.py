"""The released label files (MedKLIP, ICCV 2023) -> the same label file and manifests as from RadGraph's graphs.

The released matrix takes some 7 GB as float64; int8 holds the same numbers.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mavl.config.data import LABELS, MANIFESTS
from mavl.data.labels import LabelStore
from mavl.prepare.radgraph.labels import BATCH, Labelled, Problem
from mavl.prepare.radgraph.manifests import Entry
from mavl.prepare.radgraph.mimic import view_of
from mavl.progress import progress_bar
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

IGNORED = 2
"""A label of the released files; the losses ignore it as they ignore UNKNOWN."""

_IMAGE = re.compile(r"(?:^|/)(p\d\d/p\d+/s\d+/[^/]+)$")


class ReleasedError(ValueError):
    """A released file that is damaged; the message names it."""


def convert(path: Path) -> Iterator[Labelled]:
    """The rows of the released matrix as int8, in order; a value that is no label is reported and becomes unknown.

    ReleasedError where the file is no such matrix, or is cut short.
    """
    try:
        matrix = LabelStore(path).array
    except ValueError as error:
        raise ReleasedError(f"{error}; download it again") from error
    for start in progress_bar(range(0, len(matrix), BATCH), description=path.name, unit="batch"):
        values, problems = matrix[start : start + BATCH], []
        known = np.isin(values, (PRESENT, ABSENT, UNKNOWN, IGNORED))
        for row in np.flatnonzero(~known.all(axis=(1, 2))).tolist():
            strange = values[row][~known[row]]
            detail = f"{len(strange)} values, {strange[0]} the first, are none of 1, 0, -1, 2; replaced by -1"
            problems.append(Problem("value that is no label", f"row {start + row}", detail))
        yield Labelled(np.where(known, values, UNKNOWN).astype(np.int8), [""] * len(values), problems)


def released_entries(
    source: Path, folder: str, views: dict[str, str] | None, rows: int, problems: list[Problem]
) -> Iterator[Entry]:
    """The images of the three released manifests, their paths as in MIMIC-CXR-JPG below `folder`.

    Reported: images whose row does not exist, which are left out; repeated images; paths of another form.
    """
    from mavl.data.samples import examine_manifest  # with pandas, which the processes that label reports do not need

    for split, name in MANIFESTS.items():
        try:
            entries, faults = examine_manifest(source / name, source / LABELS, rows)
        except ValueError as error:
            raise ReleasedError(f"{error}; download it again") from error
        problems += [Problem("faulty entry", name, fault.text) for fault in faults]
        for key, entry in entries.items():
            image = _IMAGE.search(key)
            if image is None:
                problems.append(Problem("path of no MIMIC image", f"{name}: {key}"))
            path = posixpath.join(folder, image[1]) if image else key
            yield path, split, None if views is None else view_of(path, views, problems), entry["labels_id"]
