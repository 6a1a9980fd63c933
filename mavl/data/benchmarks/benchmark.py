"""A benchmark is a YAML file: the split files of a data set, and how to read images, labels and masks from them.

benchmark = load(Benchmark, "configs/benchmarks/rsna.yaml")
test = read_split(benchmark, "test", root=Path("data/rsna"))
test.paths[0], test.labels[0], test.mask(0)
"""

import operator
import re
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from mavl.config.loader import Settings
from mavl.data import DataError, notice
from mavl.data.benchmarks.images import Groups, ImageNames
from mavl.data.benchmarks.joins import ListFormat, read_list
from mavl.data.benchmarks.labels import ColumnLabels, ListLabels, MaskLabels, PathLabels, RowLabels
from mavl.data.benchmarks.masks import Mask
from mavl.data.benchmarks.metadata import Attribute
from mavl.data.benchmarks.regions import BoxRows, FileMasks, FindingRows, MaskRows, RegionMasks, ShapeRows
from mavl.data.benchmarks.rows import BenchmarkError, Problem, raise_problems
from mavl.data.benchmarks.splits import MissingSplitError, Split
from mavl.data.benchmarks.tables import SplitName, Table
from mavl.vocab import ABSENT, unknown_name

VIEW_COLUMNS = ("frontallateral", "viewposition", "view", "projection")
"""Columns that give the projection of an image, by the small letters of their names."""


class Benchmark(Settings):
    """Split files under `root`, findings (of the pre-training vocabulary or not), and how images are preprocessed.

    version: of the lists and of how they are read; results of two versions are not compared. collection: of images that
    several benchmarks may share, such as ChestX-ray14. metadata: attributes by which results are split up. drawn:
    whether the images are phantoms, not films of patients. any_of: findings that a model is asked as several others,
    the largest of whose scores counts: {nodule or mass: [nodule, mass]}.
    """

    name: str
    title: str
    citation: str = ""
    version: PositiveInt = 1
    collection: str = ""
    drawn: bool = False
    root: Path | None = None
    findings: tuple[str, ...] = Field(min_length=1)
    any_of: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    splits: dict[SplitName, str] = Field(min_length=1)
    interpolation: Literal["bilinear", "bicubic"] | None = None
    equalize: bool = False
    table: ListFormat = ListFormat()
    images: ImageNames = ImageNames()
    groups: Groups | None = None
    labels: Annotated[ColumnLabels | ListLabels | RowLabels | PathLabels | MaskLabels, Field(discriminator="kind")]
    masks: Annotated[RegionMasks | BoxRows | ShapeRows | FileMasks, Field(discriminator="kind")] | None = None
    metadata: dict[str, Attribute] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        labels, masks, several = self.labels, self.masks, len(self.findings) > 1
        by_finding = isinstance(masks, FindingRows) or (isinstance(masks, FileMasks) and masks.by_finding)
        if twice := sorted({finding for finding in self.findings if self.findings.count(finding) > 1}):
            raise ValueError(f"findings are named twice: {', '.join(twice)}")
        by_split = {f"table.where.{column}": of for column, of in self.table.where.items()}
        for key, of_split in (by_split | {"images.path": self.images.path}).items():
            if isinstance(of_split, dict) and (lacking := sorted(self.splits.keys() - of_split.keys())):
                raise ValueError(f"{key} has nothing for the split {', '.join(lacking)}")
        for name, parts in self.any_of.items():
            if name not in self.findings:
                raise ValueError("any_of: " + unknown_name("finding", name, self.findings))
            if len(set(parts) - self.any_of.keys()) < 2:
                raise ValueError(f"any_of: {name} needs two findings or more, none of them made of others")
        named = {
            "labels.columns": getattr(labels, "columns", ()),
            "labels.names": getattr(labels, "names", {}).values(),
            "masks.names": getattr(masks, "names", {}).values(),
        }
        for key, names in named.items():
            for name in names:
                if name is not None and name not in self.findings:
                    raise ValueError(f"{key}: " + unknown_name("finding", name, self.findings))
        of_several = isinstance(labels, ColumnLabels | ListLabels | RowLabels) or isinstance(masks, FindingRows)
        if several and not of_several:
            raise ValueError(f"labels of kind {labels.kind!r} give one finding, not {len(self.findings)}")
        if isinstance(labels, MaskLabels) and masks is None:
            raise ValueError("labels of kind 'mask' need masks")
        if several and masks is not None and not by_finding:
            fix = "use kind box_rows, or {finding} in the path of kind file"
            raise ValueError(f"masks of kind {masks.kind!r} show one finding, not {len(self.findings)}: {fix}")
        if isinstance(labels, MaskLabels) and isinstance(masks, FileMasks) and by_finding:
            raise ValueError("{finding} in masks.path needs labels that say which files there are, not kind 'mask'")
        return self


