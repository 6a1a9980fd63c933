"""A benchmark is a YAML file: the images and labels that a data set's split files name, and how to read them.

    benchmark = load(Benchmark, "configs/benchmarks/rsna.yaml")
    test = read_split(benchmark, "test", root=Path("data/rsna"))
    test.paths[0], test.labels[0], test.mask(0)

Three choices describe a file: the table (separator, header, which column names the image), where the labels come from
(columns, the path, the mask), and where the masks come from (run lengths, boxes, files). Adding a hospital is adding a
YAML file of such choices.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from mavl.config.loader import Settings
from mavl.config.settings import GroupPattern
from mavl.data.benchmarks.masks import BoxRows, FileMasks, RegionMasks, unite
from mavl.data.benchmarks.splits import MissingSplitError, Split, SplitError
from mavl.data.benchmarks.tables import (
    BenchmarkError,
    Column,
    ColumnLabels,
    MaskLabels,
    PathLabels,
    PathTemplate,
    Problem,
    Table,
    TableFormat,
    raise_problems,
    read_table,
)
from mavl.vocab import unknown_name

__all__ = ["Benchmark", "BenchmarkError", "MissingSplitError", "Split", "SplitError", "examine_split", "read_split"]

SplitName = Literal["train", "valid", "test"]

VIEW_COLUMNS = ("frontallateral", "viewposition", "view", "projection")
"""Names of columns that give the projection of an image, in small letters without what is no letter."""


class ImageNames(Settings):
    """The image of a row: `column`, without the prefix `strip`, put into `path` under the root.

    A `path` with * names all the images that match: each becomes a row.
    """

    column: Column = 0
    strip: str = ""
    path: PathTemplate = "{}"

    def read(self, table: Table, root: Path) -> tuple[Table, pd.Series, pd.Series]:
        """The table with one row an image, and for each row the image's id and its path under the root.

        Rows without an image are problems, and left out.
        """
        ids = table.column(self.column)
        if ids is None:
            ids = pd.Series(dtype=str)
        ids = ids.str.removeprefix(self.strip)
        for row in np.flatnonzero(ids == ""):
            table.report(row, "bad_row", f"column {self.column!r} names no image")
        ids = ids[ids != ""]
        before, after = self.path.split("{}")
        names = before + ids + after
        if "*" in self.path:
            paths = names.map(lambda pattern: sorted(path.relative_to(root).as_posix() for path in root.glob(pattern)))
            for row in paths.index[paths.str.len() == 0]:
                text = f"no image matches {root / names[row]}: check images.path, and root"
                table.report(row, "missing_image", text)
            names = paths.explode().dropna()
        rows = names.index.to_numpy()
        return table.take(rows), ids[rows].reset_index(drop=True), names.reset_index(drop=True)


class Groups(Settings):
    """The patient (or study) of an image: a column, or what `pattern` finds in it or, without a column, in the path."""

    column: Column | None = None
    pattern: GroupPattern | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.column is None and self.pattern is None:
            raise ValueError("groups needs a column, a pattern or both")
        return self

    def read(self, table: Table, names: pd.Series) -> np.ndarray | None:
        """The group of each row, "" and a problem where there is none; None where the column does not exist."""
        texts = names if self.column is None else table.column(self.column)
        if texts is None:
            return None
        found = (texts if self.pattern is None else texts.str.extract(self.pattern, expand=False)).fillna("")
        for row in np.flatnonzero(found == ""):
            fix = f"check groups.column and groups.pattern ({self.pattern})"
            table.report(row, "bad_row", f"{texts[row]!r} holds no group: {fix}")
        return found.to_numpy(dtype=object)


class Benchmark(Settings):
    """A data set for tests: its split files under `root`, its findings, and how its images are preprocessed.

    `findings` are names of the embeddings, in the order of the label columns; they may lie outside the pre-training
    vocabulary.
    """

    name: str
    title: str
    citation: str = ""
    root: Path | None = None
    findings: tuple[str, ...] = Field(min_length=1)
    splits: dict[SplitName, str] = Field(min_length=1)
    interpolation: Literal["bilinear", "bicubic"] | None = None
    equalize: bool = False
    table: TableFormat = TableFormat()
    images: ImageNames = ImageNames()
    groups: Groups | None = None
    labels: Annotated[ColumnLabels | PathLabels | MaskLabels, Field(discriminator="kind")]
    masks: Annotated[RegionMasks | BoxRows | FileMasks, Field(discriminator="kind")] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        twice = sorted({finding for finding in self.findings if self.findings.count(finding) > 1})
        if twice:
            raise ValueError(f"findings are named twice: {', '.join(twice)}")
        if isinstance(self.labels, ColumnLabels):
            for name in self.labels.columns:
                if name not in self.findings:
                    raise ValueError("labels.columns: " + unknown_name("finding", name, self.findings))
        elif len(self.findings) > 1 and not isinstance(self.masks, BoxRows):
            raise ValueError(f"labels of kind {self.labels.kind!r} give one finding, not {len(self.findings)}")
        if isinstance(self.labels, MaskLabels) and self.masks is None:
            raise ValueError("labels of kind 'mask' need masks")
        self._check_masks()
        return self

    def _check_masks(self) -> None:
        by_finding = isinstance(self.masks, BoxRows) or (isinstance(self.masks, FileMasks) and self.masks.by_finding)
        if self.masks is not None and not by_finding and len(self.findings) > 1:
            fix = "use kind box_rows, or {finding} in the path of kind file"
            raise ValueError(f"masks of kind {self.masks.kind!r} show one finding, not {len(self.findings)}: {fix}")
        if isinstance(self.masks, FileMasks) and by_finding and isinstance(self.labels, MaskLabels):
            raise ValueError("{finding} in masks.path needs labels that say which files there are, not kind 'mask'")
        for name in self.masks.names.values() if isinstance(self.masks, BoxRows) else ():
            if name not in self.findings:
                raise ValueError("masks.names: " + unknown_name("finding", name, self.findings))


def read_split(benchmark: Benchmark, split: str, root: Path | None = None) -> Split:
    """A split without any problem; `root` replaces the benchmark's own.

    The images are not read. Mask files that give the labels are read; those that cannot be read
    (`Split.damaged_masks`) give no label.

    Raises:
        BenchmarkError: with every problem of the file.
        MissingSplitError: the file is not there.
        SplitError: the benchmark has no such split, or neither it nor the caller gives a root.
    """
    listed, problems = examine_split(benchmark, split, root)
    raise_problems(problems)
    assert listed is not None  # only a file with problems has no split
    return listed.labelled_by_masks() if isinstance(benchmark.labels, MaskLabels) else listed


def examine_split(benchmark: Benchmark, split: str, root: Path | None = None) -> tuple[Split | None, list[Problem]]:
    """A split as far as it can be read, None where nothing can, and all problems of its file, in the order of lines.

    A problem leaves a label unknown, a group "", or a mask None. Labels that the masks give are unknown:
    `Split.labelled_by_masks` reads them. Errors for a file that is not there as of `read_split`.
    """
    file = split_file(benchmark, split, root)
    root = Path(root or benchmark.root)
    try:
        table = read_table(file, benchmark.table)
    except BenchmarkError as error:
        return None, error.problems
    table, ids, names = benchmark.images.read(table, root)
    if not len(table):
        return None, table.problems
    labels = benchmark.labels.read(table, names, benchmark.findings)
    masks = benchmark.masks and benchmark.masks.read(table, ids, root, benchmark.findings, labels)
    groups = benchmark.groups and benchmark.groups.read(table, names)
    views = view_column(table)
    # The first row of each image, and for each row the first one of its image.
    first = np.flatnonzero(~names.duplicated())
    origin = first[pd.factorize(names)[0]]
    for row in np.flatnonzero(origin != np.arange(len(table))):
        earlier = origin[row]
        if (labels[row] != labels[earlier]).any():
            text = f"{names[row]} has other labels than in {table.place(earlier)}: keep one of the rows"
            table.report(row, "label_conflict", text)
        elif not isinstance(benchmark.masks, RegionMasks | BoxRows):
            text = f"{names[row]} was named in {table.place(earlier)}"
            table.report(row, "repeated_row", text, tolerated=True)
        for of_rows in (masks or {}).values():
            of_rows[earlier] = unite(of_rows[earlier], of_rows[row])
    listed = Split(
        name=split,
        findings=benchmark.findings,
        paths=[root / name for name in names[first]],
        labels=labels[first],
        groups=None if groups is None else groups[first].tolist(),
        rows=[table.place(row) for row in first],
        views=None if views is None else views[first].tolist(),
        masks=masks and {finding: [of_rows[row] for row in first] for finding, of_rows in masks.items()},
    )
    return listed, sorted(table.problems, key=lambda problem: problem.line or 0)


def split_file(benchmark: Benchmark, split: str, root: Path | None = None) -> Path:
    """The file of a split; errors name the splits of the benchmark, and how to give the root."""
    if split not in benchmark.splits:
        raise SplitError(f"benchmark {benchmark.name!r}: " + unknown_name("split", split, benchmark.splits))
    name = benchmark.splits[split]
    root = root or benchmark.root
    fix = f"give the folder that holds it as root, or another file as splits.{split}"
    if root is None:
        raise SplitError(f"benchmark {benchmark.name!r} does not say where {name} lies: {fix}")
    file = Path(root) / name
    if not file.is_file():
        raise MissingSplitError(f"{file}, the {split} split of benchmark {benchmark.name!r}, is missing: {fix}")
    return file


def view_column(table: Table) -> np.ndarray | None:
    """The texts of the column that gives the projection, in each row; None where there is no such column."""
    columns = {re.sub("[^a-z]", "", str(name).lower()): name for name in table.cells.columns}
    name = next((columns[name] for name in VIEW_COLUMNS if name in columns), None)
    return None if name is None else table.cells[name].to_numpy()
