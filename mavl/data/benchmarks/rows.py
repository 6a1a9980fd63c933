"""The rows of a text table, strictly: CSV, TSV or JSON lines, plain or compressed by gzip; and what is wrong with them.

All problems are collected, each with its line: a file of 377,000 rows should not be corrected one error at a time.
"""

import csv
import gzip
import io
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mavl.data import DataError
from mavl.progress import plural

MAX_TEXT, MAX_LINE, MAX_ROWS = 1 << 28, 1 << 24, 5_000_000
"""Limits of a table: bytes after decompression, characters of a line, rows."""

JSON_LINES = (".jsonl", ".ndjson")

FOREIGN = {
    b"PK\x03\x04": "a spreadsheet or a zip archive: save it as CSV",
    b"\xd0\xcf\x11\xe0": "a spreadsheet: save it as CSV",
    b"<": "a web page, or XML: download the file itself",
    b"version https://git-lfs": "a pointer to a file that Git LFS keeps: fetch it by `git lfs pull`",
    b"[": "JSON, but not with one object in each line: if it is a list of objects, set table.format to json",
}
"""Beginnings of files that are no tables."""

csv.field_size_limit(MAX_LINE)


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
        head = f"{problems[0].file}: {plural(len(problems), 'problem')}"
        more = [f"… and {len(problems) - 5} more"] if len(problems) > 5 else []
        super().__init__("\n  ".join([head, *map(str, problems[:5]), *more]))


def raise_problems(problems: Sequence[Problem]) -> None:
    """BenchmarkError with the problems that are not tolerated, if there are any."""
    if fatal := [problem for problem in problems if not problem.tolerated]:
        raise BenchmarkError(fatal)


class Rows(NamedTuple):
    """names: the columns, None without a header; lines: of each row, counted from 1; cells: without outer blanks."""

    names: list[str] | None
    lines: list[int]
    cells: list[list[str]]


def read_rows(file: Path, separator: str | None = None, header: bool = True) -> Rows:
    """The rows of a table, without blank ones; BenchmarkError where a row has other cells than the header.

    Also for a column named twice, no rows, and a file that is no table or too large. Files whose name ends in one of
    JSON_LINES have an object in each line, whose names are the same in all of them.

    Args:
        separator: one character between the cells; by default a tab in .tsv files, a comma in others.
        header: the first row holds the names of the columns.
    """
    suffixes, problems = [suffix.lower() for suffix in file.suffixes[-2:]], []
    text = read_text(file)
    if any(suffix in JSON_LINES for suffix in suffixes) and separator is None:
        rows, header = _json_lines(file, text, problems), True
    else:
        separator = separator or ("\t" if ".tsv" in suffixes else ",")
        rows = _csv(file, text, separator, problems)
    names, lines, kept, length = None, [], [], None
    for line, cells in rows:
        if length is None:
            length = len(cells)
            if header:
                names = cells
                twice = [f"{name!r} ({number} times)" for name, number in Counter(cells).items() if name and number > 1]
                if twice:
                    text = f"columns of one name: {', '.join(twice)}; rename all but one"
                    problems.append(Problem("split_file", file, text, line))
                continue
        if not any(cells):
            continue
        if len(cells) != length:
            first = "header" if header else "first row"
            fix = f"quote a cell that holds the separator, or check table.separator, which is {separator!r}"
            problems.append(
                Problem("bad_row", file, f"{_cells(len(cells))}, but the {first} has {length}: {fix}", line)
            )
        lines.append(line)
        kept.append(cells)
        if len(kept) > MAX_ROWS:
            raise unusable(file, f"more than {MAX_ROWS:,} rows")
    raise_problems(problems)
    if not kept:
        raise unusable(file, "the file has no rows" if text.strip() else "the file is empty")
    return Rows(names, lines, kept)


def first_line(file: Path) -> str:
    """The first line of a table that is not blank; errors as of `read_rows`."""
    return next((line for line in _lines(file, read_text(file)) if line.strip()), "")


def _cells(number: int) -> str:
    return "1 cell" if number == 1 else f"{number} cells"


def unusable(file: Path, text: str, line: int | None = None) -> BenchmarkError:
    return BenchmarkError([Problem("split_file", file, text, line)])


def read_text(file: Path, json: bool = False) -> str:
    """The text of a file. gzip is recognized by the content: browsers unpack files and leave their names.

    Args:
        json: the file may hold a JSON list.
    """
    with file.open("rb") as plain:
        packed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        try:
            with gzip.GzipFile(fileobj=plain) if packed else plain as source:
                content = source.read(MAX_TEXT + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise unusable(file, f"cannot be read to its end ({error}); download it again") from error
    if len(content) > MAX_TEXT:
        raise unusable(file, f"more than {MAX_TEXT:,} bytes{' after decompression' if packed else ''}")
    for beginning, what in FOREIGN.items():
        if content.startswith(beginning) and not (json and beginning == b"["):
            raise unusable(file, f"the file is {what}")
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise unusable(file, f"the file is not UTF-8 text: {error}") from error
    if "\0" in text:
        raise unusable(file, f"damaged: zero bytes in line {text[: text.index(chr(0))].count(chr(10)) + 1}")
    return text


def _lines(file: Path, text: str) -> Iterator[str]:
    for number, line in enumerate(io.StringIO(text, newline=""), start=1):
        if len(line) > MAX_LINE:
            raise unusable(file, f"a line of more than {MAX_LINE:,} characters", number)
        yield line


def _csv(file: Path, text: str, separator: str, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row; lines are those in which the rows begin, as quoted cells may have several lines."""
    reader = csv.reader(_lines(file, text), delimiter=separator, strict=True, skipinitialspace=separator != " ")
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, [cell.strip() for cell in cells]
            line = reader.line_num + 1
    except csv.Error as error:
        problems.append(Problem("split_file", file, f"{error}: check the quotes of this row", line))


def _json_lines(file: Path, text: str, problems: list[Problem]) -> Iterator[tuple[int, list[str]]]:
    """The names of the first object, then (line, cells) of every object, in the order of these names."""
    names: list[str] = []
    for number, line in enumerate(_lines(file, text), start=1):
        if not line.strip():
            continue
        try:
            pairs = json.loads(line, object_pairs_hook=list)
            if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs) or not pairs:
                raise ValueError("not an object")
            values = {name.strip(): _cell(value) for name, value in pairs}
            if not names:
                names = list(values)
                yield number, [name.strip() for name, _ in pairs]
                if len(names) < len(pairs):
                    return  # `read_rows` refuses these columns, which no row can have
            elif len(values) < len(pairs):
                raise ValueError("a name occurs twice in it")
            if odd := sorted(values.keys() ^ names):
                raise ValueError(f"{', '.join(odd)}: only in this or in the first object")
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            problems.append(Problem("bad_row", file, f"no usable JSON object ({reason})", number))
        else:
            yield number, [values[name] for name in names]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise ValueError(f"a value that is neither text nor number: {str(value)[:40]}")
