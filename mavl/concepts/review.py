"""A sheet for a clinician: findings with their lines and boxes to tick, written from a book and read back into it."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mavl.concepts.answers import length_problem, tidy
from mavl.concepts.book import Entry, WholeBook, read_whole_book
from mavl.concepts.files import ConceptError, read_text, write_text
from mavl.concepts.names import as_spelled_in
from mavl.vocab import ASPECTS

ACCEPT, EDIT, REJECT = "accept as it stands", "accept with my edits", "reject"

_HEAD = """# Review of {book}

Does each line say what is seen on a frontal chest film, of this finding and of no other? For each finding put an x into
one box, `[x]`. To correct a line, write over its words behind the bold one and tick "{edit}". A finding
without a tick stays unreviewed. Put your name here; a date left empty is the day the sheet is read back.

Reviewer:

Date (YYYY-MM-DD):
"""
_REVIEWER = re.compile(r"^Reviewer:[ \t]*(.*)$", re.MULTILINE)
_DATE = re.compile(r"^Date[^:\n]*:[ \t]*(.*)$", re.MULTILINE)
_SECTION = re.compile(r"^## +", re.MULTILINE)
_TEXT = re.compile(r"<!-- text (\w+) -->")
_LINE = re.compile(r"[-*+]\s+\*\*(\w+):\*\*\s*(.*)")
_BOX = re.compile(r"(?:[-*+]\s*)?\\?\[\s*([^\]\\]*?)\s*\\?\]\s*(.*)")
"""A box to tick; some editors put backslashes before its brackets, some people none of the rest."""
_TICKS = set("xXvV\u2713\u2714\u2611")
_BARE_CHOICE = re.compile(rf".*(?:{ACCEPT}|{EDIT}).*|\W*\w{{0,3}}\W*{REJECT}\W*", re.IGNORECASE)


class ReviewError(ConceptError):
    """A sheet that cannot be written or read back; the message names the findings."""


@dataclass(frozen=True)
class Section:
    """What a sheet holds of one finding. text: fingerprint of the words it was written with; unclear: rows that hold a
    choice, but no box, or one with another sign than an x in it.
    """

    finding: str
    text: str | None
    lines: dict[str, str]
    ticked: tuple[str, ...]
    unclear: tuple[str, ...]

    def problem(self, entry: Entry | None) -> str | None:
        """Why the section cannot be read into the book that has this entry."""
        if self.unclear:
            return f'has a row that is neither ticked nor open, {self.unclear[0]!r}; write "- [x] ..." or "- [ ] ..."'
        if len(self.ticked) > 1:
            return "has more than one box ticked"
        if unknown := set(self.ticked) - {ACCEPT, EDIT, REJECT}:
            return f"has a box of its own, {unknown.pop()!r}"
        if entry is None:
            return "is not in the book"
        if self.text != entry.fingerprint:
            return "has other words in the book by now; write a new sheet"
        if list(self.lines) != list(ASPECTS):
            return f"should have one line each for {', '.join(ASPECTS)}, in this order"
        if empty := [aspect for aspect, line in self.lines.items() if not line or not line.isprintable()]:
            return f"has no words for {', '.join(empty)}"
        if self.ticked in ((), (ACCEPT,)) and (edited := self.edited(entry)):
            return f'has other words for {", ".join(edited)}; tick "{EDIT}"'
        written = self.edited(entry) if self.ticked == (EDIT,) else ()
        lengths = {aspect: length_problem(aspect, self.lines[aspect]) for aspect in written}
        return next((f'"{aspect}" {wrong}' for aspect, wrong in lengths.items() if wrong), None)

    def edited(self, entry: Entry) -> tuple[str, ...]:
        """Aspects whose words are not the entry's."""
        return tuple(aspect for aspect, line in entry.lines.items() if self.lines[aspect] != tidy(line, aspect))


@dataclass(frozen=True)
class Review:
    """Findings by what a sheet said of them; those that were edited are among the accepted."""

    accepted: list[str]
    edited: list[str]
    rejected: list[str]
    open: list[str]

    def __str__(self) -> str:
        return (
            f"{len(self.accepted)} accepted ({len(self.edited)} of them edited), {len(self.rejected)} rejected, "
            f"{len(self.open)} without a tick"
        )


def write_sheet(book_path: Path, sheet: Path, findings: Collection[str] = ()) -> int:
    """Write the sheet of these findings of a book, reviewed or not, or of all that are unreviewed; returns how many."""
    if sheet.exists():
        raise ReviewError(f"{sheet}: exists already, with ticks perhaps; choose another name")
    entries = read_whole_book(book_path).findings
    findings = as_spelled_in(book_path, entries, findings)
    wanted = {
        name: entry
        for name, entry in entries.items()
        if (name in findings if findings else not entry.provenance.reviewed)
    }
    if not wanted:
        raise ReviewError(f"{book_path}: holds no finding to review")
    parts = [_HEAD.format(book=book_path.name, edit=EDIT), *(_section(name, entry) for name, entry in wanted.items())]
    write_text(sheet, "\n".join(parts))
    return len(wanted)


