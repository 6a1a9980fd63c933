"""A split file as text: its rows, its columns by name or number, the labels in them, and the problems of the file.

All problems are collected, each with its line: a file of 377,000 rows should not be corrected one error at a time.
"""

from collections.abc import Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from mavl.config.loader import Settings
from mavl.data import DataError
from mavl.vocab import ABSENT, PRESENT, UNKNOWN, unknown_name

Column = Annotated[int, Field(ge=0)] | str | tuple[str, ...]
"""A column by number (from 0), by name, or by its names in different split files."""


def _has_one_blank(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(f"the path {template!r} needs one {{}} where the image's name goes")
    return template


PathTemplate = Annotated[str, AfterValidator(_has_one_blank)]

LABEL_TEXTS = {
    **dict.fromkeys(("1", "1.0"), PRESENT),
    **dict.fromkeys(("0", "0.0"), ABSENT),
    **dict.fromkeys(("", "nan", "-1", "-1.0"), UNKNOWN),
}
"""Texts of a label in lower case, and what they mean. CheXpert's labeller writes -1 for an uncertain mention."""


class TableFormat(Settings):
    separator: str = ","
    header: bool = True


@dataclass(frozen=True)
class Problem:
    """A fault of a list of images, of one of the kinds of `prepare_data.py doctor`.

    line: of its row, counted from 1; None for the whole file. tolerated: the list can be used in spite of it.
    """

    kind: str
    file: Path
    text: str
    line: int | None = None
    tolerated: bool = False

    def __str__(self) -> str:
        return f"{self.file.name}{'' if self.line is None else f':{self.line}'}: {self.text}"


class BenchmarkError(DataError):
    """A list that cannot be used: all its `problems`, the first five of them in the message."""

    def __init__(self, problems: list[Problem]):
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        more = [f"… and {len(problems) - 5} more"] if len(problems) > 5 else []
        super().__init__("\n  ".join([f"{problems[0].file}: {count}", *map(str, problems[:5]), *more]))


def raise_problems(problems: Sequence[Problem]) -> None:
    """BenchmarkError with the problems that are not tolerated, if there are any."""
    if fatal := [problem for problem in problems if not problem.tolerated]:
        raise BenchmarkError(fatal)


@dataclass(frozen=True)
class Table:
    """The rows of a split file: `cells` is all text without surrounding blanks, `lines` counts from 1."""

    file: Path
    cells: pd.DataFrame
    lines: Sequence[int]
    problems: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int) -> str:
        """File and line of a row: `test.csv:17`."""
        return f"{self.file.name}:{self.lines[row]}"

    def report(self, row: int, kind: str, text: str, tolerated: bool = False) -> None:
        """Add a problem of a row."""
        self.problems.append(Problem(kind, self.file, text, self.lines[row], tolerated))

    def take(self, rows: list[int]) -> Self:
        """The same file and problems with these rows, which may be repeated."""
        return replace(self, cells=self.cells.iloc[rows], lines=[self.lines[row] for row in rows])

    def column(self, wanted: Column) -> list[str]:
        """The texts of a column; none if the file lacks it, which becomes a problem with the nearest name."""
        names = (wanted,) if isinstance(wanted, int | str) else wanted
        known = range(self.cells.shape[1]) if isinstance(wanted, int) else self.cells.columns
        for name in names:
            if name in known:
                return (self.cells.iloc[:, name] if isinstance(name, int) else self.cells[name]).tolist()
        problem = Problem("column", self.file, unknown_name("column", str(names[0]), map(str, known)))
        if problem not in self.problems:
            self.problems.append(problem)
        return []


def read_table(file: Path, form: TableFormat) -> Table:
    """The rows of a split file without blank lines; BenchmarkError where there are none, or the file is no table."""
    try:
        cells = pd.read_csv(
            file,
            sep=form.separator,
            header=0 if form.header else None,
            dtype=str,
            na_filter=False,
            index_col=False,
            skip_blank_lines=False,  # they would shift the line numbers; dropped below
            encoding="utf-8-sig",
        )
    except pd.errors.EmptyDataError:
        fault = "the file is empty"
    except UnicodeDecodeError as error:
        fault = f"the file is not UTF-8 text: {error}"
    except pd.errors.ParserError as error:
        fault = f"{str(error).strip()}; check table.separator, which is {form.separator!r}"
    else:
        cells = pd.DataFrame({name: column.str.strip() for name, column in cells.items()})
        if filled := np.flatnonzero((cells != "").any(axis=1)).tolist():
            return Table(file, cells, range(1 + form.header, 1 + form.header + len(cells))).take(filled)
        fault = "the file has no rows"
    raise BenchmarkError([Problem("split_file", file, fault)])


def unknown_labels(rows: Sized, findings: Sequence[str]) -> np.ndarray:
    """int8 [n, C] of UNKNOWN."""
    return np.full((len(rows), len(findings)), UNKNOWN, dtype=np.int8)


class ColumnLabels(Settings):
    """One column a finding, by default that of its own name.

    values: labels of texts beyond 1, 0, and blank or -1 (unknown), or of these: {"-1.0": 1} counts CheXpert's uncertain
    mentions as present.
    """

    kind: Literal["columns"]
    columns: dict[str, Column] = Field(default_factory=dict)
    values: dict[str, Literal[1, 0, -1]] = Field(default_factory=dict)

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Labels int8 [n, C] in {1, 0, -1}; unknown, with a problem, for other texts and columns that do not exist."""
        meaning = LABEL_TEXTS | {text.lower(): label for text, label in self.values.items()}
        labels = unknown_labels(table, findings)
        for index, finding in enumerate(findings):
            column = self.columns.get(finding, finding)
            for row, text in enumerate(table.column(column)):
                if (label := meaning.get(text.lower())) is not None:
                    labels[row, index] = label
                    continue
                fix = "a label is 1, 0, or blank or -1 for unknown; say what other texts mean under labels.values"
                table.report(row, "label_value", f"{finding} (column {column!r}) is {text!r}: {fix}")
        return labels


class PathLabels(Settings):
    """The finding is present or absent by which of two substrings occurs in the image's path."""

    kind: Literal["path"]
    positive: str
    negative: str

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Labels int8 [n, 1] in {1, 0}; a path with neither or both of the substrings is a problem."""
        labels = unknown_labels(table, findings)
        for row, name in enumerate(names):
            positive, negative = self.positive in name, self.negative in name
            if positive == negative:
                number = "both" if positive else "neither"
                table.report(row, "bad_row", f"{name} holds {number} of {self.positive!r} and {self.negative!r}")
            labels[row] = PRESENT if positive else ABSENT
        return labels


class MaskLabels(Settings):
    """The finding is present where the image's mask is not empty; without a mask it is unknown."""

    kind: Literal["mask"]

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Unknown labels int8 [n, C]; `Split.labelled_by_masks` reads the masks."""
        return unknown_labels(table, findings)