def read_split(benchmark: Benchmark, split: str, root: Path | None = None) -> Split:
    """A split, with `root` in place of the benchmark's own. Of its files only masks that give the labels are read.

    BenchmarkError with every problem of the split file, MissingSplitError if it does not exist, DataError if the
    benchmark has no such split, or nothing gives a root.
    """
    listed, problems = examine_split(benchmark, split, root)
    raise_problems(problems)
    for kind in dict.fromkeys(problem.kind for problem in problems):
        of_kind = [problem for problem in problems if problem.kind == kind]
        notice(f"{benchmark.name}, {split}: {len(of_kind)} × {kind}, such as {of_kind[0]}")
    assert listed is not None  # only a file with problems has no split
    return listed.labelled_by_masks() if isinstance(benchmark.labels, MaskLabels) else listed


def examine_split(benchmark: Benchmark, split: str, root: Path | None = None) -> tuple[Split | None, list[Problem]]:
    """A split as far as it can be read, None if nothing can, and all problems of its file, in the order of lines.

    A problem leaves a label unknown, a group "", or a mask None; labels that the masks give are unknown. Errors for a
    file that does not exist as of `read_split`.
    """
    file = split_file(benchmark, split, root)
    root = root or benchmark.root
    assert root is not None  # split_file refuses a benchmark without
    try:
        table = read_list(file, benchmark.table, split, root)
    except BenchmarkError as error:
        return None, error.problems
    rows = benchmark.images.read(table, root, split)
    table, names = rows.table, rows.names
    if not names:
        return None, table.problems
    labels = benchmark.labels.read(table, names, benchmark.findings)
    masks = benchmark.masks.read(rows, benchmark.findings, labels) if benchmark.masks else {}
    if masks and isinstance(benchmark.labels, RowLabels) and benchmark.labels.readers:
        _leave_out_absent(masks, labels)
    groups = benchmark.groups and benchmark.groups.read(table, names)
    first = _unite_rows(benchmark, table, names, labels, groups, masks)
    if isinstance(benchmark.masks, RegionMasks) and benchmark.masks.all_lists:
        _add_other_lists(benchmark, split, root, table, names, masks[benchmark.findings[0]])
    listed = Split(
        name=split,
        findings=benchmark.findings,
        paths=[root / name for name in names],
        labels=labels,
        groups=groups,
        rows=[table.place(row) for row in range(len(table))],
        views=view_column(table),
        masks=masks or None,
        metadata={name: attribute.read(table, name) for name, attribute in benchmark.metadata.items()},
    )
    return listed.take(first), sorted(table.problems, key=lambda problem: problem.line or 0)


