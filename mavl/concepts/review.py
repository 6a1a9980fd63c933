"""A clinician's review sheet: a CSV with a row for each line of a finding, written from a book and read back into it.

The reviewer opens it with a spreadsheet program and fills in these columns:
- verdict: accept, edit or reject, in any row of a finding; a finding without a verdict stays unreviewed;
- edited text: words in place of the row's text, with the verdict "edit";
- reviewer, date (YYYY-MM-DD): in any row of the finding, or once in the sheet; by default the date is today's.
"""

import csv
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from mavl.concepts import ConceptError
from mavl.concepts.answers import line_problem, tidy
from mavl.concepts.book import Entry, read_whole_book
from mavl.concepts.plan import as_spelled_in
from mavl.files import csv_text, csv_writer, read_text, write_text
from mavl.vocab import ASPECTS

ACCEPT, EDIT, REJECT = VERDICTS = ("accept", "edit", "reject")
COLUMNS = ("finding", "aspect", "text", "verdict", "edited text", "reviewer", "date", "source")

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
    writer = csv_writer(text)
    writer.writerow(COLUMNS)
    for name in wanted:
        made = entries[name].provenance
        source = f"{made.model}, prompts {made.prompt_version}, {made.created}" if made.model else "a person"
        for aspect, line in entries[name].lines.items():
            writer.writerow((name, aspect, line, "", "", "", "", source))
    sheet.parent.mkdir(parents=True, exist_ok=True)
    write_text(sheet, "\ufeff" + text.getvalue())  # without the byte order mark Excel expects another encoding
    return len(wanted)


def read_review(book_path: Path, sheet: Path) -> Review:
    """Read a sheet back into its book; where a cell is unclear, the book stays as it was, and ConceptError names it."""
    book, rows = read_whole_book(book_path), _read_rows(sheet)
    sections: dict[str, list[Row]] = {}
    for row in rows:
        sections.setdefault(row["finding"], []).append(row)
    if problems := [text for section in sections.values() for text in _unclear(section, rows, book.findings)]:
        raise ConceptError(f"{sheet}: {'; '.join(problems)}")
    review, findings, rejected = Review(), dict(book.findings), dict(book.rejected)
    for finding, section in sections.items():
        if not (verdict := _first(section, "verdict")):
            review.open.append(finding)
            continue
        entry, day = findings[finding], _first(section, "date") or _first(rows, "date")
        edits = {row["aspect"]: text for row in section if (text := row["edited text"]) not in ("", row["text"])}
        signature = {
            "reviewed": True,
            "reviewed_by": _first(section, "reviewer") or _first(rows, "reviewer"),
            "reviewed_on": date.fromisoformat(day) if day else date.today(),
            "edited": tuple(edits),
        }
        entry = Entry.of(entry.lines | edits, entry.provenance.model_copy(update=signature))
        if verdict == REJECT:
            del findings[finding]
            rejected[finding] = (*rejected.get(finding, ()), entry)
            review.rejected.append(finding)
        else:
            findings[finding] = entry
            review.accepted.append(finding)
            review.edited.extend([finding] if edits else [])
    if len(review.open) < len(sections):
        book.model_copy(update={"findings": findings, "rejected": rejected}).write(book_path)
    return review


def _read_rows(sheet: Path) -> list[Row]:
    """The rows of a sheet, in which a spreadsheet program may have put ; or tabs in place of commas."""
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
            raise ConceptError(f"{sheet}: row {number} has {len(record)} cells in {len(header)} columns")
        row = dict(zip(header, (" ".join(csv_text(cell).split()) for cell in record), strict=True))
        tidied = {column: tidy(row[column], row["aspect"]) for column in ("text", "edited text")}
        rows.append(row | tidied | {"verdict": row["verdict"].lower(), "row": str(number)})
    if not rows:
        raise ConceptError(f"{sheet}: holds no finding")
    return rows


def _unclear(section: list[Row], rows: list[Row], findings: dict[str, Entry]) -> Iterator[str]:
    """The unclear cells in the rows of a finding, with their row and column."""

    def at(row: Row, column: str, problem: str) -> str:
        return f'row {row["row"]}, column "{column}": {problem}'

    finding, verdict, seen = section[0]["finding"], _first(section, "verdict"), {}
    if finding not in findings:
        yield at(section[0], "finding", f"{finding!r} is not in the book")
        return
    for row in section:
        aspect, edited = row["aspect"], row["edited text"]
        if aspect not in ASPECTS:
            yield at(row, "aspect", f"{aspect!r} is none of {', '.join(ASPECTS)}")
        elif (first := seen.setdefault(aspect, row)) is not row:
            yield at(row, "aspect", f"{aspect!r} of {finding!r} stands in row {first['row']} already")
        elif row["text"] != tidy(findings[finding].lines[aspect], aspect):
            yield at(row, "text", 'not the words of the book; edit in "edited text", or write a new sheet')
        if row["verdict"] not in ("", *VERDICTS):
            yield at(row, "verdict", f"{row['verdict']!r} is none of {', '.join(VERDICTS)}")
        if edited and verdict != EDIT:
            yield at(row, "edited text", f'needs the verdict "{EDIT}"')
        elif edited and (problem := line_problem(aspect, edited)):
            yield at(row, "edited text", problem)
        try:
            date.fromisoformat(row["date"] or "2026-01-31")
        except ValueError:
            yield at(row, "date", f"{row['date']!r} is not as 2026-01-31")
    if missing := [aspect for aspect in ASPECTS if aspect not in seen]:
        yield at(section[-1], "aspect", f"{finding!r} has no row of {', '.join(missing)}")
    for column in ("verdict", "reviewer", "date"):
        filled = [row for row in section if row[column]]
        for row in filled:
            if row[column] != filled[0][column]:
                yield at(row, column, f"{row[column]!r}, but {filled[0][column]!r} in row {filled[0]['row']}")
        given = sorted({row[column] for row in rows} - {""})
        if verdict and not filled and (len(given) > 1 or (column == "reviewer" and not given)):
            yield at(section[0], column, f"is empty, and the sheet has {', '.join(given) or 'none'}")


def _first(rows: list[Row], column: str) -> str:
    """The first content of a column in these rows, "" where all cells are empty."""
    return next((row[column] for row in rows if row[column]), "")
