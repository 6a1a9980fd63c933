"""A benchmark's lists, read to their end whatever is wrong with them: images, labels, patients, masks, views.

`read_split` refuses a list with a fault; here each fault is put down, and what can still be told
goes on.
"""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mavl.data.benchmarks.benchmark import Benchmark, labels_from_table, name_groups, name_images, row_masks, split_file
from mavl.data.benchmarks.masks import BoxRows, Mask, RegionMasks, unite
from mavl.data.benchmarks.splits import MissingSplitError, Split
from mavl.data.benchmarks.tables import BenchmarkError, Table, read_table
from mavl.prepare.doctor.report import Found
from mavl.vocab import UNKNOWN

VIEW_COLUMNS = ("frontallateral", "viewposition", "view", "projection")
"""Where lists say how a film was taken, in small letters without what is no letter."""

OUTSIDE = 1.0
"""Pixels that a box may reach out of its frame, which are rounding."""


@dataclass(frozen=True)
class Listed:
    """A split, and the view that its list tells of each image ("" where it tells none).

    by_mask: whether the labels are still to be told, by the mask files: present where they are not empty.
    """

    split: Split
    views: list[str]
    by_mask: bool = False


def read_listed(
    benchmark: Benchmark, name: str, root: Path | None, found: Found, optional: bool = False
) -> Listed | None:
    """One split of a benchmark; None where there is nothing to be had of it, or it is optional and not there."""
    try:
        file = split_file(benchmark, name, root)
        table = read_table(file, benchmark.table)
        root = Path(root or benchmark.root)
        views = _views(table)
        before = len(table)
        with _noting(table, found, "missing_image" if "*" in benchmark.images.path else "bad_row"):
            table, ids, names = name_images(benchmark.images, table, root)
    except MissingSplitError as error:
        if not optional:
            found.add("missing_path", str(error))
        return None
    except BenchmarkError as error:
        found.add_all("split_file", [f"{file.name}: {problem}" for problem in error.problems])
        return None
    except _Hopeless:
        return None
    if len(table) != before:  # a pattern names several images a row
        views = [""] * len(table)
    kept = np.flatnonzero((names != "") & (ids != ""))
    table, ids, names = table.take(kept), ids.iloc[kept].reset_index(drop=True), names.iloc[kept].reset_index(drop=True)
    return _listed(benchmark, name, root, found, table, ids, names, [views[row] for row in kept]) if len(kept) else None


class _Hopeless(Exception):
    """What is wrong was put down, and keeps the rest from being read."""


@contextmanager
def _noting(table: Table, found: Found, kind: str, needed: bool = True, but: Collection[int] = ()) -> Iterator[None]:
    """Put the problems of rows that come up inside down as `kind`, except those of the lines in `but`.

    Missing columns end it: by _Hopeless where they are needed, else quietly.
    """
    before = len(table.problems)
    try:
        yield
    except BenchmarkError as error:
        if len(table.problems) == before:
            found.add_all("column", [f"{table.file.name}: {problem}" for problem in error.problems])
        if needed:
            raise _Hopeless from error
    finally:
        for line, text in table.problems[before:]:
            if line not in but:
                found.add(kind, f"{table.file.name}:{line}: {text}")