def _unite_rows(
    benchmark: Benchmark,
    table: Table,
    names: list[str],
    labels: np.ndarray,
    groups: list[str] | None,
    masks: MaskRows,
) -> list[int]:
    """The first row of each image, in which the masks of its other rows are united; contrary rows are problems."""
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        if (earlier := first.setdefault(name, row)) == row:
            continue
        if (labels[row] != labels[earlier]).any():
            text = f"{name} has other labels than in {table.place(earlier)}: keep one of the rows"
            table.report(row, "label_conflict", text)
        elif groups and groups[row] != groups[earlier]:
            text = f"{name} is of {groups[row]!r} here and of {groups[earlier]!r} in {table.place(earlier)}"
            table.report(row, "label_conflict", text)
        elif not isinstance(benchmark.masks, RegionMasks | FindingRows):
            table.report(row, "repeated_row", f"{name} was named in {table.place(earlier)}", tolerated=True)
        for of_rows in masks.values():
            of_rows[earlier] = _union(table, row, of_rows[earlier], of_rows[row])
    return list(first.values())


def _leave_out_absent(masks: MaskRows, labels: np.ndarray) -> None:
    """Leave out the masks of findings that are absent by the rule for several readers."""
    for of_rows, column in zip(masks.values(), labels.T, strict=True):
        for row in np.flatnonzero(column == ABSENT):
            of_rows[row] = None


def _union(table: Table, row: int, one: Mask | None, other: Mask | None) -> Mask | None:
    """Both masks of one image as one; masks of different frames are a problem of the row."""
    try:
        return operator.or_(one, other) if one and other else one or other
    except ValueError as error:
        table.report(row, "bad_region", str(error))
        return one


def _add_other_lists(
    benchmark: Benchmark, split: str, root: Path, table: Table, names: list[str], masks: list[Mask | None]
) -> None:
    """Add what the lists of other splits hold of the same images; a list that is missing is a tolerated problem."""
    assert benchmark.masks is not None  # it asks for all lists
    rows = {name: row for row, name in reversed(list(enumerate(names)))}
    for other, file in benchmark.splits.items():
        path = root / file
        if other == split:
            continue
        if not path.is_file():
            text = f"the list of {other} is missing, with masks of images of {split}: they may be incomplete"
            table.problems.append(Problem("split_file", path, text, tolerated=True))
            continue
        try:
            found = read_list(path, benchmark.table, other, root)
        except BenchmarkError as error:
            table.problems.extend(error.problems)
            continue
        others = benchmark.images.read(found, root, other)
        [parts] = benchmark.masks.read(others, benchmark.findings, np.empty(0)).values()
        for place, (name, part) in enumerate(zip(others.names, parts, strict=True)):
            if (row := rows.get(name)) is not None:
                masks[row] = _union(others.table, place, masks[row], part)
        table.problems.extend(found.problems)


def split_file(benchmark: Benchmark, split: str, root: Path | None = None) -> Path:
    """The file of a split; errors name the splits of the benchmark, and the setting that gives the root."""
    splits: dict[str, str] = {**benchmark.splits}
    if split not in splits:
        raise DataError(f"benchmark {benchmark.name!r}: " + unknown_name("split", split, splits))
    name, root = splits[split], root or benchmark.root
    fix = f"give the folder that holds it as root, or another file as splits.{split}"
    if root is None:
        raise DataError(f"benchmark {benchmark.name!r} does not say where {name} lies: {fix}")
    if not (file := Path(root) / name).is_file():
        raise MissingSplitError(f"{file}, the {split} split of benchmark {benchmark.name!r}, is missing: {fix}")
    return file


def list_files(benchmark: Benchmark, split: str, root: Path | None = None) -> list[Path]:
    """The file of a split, by `split_file`, and those of the tables that are joined to it."""
    file = split_file(benchmark, split, root)
    base = root or benchmark.root
    assert base is not None  # split_file refuses a benchmark without
    return [file, *(base / join.file for join in benchmark.table.join)]


def view_column(table: Table) -> list[str] | None:
    """The projection in each row; None if no column gives it."""
    for name in table.cells.columns:
        if re.sub("[^a-z]", "", str(name).lower()) in VIEW_COLUMNS:
            return table.cells[name].tolist()
    return None
