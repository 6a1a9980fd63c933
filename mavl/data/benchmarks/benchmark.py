"""A benchmark is a YAML file: which images and labels a data set's split files name, and how to read them.

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
from pydantic import AfterValidator, Field, model_validator

from mavl.config.loader import Settings
from mavl.data.benchmarks.masks import (
    BoxRows,
    FileMasks,
    Mask,
    RegionMasks,
    box_rows,
    file_masks,
    finding_files,
    label_by,
    region_masks,
    unite,
)
from mavl.data.benchmarks.splits import MissingSplitError, Split, SplitError
from mavl.data.benchmarks.tables import (
    BenchmarkError,
    Column,
    ColumnLabels,
    PathLabels,
    PathTemplate,
    Table,
    TableFormat,
    column_labels,
    path_labels,
    read_table,
)
from mavl.vocab import unknown_name

__all__ = ["Benchmark", "BenchmarkError", "MissingSplitError", "Split", "SplitError", "read_split"]

SplitName = Literal["train", "valid", "test"]


def _has_one_group(pattern: str) -> str:
    if re.compile(pattern).groups != 1:
        raise ValueError(f"the pattern {pattern!r} needs one (group), the part of the name that tells the patient")
    return pattern


class ImageNames(Settings):
    """How a row names its image: `column`, without the prefix `strip`, put into `path` under the root.

    A `path` with * names all the images that match: each becomes a row.
    """

    column: Column = 0
    strip: str = ""
    path: PathTemplate = "{}"


class Groups(Settings):
    """What tells an image's patient (or study): a column, or `pattern` found in it or, without one, in the path."""

    column: Column | None = None
    pattern: Annotated[str, AfterValidator(_has_one_group)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.column is None and self.pattern is None:
            raise ValueError("groups needs a column, a pattern or both")
        return self


class MaskLabels(Settings):
    """The finding is present where the image's mask is not empty; without a mask it is unknown."""

    kind: Literal["mask"]


class Benchmark(Settings):
    """A data set to be tested on: its split files under `root`, the findings it asks, and how to show its images.

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
            unasked = [name for name in self.labels.columns if name not in self.findings]
            if unasked:
                raise ValueError("labels.columns: " + unknown_name("finding", unasked[0], self.findings))
        elif len(self.findings) > 1 and not isinstance(self.masks, BoxRows):
            raise ValueError(f"labels of kind {self.labels.kind!r} tell one finding, not {len(self.findings)}")
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
            raise ValueError("{finding} in masks.path needs labels that tell which files there are, not kind 'mask'")
        for name in self.masks.names.values() if isinstance(self.masks, BoxRows) else ():
            if name not in self.findings:
                raise ValueError("masks.names: " + unknown_name("finding", name, self.findings))


def read_split(benchmark: Benchmark, split: str, root: Path | None = None) -> Split:
    """Read a split file; `root` replaces the benchmark's own.

    Raises BenchmarkError with every problem of the file, MissingSplitError when it is not there. The images themselves
    are not touched; masks that tell labels are read, and those that cannot be (`Split.damaged_masks`) tell none.
    """
    file = split_file(benchmark, split, root)
    root = Path(root or benchmark.root)
    table = read_table(file, benchmark.table)
    table, ids, names = name_images(benchmark.images, table, root)
    # The first row of each image, and for each row the first one of its image.
    first = np.flatnonzero(~names.duplicated())
    origin = first[pd.factorize(names)[0]]
    labels = labels_from_table(benchmark, table, names)
    if labels is not None:
        for row in np.flatnonzero((labels != labels[origin]).any(axis=1)):
            table.report(row, f"{names[row]} has other labels than in {table.place(origin[row])}: keep one of the rows")
    masks = row_masks(benchmark, table, ids, root, labels)
    for of_finding in (masks or {}).values():
        for row in np.flatnonzero(origin != np.arange(len(table))):
            of_finding[origin[row]] = unite(of_finding[origin[row]], of_finding[row])
    if labels is None:
        masks, labels = _mask_labels(table, masks)
    groups = None if benchmark.groups is None else name_groups(benchmark.groups, table, names)
    table.raise_problems()
    return Split(
        name=split,
        findings=benchmark.findings,
        paths=[root / name for name in names[first]],
        labels=labels[first],
        groups=None if groups is None else groups[first].tolist(),
        rows=[table.place(row) for row in first],
        masks=masks and {finding: [of_rows[row] for row in first] for finding, of_rows in masks.items()},
    )


def split_file(benchmark: Benchmark, split: str, root: Path | None = None) -> Path:
    """The file of a split; errors say which splits there are and how to give the root."""
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


def name_images(images: ImageNames, table: Table, root: Path) -> tuple[Table, pd.Series, pd.Series]:
    """The table with one row an image, and for each row the image's id and its path under the root."""
    ids = table.column(images.column).str.removeprefix(images.strip)
    for row in np.flatnonzero(ids == ""):
        table.report(row, f"column {images.column!r} names no image")
    before, after = images.path.split("{}")
    names = before + ids + after
    if "*" not in images.path:
        return table, ids, names
    table.raise_problems()  # a blank name would match the whole root
    matches = names.map(lambda pattern: sorted(path.relative_to(root).as_posix() for path in root.glob(pattern)))
    for row in np.flatnonzero(matches.str.len() == 0):
        table.report(row, f"no image matches {root / names[row]}: check images.path, and root")
    names = matches.explode().fillna("")
    rows = names.index.to_numpy()
    return table.take(rows), ids[rows].reset_index(drop=True), names.reset_index(drop=True)


def name_groups(groups: Groups, table: Table, names: pd.Series) -> np.ndarray:
    """The group of each row; rows that tell none are reported to the table."""
    texts = names if groups.column is None else table.column(groups.column)
    found = texts if groups.pattern is None else texts.str.extract(groups.pattern, expand=False)
    for row in np.flatnonzero(found.isna() | (found == "")):
        table.report(row, f"{texts[row]!r} tells no group: check groups.column and groups.pattern ({groups.pattern})")
    return found.to_numpy(dtype=object)


def row_masks(
    benchmark: Benchmark, table: Table, ids: pd.Series, root: Path, labels: np.ndarray | None
) -> dict[str, list[Mask | None]] | None:
    """For each finding the mask of each row."""
    settings = benchmark.masks
    if settings is None:
        return None
    if isinstance(settings, BoxRows):
        return box_rows(table, settings, benchmark.findings)
    if isinstance(settings, FileMasks) and settings.by_finding:
        return finding_files(table, settings, ids, root, benchmark.findings, labels)
    (finding,) = benchmark.findings
    if isinstance(settings, FileMasks):
        return {finding: file_masks(table, settings, ids, root)}
    return {finding: region_masks(table, settings)}


def labels_from_table(benchmark: Benchmark, table: Table, names: pd.Series) -> np.ndarray | None:
    """Labels int8 [n, C] of the rows; None where the masks tell them."""
    settings = benchmark.labels
    if isinstance(settings, ColumnLabels):
        return column_labels(table, settings, benchmark.findings)
    return path_labels(table, settings, names) if isinstance(settings, PathLabels) else None


def _mask_labels(table: Table, masks: dict[str, list[Mask | None]]) -> tuple[dict[str, list[Mask | None]], np.ndarray]:
    """The masks of the rows, damaged ones told apart, and the labels int8 [n, C] that they give."""
    table.raise_problems()  # a mask that could not be parsed or found has no label to give
    read = {finding: [label_by(mask) for mask in of_finding] for finding, of_finding in masks.items()}
    labels = np.array([[label for _, label in of_finding] for of_finding in read.values()], dtype=np.int8).T
    return {finding: [mask for mask, _ in of_finding] for finding, of_finding in read.items()}, labels