def read_review(book_path: Path, sheet: Path) -> Review:
    """Read a sheet back into its book; ReviewError, and the book is as it was, where anything in it is unclear."""
    book = read_whole_book(book_path)
    head, *parts = _SECTION.split(read_text(sheet))
    if not parts:
        raise ReviewError(f'{sheet}: no finding stands in it (no line "## name"); is it a sheet that --review wrote?')
    sections = [_parse(part) for part in parts]
    ticked = [section for section in sections if section.ticked]
    names = [section.finding for section in sections]
    problems = [f"{name!r} stands there twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    checked = ((section.finding, section.problem(book.findings.get(section.finding))) for section in sections)
    problems += [f"{finding!r} {problem}" for finding, problem in checked if problem]
    reviewer, day = _signature(head, problems)
    if ticked and not reviewer:
        problems.append("the reviewer's name is missing at the top")
    if problems:
        raise ReviewError(f"{sheet}: {'; '.join(problems)}")
    review = Review(
        accepted=[each.finding for each in ticked if each.ticked != (REJECT,)],
        edited=[s.finding for s in ticked if s.ticked == (EDIT,) and s.edited(book.findings[s.finding])],
        rejected=[each.finding for each in ticked if each.ticked == (REJECT,)],
        open=[each.finding for each in sections if not each.ticked],
    )
    if ticked:
        _reviewed(book, ticked, reviewer, day).write(book_path)
    return review


def _section(finding: str, entry: Entry) -> str:
    made = entry.provenance
    source = f"{made.model}, prompts {made.prompt_version}, {made.created}" if made.model else "a person"
    return "\n".join(
        [
            f"## {finding}\n",
            *(f"- **{aspect}:** {line}" for aspect, line in entry.lines.items()),
            "",
            *(f"- [ ] {choice}" for choice in (ACCEPT, EDIT, REJECT)),
            f"\n<!-- text {entry.fingerprint} -->",
            f"_Written by {source}._\n",
        ]
    )


def _parse(part: str) -> Section:
    """A section of the sheet, whose lines an editor may have broken."""
    finding, *rows = part.splitlines()
    lines: dict[str, str] = {}
    ticked, unclear = [], []
    aspect = None
    for row in map(str.strip, rows):
        if match := _LINE.fullmatch(row):
            aspect = match[1]
            lines[aspect] = match[2]
        elif match := _BOX.fullmatch(row):
            aspect = None
            if match[1] in _TICKS:
                ticked.append(match[2].strip())
            elif match[1]:
                unclear.append(row)
        elif _BARE_CHOICE.fullmatch(row):
            aspect = None
            unclear.append(row)
        elif row and aspect:
            lines[aspect] += f" {row}"
        elif not row:
            aspect = None
    texts = _TEXT.findall(part)  # ours is the last, and a line may hold its like
    words = {aspect: tidy(line, aspect) for aspect, line in lines.items()}
    return Section(finding.strip(), texts[-1] if texts else None, words, tuple(ticked), tuple(unclear))


def _signature(head: str, problems: list[str]) -> tuple[str, date]:
    """The reviewer and the day; a day that is none goes to the problems."""
    reviewer, day = (match[1].strip() if (match := which.search(head)) else "" for which in (_REVIEWER, _DATE))
    try:
        return reviewer, date.fromisoformat(day) if day else date.today()
    except ValueError:
        problems.append(f"the date {day!r} is not as 2026-01-31")
        return reviewer, date.today()


def _reviewed(book: WholeBook, ticked: list[Section], reviewer: str, day: date) -> WholeBook:
    findings, rejected = dict(book.findings), dict(book.rejected)
    for section in ticked:
        entry = findings[section.finding]
        signed = {"reviewed": True, "reviewed_by": reviewer, "reviewed_on": day, "edited": section.edited(entry)}
        provenance = entry.provenance.model_copy(update=signed)
        if section.ticked == (REJECT,):
            del findings[section.finding]
            thrown_out = entry.model_copy(update={"provenance": provenance.model_copy(update={"edited": ()})})
            rejected[section.finding] = (*rejected.get(section.finding, ()), thrown_out)
        else:
            findings[section.finding] = Entry.of(section.lines, provenance)
    return book.model_copy(update={"findings": findings, "rejected": rejected})
