"""A clinician's review sheet: a CSV with a row for each line of a finding, written from a book and read back into it.

The reviewer opens it with a spreadsheet program and fills in these columns:
- verdict: accept, edit or reject, in any row of a finding; a finding without a verdict stays unreviewed;
- edited text: words in place of the row's text, with the verdict "edit";
- reviewer, date (YYYY-MM-DD): in any row of the finding, or once in the sheet; by default the date is today's.
"""

import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from mavl.concepts import ConceptError
from mavl.concepts.answers import counted, line_problem, tidy
from mavl.concepts.book import Entry, read_whole_book
from mavl.concepts.plan import as_spelled_in
from mavl.files import read_text, write_text
from mavl.vocab import ASPECTS

ACCEPT, EDIT, REJECT = VERDICTS = ("accept", "edit", "reject")
COLUMNS = ("finding", "aspect", "text", "verdict", "edited text", "reviewer", "date", "source")

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""The start of a cell that a spreadsheet program may run as a formula; one more apostrophe in front makes it text."""

Row = dict[str, str]
"""{column: cell}, and the number of the row in the sheet under "row"."""


@dataclass(frozen=True)
class Review:
    """Findings by verdict. The edited ones are among the accepted; the open ones have no verdict."""

    accepted: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{len(self.accepted)} accepted ({len(self.edited)} of them edited), {len(self.rejected)} rejected, "
            f"{len(self.open)} without a verdict"
        )


def write_sheet(book_path: Path, sheet: Path, findings: Collection[str] = ()) -> int:
    """Write the sheet of these findings of a book, or of all that are unreviewed; returns their number."""
    if sheet.suffix.lower() != ".csv":
        raise ConceptError(f"{sheet}: the review sheet is a CSV; name it {sheet.with_suffix('.csv').name}")
    if sheet.exists():
        raise ConceptError(f"{sheet}: exists and may hold verdicts; choose another name")
    entries = read_whole_book(book_path).findings
    findings = as_spelled_in(book_path, entries, findings)
    wanted = [name for name, of in entries.items() if (name in findings if findings else not of.provenance.reviewed)]
    if not wanted:
        raise ConceptError(f"{book_path}: holds no finding to review")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for name in wanted:
        made = entries[name].provenance
        source = f"{made.model}, prompts {made.prompt_version}, {made.created}" if made.model else "a person"
        for aspect, line in entries[name].lines.items():
            cells = (name, aspect, line, "", "", "", "", source)
            writer.writerow([f"'{cell}" if _FORMULA.match(cell) else cell for cell in cells])
    sheet.parent.mkdir(parents=True, exist_ok=True)
    write_text(sheet, "\ufeff" + text.getvalue())  # without the byte order mark Excel expects another encoding
    return len(wanted)


def read_review(book_path: Path, sheet: Path) -> Review:
    """Read a sheet back into its book.

    ConceptError, and the book stays as it was, where a cell is unclear; it names one cell of each such finding.
    """
    book, rows = read_whole_book(book_path), _read_rows(sheet)
    sections: dict[str, list[Row]] = {}
    for row in rows:
        sections.setdefault(row["finding"], []).append(row)
    review, findings, rejected, problems = Review(), dict(book.findings), dict(book.rejected), []
    for finding, section in sections.items():
        try:
            verdict, edits = _verdict(section, findings.get(finding))
            signature = _signature(section, rows) if verdict else {}
        except _UnclearError as error:
            problems.append(str(error))
            continue
        if not verdict:
            review.open.append(finding)
            continue
        entry = findings.pop(finding) if verdict == REJECT else findings[finding]
        signed = entry.provenance.model_copy(update={"reviewed": True, "edited": tuple(edits), **signature})
        if verdict == REJECT:
            review.rejected.append(finding)
            rejected[finding] = (*rejected.get(finding, ()), entry.model_copy(update={"provenance": signed}))
        else:
            review.accepted.append(finding)
            findings[finding] = Entry.of(entry.lines | edits, signed)
            if edits:
                review.edited.append(finding)
    if problems:
        raise ConceptError(f"{sheet}: {'; '.join(problems)}")
    if len(review.open) < len(sections):
        book.model_copy(update={"findings": findings, "rejected": rejected}).write(book_path)
    return review


class _UnclearError(ValueError):
    """A cell that is unclear; the message names its row and column."""

    def __init__(self, row: Row, column: str, problem: str):
        super().__init__(f'row {row["row"]}, column "{column}": {problem}')


def _read_rows(sheet: Path) -> list[Row]:
    """The rows of a sheet, in which a spreadsheet program may have put ; or tabs in place of commas."""
    if sheet.suffix.lower() == ".md":
        raise ConceptError(f"{sheet}: sheets are CSV files now; write the sheet anew with --review SHEET.csv")
    text = read_text(sheet)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        header, *records = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    except (csv.Error, ValueError) as error:
        raise ConceptError(f"{sheet}: not CSV ({error if text else 'it is empty'})") from error
    header = [cell.strip().lower() for cell in header]
    if sorted(header) != sorted(COLUMNS):
        raise ConceptError(f"{sheet}: row 1: the columns are {', '.join(header)}; expected {', '.join(COLUMNS)}")
    rows = []
    for number, record in enumerate(records, start=2):
        if not any(map(str.strip, record)):
            continue
        if len(record) != len(header):
            raise ConceptError(f"{sheet}: row {number} has {counted(len(record), 'cell')} in {len(header)} columns")
        cells = (cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell for cell in record)
        rows.append({"row": str(number)} | dict(zip(header, (" ".join(cell.split()) for cell in cells), strict=True)))
    if not rows:
        raise ConceptError(f"{sheet}: holds no finding")
    return rows


def _verdict(section: list[Row], entry: Entry | None) -> tuple[str, dict[str, str]]:
    """The verdict on a finding, "" without one, and {aspect: words} of the edits."""
    if entry is None:
        raise _UnclearError(section[0], "finding", f"{section[0]['finding']!r} is not in the book")
    found, edits = {}, {}
    verdict = _only(section, "verdict").lower()
    for row in section:
        aspect, text = row["aspect"], tidy(row["edited text"], row["aspect"])
        if aspect not in ASPECTS:
            raise _UnclearError(row, "aspect", f"{aspect!r} is none of {', '.join(ASPECTS)}")
        if (first := found.setdefault(aspect, row)) is not row:
            raise _UnclearError(row, "aspect", f"{aspect!r} of {row['finding']!r} stands in row {first['row']} already")
        if row["verdict"] and verdict not in VERDICTS:
            raise _UnclearError(row, "verdict", f"{row['verdict']!r} is none of {', '.join(VERDICTS)}")
        if tidy(row["text"], aspect) != tidy(entry.lines[aspect], aspect):
            raise _UnclearError(row, "text", 'not the words of the book; edit in "edited text", or write a new sheet')
        if text and verdict != EDIT:
            raise _UnclearError(row, "edited text", f'needs the verdict "{EDIT}"')
        if text and (problem := line_problem(aspect, text)):
            raise _UnclearError(row, "edited text", problem)
        if text and text != tidy(entry.lines[aspect], aspect):
            edits[aspect] = text
    if missing := [aspect for aspect in ASPECTS if aspect not in found]:
        raise _UnclearError(section[-1], "aspect", f"{section[0]['finding']!r} has no row of {', '.join(missing)}")
    return verdict, edits


def _signature(section: list[Row], rows: list[Row]) -> dict[str, object]:
    """The reviewer and the date of a finding's review, as fields of its provenance."""
    values = {}
    for column in ("reviewer", "date"):
        given = sorted({row[column] for row in rows} - {""})
        values[column] = _only(section, column) or (given[0] if len(given) == 1 else "")
        if not values[column] and (given or column == "reviewer"):
            raise _UnclearError(section[0], column, f"is empty, and the sheet has {', '.join(given) or 'none'}")
    try:
        day = date.fromisoformat(values["date"]) if values["date"] else date.today()
    except ValueError:
        row = next(row for row in rows if row["date"] == values["date"])
        raise _UnclearError(row, "date", f"{row['date']!r} is not as 2026-01-31") from None
    return {"reviewed_by": values["reviewer"], "reviewed_on": day}


def _only(rows: list[Row], column: str) -> str:
    """The one content of a column in these rows, "" where all cells are empty."""
    filled = [row for row in rows if row[column]]
    for row in filled:
        if row[column].lower() != filled[0][column].lower():
            first = f"{filled[0][column]!r} in row {filled[0]['row']}"
            raise _UnclearError(row, column, f"{row[column]!r}, but {first}")
    return filled[0][column] if filled else ""
