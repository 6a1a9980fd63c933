"""A split file as text: its columns by name or number."""

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import pandas as pd
import regex
from pydantic import AfterValidator, Field, model_validator

from mavl.config.loader import Settings
from mavl.data import DataError
from mavl.data.benchmarks.records import read_coco, read_records
from mavl.data.benchmarks.rows import Problem, read_rows
from mavl.vocab import unknown_name

Column = Annotated[int, Field(ge=0)] | str | tuple[str, ...]
"""A column by number (from 0), by name, or by its names in different split files."""


def _has_one_blank(template: str) -> str:
    if template.count("{}") != 1:
        raise ValueError(f"the path {template!r} needs one {{}} where the image's name goes")
    return template


PathTemplate = Annotated[str, AfterValidator(_has_one_blank)]

SplitName = Literal["train", "valid", "test"]

Value = TypeVar("Value")

SEARCH_SECONDS = 1
"""A pattern that takes longer in one text never ends in some."""


def _is_one_character(separator: str | None) -> str | None:
    if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
        raise ValueError(f"the separator {separator!r} is not one character, such as ',' or \"\\t\"")
    return separator


@lru_cache(4096)
def fold(text: str) -> str:
    """The one spelling of a label's text: in lower case, a number without superfluous zeros."""
    text = text.strip().lower()
    return f"{float(text):g}" if re.fullmatch(r"[+-]?\d{1,6}(\.0*)?", text) else text


class TableFormat(Settings):
    """How a file with a table is written.

    format: text is CSV, TSV or, by the file's name, JSON lines; json is a list of objects, one a row; coco is COCO's
    JSON of images, annotations and categories: a row for each annotation and for each image without one, with the
    columns of the image, `category`, and the columns of the annotation. separator, header: of text. records: the key of
    the list in a JSON file that is an object, with dots for one inside another. keys: where objects are in an object
    under their names instead of in a list, the columns for these names: [image, finding] of {image: {finding: {…}}}.
    explode: lists of one length in each record, such as [syms, boxes], that become a row for each place.
    """

    format: Literal["text", "json", "coco"] = "text"
    separator: Annotated[str | None, AfterValidator(_is_one_character)] = None
    header: bool = True
    records: str = ""
    keys: tuple[str, ...] = ()
    explode: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _of_one_format(self) -> Self:
        of_format = {"text": ("separator", "header"), "json": ("records", "keys", "explode")}
        foreign = [key for name, keys in of_format.items() for key in keys if name != self.format]
        fields = TableFormat.model_fields
        if given := [key for key in foreign if getattr(self, key) != fields[key].default]:
            raise ValueError(f"{', '.join(given)}: not of a table in the format {self.format!r}")
        return self


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
    """The rows of a file; errors as of `read_rows` and `read_records`."""
    if form.format == "text":
        rows = read_rows(file, form.separator, form.header)
    else:
        rows = read_coco(file) if form.format == "coco" else read_records(file, form.records, form.explode, form.keys)
    return Table(file, pd.DataFrame(rows.cells, columns=rows.names, dtype=object), rows.lines)


def of_split(values: Mapping[SplitName, Value], split: str) -> Value:
    """What a setting gives a split; the benchmark has refused settings that lack one of its splits."""
    return {str(name): value for name, value in values.items()}[split]


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
    match = _search(pattern, text)
    return (match and match[1]) or ""


def replace_found(pattern: str, by: str, text: str) -> str:
    """A text with what a pattern finds first replaced, "" where it finds nothing; DataError if it does not end."""
    match = _search(pattern, text)
    return "" if match is None else text[: match.start()] + match.expand(by) + text[match.end() :]


def _search(pattern: str, text: str) -> regex.Match | None:
    try:
        return regex.search(pattern, text, timeout=SEARCH_SECONDS)
    except TimeoutError:
        fix = "repeat nothing that is itself repeated, as in (a+)+"
        raise DataError(f"the pattern {pattern!r} takes more than {SEARCH_SECONDS} s on {text[:60]!r}: {fix}") from None
