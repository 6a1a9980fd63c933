"""A split file as text: its columns by name or number, and the labels in them."""

import os
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
import pandas as pd
import regex
from pydantic import AfterValidator, Field

from mavl.config.loader import Settings
from mavl.data import DataError, notice
from mavl.data.benchmarks.rows import Problem, read_rows
from mavl.progress import plural
from mavl.vocab import ABSENT, PRESENT, UNKNOWN, unknown_name

Column = Annotated[int, Field(ge=0)] | str | tuple[str, ...]
"""A column by number (from 0), by name, or by its names in different split files."""


def _has_one_blank(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(f"the path {template!r} needs one {{}} where the image's name goes")
    return template


PathTemplate = Annotated[str, AfterValidator(_has_one_blank)]

SEARCH_SECONDS = 1
"""A pattern that takes longer in one text never ends in some."""

NO_FINDING = "no finding"
"""The text, in any case, of an image without a finding."""

LABEL_TEXTS = {
    "1": PRESENT,
    "0": ABSENT,
    **dict.fromkeys(("", "nan", "-1"), UNKNOWN),
}
"""Texts of a label by `fold`, and what they mean. CheXpert's labeller writes -1 for an uncertain mention."""


@lru_cache(4096)
def fold(text: str) -> str:
    """The one spelling of a label's text: in lower case, a number without superfluous zeros."""
    text = text.strip().lower()
    return f"{float(text):g}" if re.fullmatch(r"[+-]?\d{1,6}(\.0*)?", text) else text


def _without_clash(meanings: dict) -> dict:
    seen: dict[str, str] = {}
    for text, meaning in meanings.items():
        if meanings[other := seen.setdefault(fold(text), text)] != meaning:
            raise ValueError(f"{other!r} and {text!r} are one text with two meanings: keep one of them")
    return meanings


Names = Annotated[dict[str, str | None], AfterValidator(_without_clash)]
"""The finding that a text stands for, None for one that is not among the benchmark's."""


def _is_one_character(separator: str | None) -> str | None:
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise ValueError(f"the separator {separator!r} is not one character, such as ',' or \"\\t\"")
    return separator


class TableFormat(Settings):
    """How a split file is written: see `read_rows`."""

    separator: Annotated[str | None, AfterValidator(_is_one_character)] = None
    header: bool = True


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
        names = [
            name.strip() if isinstance(name, str) else name
            for name in ((wanted,) if isinstance(wanted, int | str) else wanted)
        ]
        known = list(range(self.cells.shape[1]) if isinstance(wanted, int) else self.cells.columns)
        for name in names:
            if name in known:
                return self.cells.iloc[:, known.index(name)].tolist()
        problem = Problem("column", self.file, unknown_name("column", str(names[0]), map(str, known)))
        if problem not in self.problems:
            self.problems.append(problem)
        return []


def read_table(file: Path, form: TableFormat) -> Table:
    """The rows of a split file; errors as of `read_rows`."""
    rows = read_rows(file, form.separator, form.header)
    return Table(file, pd.DataFrame(rows.cells, columns=rows.names, dtype=object), rows.lines)


def normal_path(text: str) -> str:
    """The one spelling of a path: / between its parts, none of them empty or a dot."""
    return posixpath.normpath(text.replace("\\", "/")) if text else ""


def under_root(name: str, root: Path | None) -> str:
    """A normal path relative to the root where it lies below it, by its text alone; others as they are."""
    if root is None or not name.startswith(("/", "../")):
        return name
    path, base = Path(os.path.abspath(root / name)), Path(os.path.abspath(root))
    return path.relative_to(base).as_posix() if path.is_relative_to(base) else name


def find_group(pattern: str, text: str) -> str:
    """What the group of a pattern finds in a text, "" for nothing; DataError if the search does not end."""
    try:
        match = regex.search(pattern, text, timeout=SEARCH_SECONDS)
    except TimeoutError:
        fix = "repeat nothing that is itself repeated, as in (a+)+"
        raise DataError(f"the pattern {pattern!r} takes more than {SEARCH_SECONDS} s on {text[:60]!r}: {fix}") from None
    return (match and match[1]) or ""


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
    values: Annotated[dict[str, Literal[1, 0, -1]], AfterValidator(_without_clash)] = Field(default_factory=dict)

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Labels int8 [n, C] in {1, 0, -1}; unknown, with a problem, for other texts and columns that do not exist."""
        meaning = LABEL_TEXTS | {fold(text): label for text, label in self.values.items()}
        labels = unknown_labels(table, findings)
        for index, finding in enumerate(findings):
            column = self.columns.get(finding, finding)
            for row, text in enumerate(table.column(column)):
                if (label := meaning.get(fold(text))) is not None:
                    labels[row, index] = label
                    continue
                fix = "a label is 1, 0, or blank or -1 for unknown; say what other texts mean under labels.values"
                if re.search(r"\w\s*[|;]\s*\w", text):
                    fix = "labels of kind 'list' read a column that lists findings"
                table.report(row, "label_value", f"{finding} (column {column!r}) is {text!r}: {fix}")
        return labels


class ListLabels(Settings):
    """One column lists the findings of the image, as in ChestX-ray14's "Cardiomegaly|Emphysema"; others are absent.

    A blank cell is unknown. names: the finding that a text stands for, where it is not the finding's name, or null for
    one that is not among the benchmark's; NO_FINDING needs none. others: null for every other text, too,
    unless another separator would find a finding in it.
    """

    kind: Literal["list"]
    column: Column
    separator: str = Field(default="|", min_length=1)
    names: Names = Field(default_factory=dict)
    others: Literal["refuse", "ignore"] = "refuse"

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Labels int8 [n, C] in {1, 0, -1}; unknown, with a problem, for rows with other texts."""
        meaning = name_meanings(findings, self.names)
        labels, ignored = unknown_labels(table, findings), Counter()
        for row, cell in enumerate(table.column(self.column)):
            texts = [text.strip() for text in cell.split(self.separator) if text.strip()]
            unknown = [text for text in texts if text.lower() not in meaning]
            if unknown and self.others == "refuse":
                fix = "say under labels.names which finding it is, or null; or set labels.others to ignore"
                table.report(row, "label_value", f"{unknown_name('finding', unknown[0], findings)} {fix}")
            elif held := next((part for text in unknown for part in _parts(text) if part.lower() in meaning), None):
                text = f"{cell!r} holds the finding {held!r}: labels.separator is {self.separator!r}"
                table.report(row, "label_value", text)
            elif texts:
                ignored.update(unknown)
                found = {meaning.get(text.lower()) for text in texts}
                labels[row] = [PRESENT if finding in found else ABSENT for finding in findings]
        if ignored:
            examples = ", ".join(f"{text!r} ({number})" for text, number in ignored.most_common(3))
            texts = plural(len(ignored), "other text")
            notice(f"{table.file.name}: labels.others ignores {texts}: {examples}{', …' * (len(ignored) > 3)}")
        return labels


def _parts(text: str) -> list[str]:
    """What other separators would find in a text."""
    return [part.strip() for part in re.split(r"[|;,/\t]", text)]


def name_meanings(findings: Sequence[str], names: Mapping[str, str | None]) -> dict[str, str | None]:
    """{text in small letters: finding, or None for one that the benchmark does not have}."""
    given = {text.lower(): finding for text, finding in names.items()}
    return {NO_FINDING: None} | {finding.lower(): finding for finding in findings} | given


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
