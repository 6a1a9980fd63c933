"""A benchmark is a YAML file: which images and labels a data set's split files name, and how to read them.

    benchmark = load(Benchmark, "configs/benchmarks/rsna.yaml")
    test = read_split(benchmark, "test", root=Path("data/rsna"))
    test.paths[0], test.labels[0], test.mask(0)

Three choices describe a file: the table (separator, header, which column names the image), where the labels come from
(columns, the path, the mask), and where the masks come from (run lengths, boxes, files). Adding a hospital is adding a
YAML file of such choices.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field, model_validator

from mavl.config import Settings
from mavl.data.masks import FileMasks, Mask, RegionMasks, file_masks, region_masks
from mavl.data.tables import (
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
from mavl.vocab import ABSENT, PRESENT, unknown_name

__all__ = ["Benchmark", "BenchmarkError", "Split", "read_split"]

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
    """The finding is present where the image's mask is not empty."""

    kind: Literal["mask"]


class Benchmark(Settings):
    """A data set to be tested on: its split files under `root`, the findings it asks, and how to show its images.

    `findings` are names of the bank, in the order of the label columns; they may lie outside the pre-training
    vocabulary.
    """

    name: str
    title: str
    citation: str = ""
    root: Path | None = None
    findings: tuple[str, ...] = Field(min_length=1)
    splits: dict[SplitName, str] = Field(min_length=1)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    equalize: bool = False
    table: TableFormat = TableFormat()
    images: ImageNames = ImageNames()
    groups: Groups | None = None
    labels: Annotated[ColumnLabels | PathLabels | MaskLabels, Field(discriminator="kind")]
    masks: Annotated[RegionMasks | FileMasks, Field(discriminator="kind")] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        twice = sorted({finding for finding in self.findings if self.findings.count(finding) > 1})
        if twice:
            raise ValueError(f"findings are named twice: {', '.join(twice)}")
        if isinstance(self.labels, ColumnLabels):
            unasked = [name for name in self.labels.columns if name not in self.findings]
            if unasked:
                raise ValueError("labels.columns: " + unknown_name("finding", unasked[0], self.findings))
        elif len(self.findings) > 1:
            raise ValueError(f"labels of kind {self.labels.kind!r} tell one finding, not {len(self.findings)}")
        if isinstance(self.labels, MaskLabels) and self.masks is None:
            raise ValueError("labels of kind 'mask' need masks")
        return self


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one split, n of them, and what is known of each. An image that several rows name is here once."""

    name: str
    findings: tuple[str, ...]
    paths: list[Path]
    labels: np.ndarray
    """int8 [n, C] in {1 present, 0 absent, -1 unknown}, a column a finding."""
    groups: list[str] | None
    """The patient (or study) of each image, where the file tells."""
    rows: list[str]
    """Where each image was named, "test.csv:17"."""
    masks: Sequence[Mask] | None
    """Each image's mask, read when asked for: `empty` and `read()`."""

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, findings: Sequence[str]) -> Self:
        """The same images with these findings only, in this order; ValueError for one that is not asked."""
        for finding in findings:
            if finding not in self.findings:
                raise ValueError(f"split {self.name!r}: " + unknown_name("finding", finding, self.findings))
        columns = [self.findings.index(finding) for finding in findings]
        return replace(self, findings=tuple(findings), labels=self.labels[:, columns])

    def without(self, positions: set[int]) -> Self:
        """The split without the images at these positions."""
        kept = [i for i in range(len(self)) if i not in positions]
        lists = ("paths", "groups", "rows", "masks")
        shorter = {name: None if (x := getattr(self, name)) is None else [x[i] for i in kept] for name in lists}
        return replace(self, labels=self.labels[kept], **shorter)

    def mask(self, image: int) -> np.ndarray:
        """bool [H, W] in the frame of the benchmark's `masks.size`, or of the mask file."""
        if self.masks is None:
            raise ValueError(f"split {self.name!r} has no masks: its benchmark names none under `masks`")
        return self.masks[image].read()


def read_split(benchmark: Benchmark, split: str, root: Path | None = None) -> Split:
    """Read a split file; `root` replaces the benchmark's own.

    Raises BenchmarkError with every problem of the file, FileNotFoundError when it is not there. The images themselves
    are not touched.
    """
    file = split_file(benchmark, split, root)
    root = Path(root or benchmark.root)
    table = read_table(file, benchmark.table)
    table, ids, names = name_images(benchmark.images, table, root)
    masks = _masks(benchmark, table, ids, root)
    # The first row of each image, and for each row the first one of its image.
    first = np.flatnonzero(~names.duplicated())
    origin = first[pd.factorize(names)[0]]
    if masks is not None:
        for row in np.flatnonzero(origin != np.arange(len(table))):
            masks[origin[row]] |= masks[row]
    labels = _labels(benchmark, table, names, masks)
    if not isinstance(benchmark.labels, MaskLabels):
        for row in np.flatnonzero((labels != labels[origin]).any(axis=1)):
            table.report(row, f"{names[row]} has other labels than in {table.place(origin[row])}: keep one of the rows")
    groups = None if benchmark.groups is None else name_groups(benchmark.groups, table, names)
    table.raise_problems()
    return Split(
        name=split,
        findings=benchmark.findings,
        paths=[root / name for name in names[first]],
        labels=labels[first],
        groups=None if groups is None else groups[first].tolist(),
        rows=[table.place(row) for row in first],
        masks=None if masks is None else [masks[row] for row in first],
    )


def split_file(benchmark: Benchmark, split: str, root: Path | None = None) -> Path:
    """The file of a split; errors say which splits there are and how to give the root."""
    if split not in benchmark.splits:
        raise ValueError(f"benchmark {benchmark.name!r}: " + unknown_name("split", split, benchmark.splits))
    name = benchmark.splits[split]
    root = root or benchmark.root
    fix = f"give the folder that holds it as root, or another file as splits.{split}"
    if root is None:
        raise ValueError(f"benchmark {benchmark.name!r} does not say where {name} lies: {fix}")
    file = Path(root) / name
    if not file.is_file():
        raise FileNotFoundError(f"{file}, the {split} split of benchmark {benchmark.name!r}, is missing: {fix}")
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


def _masks(benchmark: Benchmark, table: Table, ids: pd.Series, root: Path) -> list[Mask] | None:
    if benchmark.masks is None:
        return None
    if isinstance(benchmark.masks, FileMasks):
        return file_masks(table, benchmark.masks, ids, root)
    return region_masks(table, benchmark.masks)


def _labels(benchmark: Benchmark, table: Table, names: pd.Series, masks: list[Mask] | None) -> np.ndarray:
    settings = benchmark.labels
    if isinstance(settings, ColumnLabels):
        return column_labels(table, settings, benchmark.findings)
    if isinstance(settings, PathLabels):
        return path_labels(table, settings, names)
    table.raise_problems()  # a mask that could not be parsed or found has no label to give
    return np.array([[ABSENT if mask.empty else PRESENT] for mask in masks], dtype=np.int8)
