"""A split file as text: its rows, its columns by name or number, the labels in them, and where each row stands.

Problems of rows are collected in the table and reported together, each with its line: a file of 377,000 rows should
not be mended one error at a time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import AfterValidator, Field

from mavl.config.loader import Settings
from mavl.vocab import ABSENT, PRESENT, UNKNOWN, unknown_name

Column = Annotated[int, Field(ge=0)] | str | tuple[str, ...]
"""A column by number (from 0), by name, or by the names that different split files give it."""


def _has_one_blank(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(f"the path {template!r} needs one {{}} where the image's name goes")
    return template


PathTemplate = Annotated[str, AfterValidator(_has_one_blank)]
"""A path with {} in the place of an image's name."""

LABEL_TEXTS = {
    **dict.fromkeys(("1", "1.0"), PRESENT),
    **dict.fromkeys(("0", "0.0"), ABSENT),
    **dict.fromkeys(("", "nan", "-1", "-1.0"), UNKNOWN),
}
"""What a label may read, in lower case. -1 is how CheXpert's labeller writes an uncertain mention."""


class TableFormat(Settings):
    """How a split file is laid out as text."""

    separator: str = ","
    header: bool = True


class ColumnLabels(Settings):
    """One column a finding; a finding that `columns` leaves out has a column of its own name.

    `values` says what a text means beyond 1, 0 and blank or -1 (unknown); it may also give these another meaning,
    such as {"-1.0": 1} to count CheXpert's uncertain mentions as present.
    """

    kind: Literal["columns"]
    columns: dict[str, Column] = Field(default_factory=dict)
    values: dict[str, Literal[1, 0, -1]] = Field(default_factory=dict)


class PathLabels(Settings):
    """The image's path says whether the finding is there: one of two substrings occurs in it."""

    kind: Literal["path"]
    positive: str
    negative: str


class BenchmarkError(ValueError):
    """What is wrong with a split file: all of it in `problems`, the first few in the message."""

    SHOWN = 5

    def __init__(self, file: Path, problems: list[str]):
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = problems[: self.SHOWN]
        if len(problems) > self.SHOWN:
            lines.append(f"… and {len(problems) - self.SHOWN} more")
        super().__init__("\n  ".join([f"{file}: {count}", *lines]))


@dataclass
class Table:
    """The rows of a split file: `cells` is all text without surrounding blanks, `lines` counts from 1."""

    file: Path
    cells: pd.DataFrame
    lines: np.ndarray
    problems: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.cells)

    def place(self, row: int) -> str:
        """Where a row stands: `test.csv:17`."""
        return f"{self.file.name}:{self.lines[row]}"

    def report(self, row: int, problem: str) -> None:
        self.problems.append((int(self.lines[row]), problem))

    def raise_problems(self) -> None:
        if self.problems:
            found = sorted(self.problems)
            raise BenchmarkError(self.file, [f"{self.file.name}:{line}: {problem}" for line, problem in found])

    def take(self, rows: np.ndarray) -> "Table":
        """The same file with some rows left out or repeated; it goes on collecting the same problems."""
        return replace(self, cells=self.cells.iloc[rows].reset_index(drop=True), lines=self.lines[rows])

    def columns(self, wanted: Iterable[Column]) -> list[pd.Series]:
        """The columns asked for, in order; all that are missing make one error, with the nearest names."""
        found, missing = [], []
        for column in wanted:
            names = (column,) if isinstance(column, int | str) else column
            # Without a header the names of the frame are the numbers of its columns.
            known = range(self.cells.shape[1]) if isinstance(column, int) else self.cells.columns
            name = next((name for name in names if name in known), None)
            if name is None:
                missing.append(unknown_name("column", str(names[0]), map(str, known)))
            else:
                found.append(self.cells.iloc[:, name] if isinstance(name, int) else self.cells[name])
        if missing:
            raise BenchmarkError(self.file, missing)
        return found

    def column(self, wanted: Column) -> pd.Series:
        return self.columns([wanted])[0]


def read_table(file: Path, form: TableFormat) -> Table:
    """The rows of a split file. Blank lines are passed over; a file without rows is an error."""
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
        raise BenchmarkError(file, ["the file is empty"]) from None
    except UnicodeDecodeError as error:
        raise BenchmarkError(file, [f"the file is not UTF-8 text: {error}"]) from error
    except pd.errors.ParserError as error:
        fix = f"check table.separator, which is {form.separator!r}"
        raise BenchmarkError(file, [f"{str(error).strip()}; {fix}"]) from error
    cells = cells.apply(lambda column: column.str.strip())
    filled = (cells != "").any(axis=1).to_numpy()
    if not filled.any():
        raise BenchmarkError(file, ["the file has no rows"])
    table = Table(file, cells, np.arange(len(cells)) + (2 if form.header else 1))
    return table if filled.all() else table.take(np.flatnonzero(filled))


def column_labels(table: Table, settings: ColumnLabels, findings: tuple[str, ...]) -> np.ndarray:
    """Labels int8 [n, C] in {1, 0, -1} from one column a finding; other texts are reported to the table."""
    meaning = LABEL_TEXTS | {text.lower(): label for text, label in settings.values.items()}
    labels = np.full((len(table), len(findings)), UNKNOWN, dtype=np.int8)
    for finding, texts in enumerate(table.columns(settings.columns.get(name, name) for name in findings)):
        read = texts.str.lower().map(meaning)
        for row in np.flatnonzero(read.isna()):
            column = f"{findings[finding]} (column {texts.name!r})"
            fix = "a label is 1, 0, or blank or -1 for unknown; say what other texts mean under labels.values"
            table.report(row, f"{column} is {texts.iat[row]!r}: {fix}")
        labels[:, finding] = read.fillna(UNKNOWN)
    return labels


def path_labels(table: Table, settings: PathLabels, names: pd.Series) -> np.ndarray:
    """Labels int8 [n, 1] in {1, 0} from the images' paths; paths that say neither or both are reported."""
    positive = names.str.contains(settings.positive, regex=False).to_numpy()
    negative = names.str.contains(settings.negative, regex=False).to_numpy()
    for row in np.flatnonzero(positive == negative):
        said = "both" if positive[row] else "neither"
        table.report(row, f"{names.iat[row]} holds {said} of {settings.positive!r} and {settings.negative!r}")
    return np.where(positive, PRESENT, ABSENT).astype(np.int8)[:, None]
