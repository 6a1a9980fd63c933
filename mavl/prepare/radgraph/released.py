"""The released label files (SPEC §7) -> the same label store and manifests as from RadGraph's graphs.

The published matrix is some 7 GB of float64; its numbers fit in int8.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mavl.prepare.problems import Problem
from mavl.prepare.radgraph.graphs import SHAPE
from mavl.prepare.radgraph.json_parts import Part, cut, members
from mavl.prepare.radgraph.labels import LABELS, Labelled
from mavl.prepare.radgraph.manifests import MANIFESTS, Pair
from mavl.prepare.radgraph.mimic import Report, Views
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

ENTRIES = 1024  # of a manifest, held at a time
IGNORED = 2  # is in the released files, and ignored by the losses as UNKNOWN is

_IMAGE = re.compile(r"(?:^|/)(p\d\d/p\d+/s\d+/[^/]+)$")


class ReleasedError(ValueError):
    """A released file that is missing or damaged; the message names it."""


def check_there(folder: Path) -> None:
    """ReleasedError where one of the files is missing."""
    for name in (LABELS, *MANIFESTS.values()):
        if not (folder / name).is_file():
            fix = f"--released is the folder of {LABELS} and the three manifests"
            raise ReleasedError(f"{folder / name}: no such file; {fix}")


def matrix_parts(path: Path, size: int) -> Iterator[Part]:
    """The matrix file in parts of `size` rows. ReleasedError where it is none, or is cut short."""
    rows, dtype, start = _layout(path)
    row_bytes, stamp = SHAPE[0] * SHAPE[1] * dtype.itemsize, path.stat()
    if stamp.st_size < start + rows * row_bytes:
        raise ReleasedError(f"{path}: is cut short ({stamp.st_size:,} of {start + rows * row_bytes:,} bytes)")
    for number, first in enumerate(range(0, rows, size)):
        count = min(size, rows - first)
        begin = start + first * row_bytes
        yield Part(number, begin, begin + count * row_bytes, first, count, f"{stamp.st_size} {stamp.st_mtime_ns}")


def convert(source: Path, part: Part) -> Labelled:
    """A part's rows as int8; what is no label is reported and becomes unknown."""
    _, dtype, _ = _layout(source)
    values = np.fromfile(source, dtype, part.rows * SHAPE[0] * SHAPE[1], offset=part.start).reshape(part.rows, *SHAPE)
    known = np.isin(values, (PRESENT, ABSENT, UNKNOWN, IGNORED))
    problems = []
    for row in np.flatnonzero(~known.all(axis=(1, 2))).tolist():
        strange = values[row][~known[row]]
        detail = f"{len(strange)} values, {strange[0]} the first, are none of 1, 0, -1, 2; taken for -1"
        problems.append(Problem("value that is no label", detail, f"row {part.first_row + row}"))
    return Labelled(np.where(known, values, UNKNOWN).astype(np.int8), [0] * part.rows, problems)


def released_pairs(source: Path, folder: str, views: Views | None, rows: int, report: Report) -> Iterator[Pair]:
    """The images of the three released manifests, their paths as in MIMIC-CXR-JPG below `folder`.

    Reported: entries without a row that there is, paths of another form (kept as they are), rows without an image.
    """
    shown = np.zeros(rows, dtype=bool)
    for split, name in MANIFESTS.items():
        manifest = source / name
        for key, entry in _entries(manifest):
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


def _entries(manifest: Path) -> Iterator[tuple[str, object]]:
    for part in cut(manifest, ENTRIES):
        yield from members(manifest, part)


def _layout(path: Path) -> tuple[int, np.dtype, int]:
    """Rows, type of number, and the byte at which they begin."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            start = file.tell()
    except ValueError as error:
        raise ReleasedError(f"{path}: not an NPY file of numbers ({error})") from error
    if len(shape) != 3 or shape[1:] != SHAPE or fortran or dtype.kind not in "iuf":
        expected = f"[studies, {SHAPE[0]}, {SHAPE[1]}] of numbers, row by row"
        raise ReleasedError(f"{path}: {dtype} {shape}{' by columns' if fortran else ''}, expected {expected}")
    return shape[0], dtype, start
