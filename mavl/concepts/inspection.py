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
from mavl.concepts.similarity import Similarity, by_encoder, by_words, tfidf_cosine, words
from mavl.config.loader import Settings, load
from mavl.files import NotJSONError, read_json
from mavl.text.books import BookError, Books
from mavl.vocab import ASPECTS, DESCRIPTION

if TYPE_CHECKING:
    from mavl.text.protocol import TextEncoder  # torch takes seconds

LINES_ALIKE = 0.6
"""Cosine by words from which two lines say the same: of five words, weighted by rarity, three are shared."""

MOST_FINDINGS = 2000
"""All pairs of lines are compared at once, which takes 5 GB for so many findings and grows with their square."""

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
        for one, other, value in similarity.too_near():
            text = f"{value:.2f} by {similarity.measure}; {similarity.threshold:.2f} is too near: {similarity.why}"
            found.append(Problem("near findings", (one, other), text))
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
        problems.append(Problem("entry", (finding,), f"{path}: neither a sentence nor a list of lines: {part!r}"))
    else:
        seen = set()
        for line in part:
            head = line.partition(":")[0].strip().lower()
            aspect = "other" if head == "others" else head
            if aspect not in ASPECTS[1:] or aspect in seen:
                what = "twice" if aspect in seen else "which is no aspect"
                problems.append(Problem("aspect", (finding,), f"{path}: {head!r}, {what}, in {line!r}"))
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
            yield Problem("line", (places[row],), f"{problem}: {text}")
    for first, *others in same.values():
        if others:
            finding, aspect, _ = rows[first]
            yield Problem(SAME_LINE, tuple(places[row] for row in (first, *others)), lines[finding][aspect])
    if not any(plain):
        return
    for i, j in np.argwhere(np.triu(tfidf_cosine([text for *_, text in rows]) >= LINES_ALIKE, k=1)):
        together = rows[i][0] == rows[j][0] or rows[i][1] == rows[j][1]
        if together and plain[i] != plain[j]:
            yield Problem("near lines", (places[i], places[j]), f"{rows[i][2]} | {rows[j][2]}")


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