def _listed(
    benchmark: Benchmark,
    name: str,
    root: Path,
    found: Found,
    table: Table,
    ids: pd.Series,
    names: pd.Series,
    views: list[str],
) -> Listed:
    """The rows with an image as a split: labels, patients and masks of what the columns tell."""
    first = np.flatnonzero(~names.duplicated())
    origin = first[pd.factorize(names)[0]]
    labels = groups = masks = None
    by_mask = benchmark.labels.kind == "mask"
    with _noting(table, found, "label_value" if benchmark.labels.kind == "columns" else "bad_row", needed=False):
        labels = labels_from_table(benchmark, table, names)
    if labels is None:
        labels = np.full((len(table), len(benchmark.findings)), UNKNOWN, dtype=np.int8)
    with _noting(table, found, "bad_row", needed=False):
        groups = None if benchmark.groups is None else name_groups(benchmark.groups, table, names)
    outside = _boxes_outside(benchmark, table, found)
    kind = "bad_region" if isinstance(benchmark.masks, RegionMasks | BoxRows) else "missing_mask"
    before = len(table.problems)
    with _noting(table, found, kind, needed=False, but=outside):
        masks = row_masks(benchmark, table, ids, root, None if by_mask else labels)
    unclear = np.isin(table.lines, [line for line, _ in table.problems[before:]])
    _repeated(benchmark, table, names, origin, None if by_mask else labels, found)
    masks = {finding: _of_images(of_rows, unclear, origin, first) for finding, of_rows in (masks or {}).items()}
    split = Split(
        name=name,
        findings=benchmark.findings,
        paths=[root / names[row] for row in first],
        labels=labels[first],
        groups=None if groups is None else [groups[row] if isinstance(groups[row], str) else "" for row in first],
        rows=[table.place(row) for row in first],
        masks=masks or None,
    )
    return Listed(split, [views[row] for row in first], by_mask)


def _of_images(
    of_rows: list[Mask | None], unclear: np.ndarray, origin: np.ndarray, first: np.ndarray
) -> list[Mask | None]:
    """The masks of rows as those of images, which several rows may name; None where the mask is unclear."""
    masks = [None if unclear[row] else mask for row, mask in enumerate(of_rows)]
    for row in np.flatnonzero(origin != np.arange(len(origin))):
        masks[origin[row]] = unite(masks[origin[row]], masks[row])
    return [masks[row] for row in first]


def _repeated(
    benchmark: Benchmark, table: Table, names: pd.Series, origin: np.ndarray, labels: np.ndarray | None, found: Found
) -> None:
    """Images that several rows name: with other labels, or at all, where a row is not a part of the image's mask."""
    for row in np.flatnonzero(origin != np.arange(len(origin))):
        line = f"{table.place(row)}: {names[row]} was named in {table.place(origin[row])}"
        if labels is not None and (labels[row] != labels[origin[row]]).any():
            found.add("label_conflict", f"{line}, with other labels")
        elif not isinstance(benchmark.masks, RegionMasks | BoxRows):
            found.add("repeated_row", line)


def _boxes_outside(benchmark: Benchmark, table: Table, found: Found) -> set[int]:
    """Put boxes that reach out of their frame down; the lines where they stand."""
    settings = benchmark.masks
    if isinstance(settings, BoxRows):
        columns, parse = settings.columns, lambda cells: [cells]
    elif isinstance(settings, RegionMasks) and settings.kind == "boxes":
        columns, parse = [settings.column], lambda cells: [box.split(";") for box in cells[0].split("|")]
    else:
        return set()
    try:
        rows = list(zip(*table.columns(columns), strict=True))
    except BenchmarkError:
        return set()  # told when the masks are read
    (height, width), lines = settings.size, set()
    for row, cells in enumerate(rows):
        for box in parse(cells):
            try:
                x, y, w, h = map(float, box)
            except ValueError:
                continue
            if x < -OUTSIDE or y < -OUTSIDE or x + w > width + OUTSIDE or y + h > height + OUTSIDE:
                text = f"box {';'.join(box)} (x;y;w;h) in a frame of {width} x {height}"
                found.add("box_outside", f"{table.place(row)}: {text}")
                lines.add(int(table.lines[row]))
    return lines


def _views(table: Table) -> list[str]:
    """What the column of the view says in each row."""
    columns = {re.sub("[^a-z]", "", str(name).lower()): name for name in table.cells.columns}
    column = next((columns[name] for name in VIEW_COLUMNS if name in columns), None)
    return [""] * len(table) if column is None else table.cells[column].tolist()
