"""Inspection of books: incomplete entries, unfit lines, repeated lines, and findings too similar to each other.

inspection = inspect(read_entries(paths), Justified(), encoder)
inspection.problems     # what has to be mended, or justified
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from mavl.concepts.answers import NO_FLUID, line_problem
from mavl.concepts.similarity import (
    MOST_PAIRS,
    Similarity,
    by_encoder,
    by_words,
    near_pairs,
    tfidf_vectors,
    words,
)
from mavl.config.loader import Settings, load
from mavl.files import NotJSONError, read_json
from mavl.progress import plural
from mavl.text.books import BookError, Books
from mavl.vocab import ASPECTS, DESCRIPTION, is_name

if TYPE_CHECKING:
    from mavl.text.protocol import TextEncoder  # torch takes seconds

LINES_ALIKE = 0.6
"""Cosine by words from which two lines say the same: of five words, weighted by rarity, three are shared."""

MOST_FINDINGS = 50_000
"""All pairs of findings are compared, in some ten minutes for so many."""

LONGEST_SHOWN = 300
"""Most characters of a line in a message."""

TRUE_NEGATIVES = {f"fluid: {NO_FLUID}": "a true negative, which findings without fluid share"}
SAME_LINE = "same line"


@dataclass(frozen=True)
class Problem:
    """A fault at `where` (findings, or lines as finding/aspect). reason: why it may stay; None where it may not."""

    kind: str
    where: tuple[str, ...]
    text: str
    reason: str | None = None


class Alike(Settings):
    """Two findings, or two lines as finding/aspect, that may be alike, and the reason."""

    pair: tuple[str, str]
    reason: str = Field(min_length=1)


class Justified(Settings):
    """Exceptions: {line that findings may share: reason}, beside TRUE_NEGATIVES, and pairs that may be alike."""

    lines: dict[str, str] = Field(default_factory=dict)
    pairs: tuple[Alike, ...] = ()

    def reason(self, problem: Problem) -> str | None:
        """Why a problem may stay; None where it may not."""
        if problem.kind == SAME_LINE and problem.text in (lines := TRUE_NEGATIVES | self.lines):
            return lines[problem.text]
        return next((alike.reason for alike in self.pairs if set(alike.pair) == set(problem.where)), None)

    def unused(self, problems: Sequence[Problem]) -> list[str]:
        """The exceptions that no problem needs."""
        needed = {problem.text for problem in problems} | {frozenset(problem.where) for problem in problems}
        pairs = [" and ".join(alike.pair) for alike in self.pairs if frozenset(alike.pair) not in needed]
        return [*(line for line in self.lines if line not in needed), *pairs]


@dataclass(frozen=True)
class Entries:
    """The readable content of the files, {finding: {aspect: line}}, and the problems of the rest."""

    lines: dict[str, dict[str, str]]
    problems: list[Problem]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """The result. similarities: of the complete findings, by words and, with an encoder, by its vectors."""

    entries: Entries
    problems: list[Problem]
    justified: list[Problem]
    unused: list[str]
    similarities: list[Similarity]


def read_entries(paths: Sequence[Path]) -> Entries:
    """Books of any kind, however incomplete; of two lines of one aspect the later one counts.

    BookError for a file that is no book, and for more findings than can be compared.
    """
    lines: dict[str, dict[str, str]] = defaultdict(dict)
    problems: list[Problem] = []
    for path in paths:
        for finding, entry in _read(path, problems).items():
            if not is_name(finding):
                problems.append(Problem("name", (shown(finding),), f"{path}: it is empty, too long or unprintable"))
                continue
            parts = [entry.get("description"), entry.get("aspects")] if isinstance(entry, dict) else [entry]
            for part in parts:
                lines[finding] |= {} if part is None else dict(_lines(path, finding, part, problems))
    if len(lines) > MOST_FINDINGS:
        raise BookError(f"{len(lines):,} findings; at most {MOST_FINDINGS:,} can be compared at once, split the books")
    return Entries(dict(lines), problems, tuple(map(str, paths)))


def read_justified(paths: Iterable[Path]) -> Justified:
    """The exceptions of all these YAML files; ConfigError for other content."""
    files = [load(Justified, path) for path in paths]
    lines = {line: reason for file in files for line, reason in file.lines.items()}
    return Justified(lines=lines, pairs=tuple(alike for file in files for alike in file.pairs))


def inspect(entries: Entries, justified: Justified, encoder: "TextEncoder | None" = None) -> Inspection:
    """All checks, with the justified problems apart. Only findings with all aspects are compared as a whole."""
    found = [*entries.problems, *_problems(entries.lines)]
    complete = Books({finding: of for finding, of in entries.lines.items() if set(ASPECTS) <= set(of)}, {})
    similarities = []
    if len(complete.sentences) > 1:
        similarities = [by_words(complete), *([by_encoder(complete, encoder)] if encoder else [])]
    for similarity in similarities:
        near, number = similarity.too_near()
        for one, other, value in near:
            text = f"{value:.2f} by {similarity.measure}; {similarity.threshold:.2f} is too near: {similarity.why}"
            found.append(Problem("near findings", (one, other), text))
        found += _further("near findings", number - len(near))
    judged = [replace(problem, reason=justified.reason(problem)) for problem in found]
    remaining, excused = ([each for each in judged if (each.reason is None) is open] for open in (True, False))
    return Inspection(entries, remaining, excused, justified.unused(found), similarities)


def _read(path: Path, problems: list[Problem]) -> dict:
    """{finding: description, lines, or both} of a book of any kind; repeated names are added to the problems."""

    def note_twice(pairs: list[tuple]) -> dict:
        twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
        problems.extend(Problem("named twice", (name,), f"{path} has it twice; JSON keeps the last") for name in twice)
        return dict(pairs)

    try:
        book = read_json(path, note_twice)
    except OSError as error:
        raise BookError(f"{path}: {error.strerror}") from error
    except NotJSONError as error:
        raise BookError(str(error)) from error
    if not isinstance(book, dict):
        raise BookError(f"{path}: a book is a JSON object of findings, this is a {type(book).__name__}")
    return book["findings"] if isinstance(book.get("findings"), dict) else book


def _lines(path: Path, finding: str, part: object, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """(aspect, line) of a description or of a list of aspect lines."""
    if isinstance(part, str):
        yield DESCRIPTION, part
    elif not isinstance(part, list) or not all(isinstance(line, str) for line in part):
        what = f"neither a sentence nor a list of lines: {repr(part)[:80]}"
        problems.append(Problem("entry", (finding,), f"{path}: {what}"))
    else:
        seen = set()
        for line in part:
            head = line.partition(":")[0].strip().lower()
            aspect = "other" if head == "others" else head
            if aspect not in ASPECTS[1:] or aspect in seen:
                what = "twice" if aspect in seen else "which is no aspect"
                problems.append(Problem("aspect", (finding,), f"{path}: {head[:80]!r}, {what}, in {line[:200]!r}"))
            seen.add(aspect)
            if aspect in ASPECTS[1:]:
                yield aspect, line


def _problems(lines: dict[str, dict[str, str]]) -> Iterator[Problem]:
    """Missing aspects, lines that break a rule by themselves, and lines that say the same or nearly the same.

    The same: up to case and punctuation. Nearly the same: of one aspect, or of one finding.
    """
    for finding, of in lines.items():
        if missing := [aspect for aspect in ASPECTS if aspect not in of]:
            yield Problem("missing", (finding,), f"no {', '.join(missing)}")
    rows = [(finding, aspect, words(aspect, line)) for finding, of in lines.items() for aspect, line in of.items()]
    places, plain = [f"{finding}/{aspect}" for finding, aspect, _ in rows], [_plain(text) for *_, text in rows]
    same: dict[str, list[int]] = defaultdict(list)
    for row, (_, aspect, text) in enumerate(rows):
        same[plain[row]].append(row)
        if problem := line_problem(aspect, text):
            yield Problem("line", (places[row],), f"{problem}: {shown(text)}")
    for first, *others in same.values():
        if others:
            finding, aspect, _ = rows[first]
            yield Problem(SAME_LINE, tuple(places[row] for row in (first, *others)), lines[finding][aspect])
    if any(plain):
        near, number = _near_lines(rows, plain)
        for i, j in near:
            yield Problem("near lines", (places[i], places[j]), f"{shown(rows[i][2])} | {shown(rows[j][2])}")
        yield from _further("near lines", number - len(near))


def _near_lines(rows: list[tuple[str, str, str]], plain: list[str]) -> tuple[list[tuple[int, int]], int]:
    """The pairs of nearly equal lines of one aspect, or of one finding, in their order, and their number.

    rows: (finding, aspect, words), those of a finding together. Of lines that say the same the first one counts.
    """
    vectors, first = tfidf_vectors([text for *_, text in rows]), {}
    found, number = [], 0
    for aspect in ASPECTS:
        of_aspect = [row for row, each in enumerate(rows) if each[1] == aspect]
        of_aspect = [row for row in of_aspect if first.setdefault((aspect, plain[row]), row) == row]
        near = near_pairs(vectors[of_aspect], LINES_ALIKE)
        found += [(of_aspect[i], of_aspect[j]) for i, j in near.rows.tolist()]
        number += near.number
    for apart in range(1, len(ASPECTS)):
        cosines = np.asarray(vectors[:-apart].multiply(vectors[apart:]).sum(axis=1)).ravel()
        within = [(row, row + apart) for row in np.flatnonzero(cosines >= LINES_ALIKE).tolist()]
        within = [(i, j) for i, j in within if rows[i][0] == rows[j][0] and plain[i] != plain[j]]
        found += within
        number += len(within)
    return sorted(found), number


def _further(kind: str, number: int) -> list[Problem]:
    text = f"{plural(number, 'further pair')}; the nearest {MOST_PAIRS:,} are listed"
    return [Problem(kind, (), text)] if number else []


def shown(text: str) -> str:
    """The text as a terminal can show it, or the beginning of a long one."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
