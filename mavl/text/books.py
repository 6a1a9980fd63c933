"""Books: what a finding looks like, in words. Read, check, look up by name.

A disease book is JSON `{finding: description}`; an aspect book is JSON `{finding: [8 strings]}`, each string
"aspect: words", sorted by aspect. Both are the released formats, so released books load as they are; to say where it
comes from, a book may put them under "findings", beside an "about" of its own. A whole book, JSON
`{"findings": {finding: {"description": ..., "aspects": [8 strings], ...}}}` (mavl.concepts.book), is both in one.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mavl.vocab import ASPECTS, DESCRIPTION, unknown_name


class BookError(ValueError):
    """A book that cannot be used; the message names the file, the finding and what is wrong."""


@dataclass(frozen=True)
class Books:
    """Sentences by finding and aspect.

    sentences: {finding: {aspect: sentence}}; hashes: {folder/file: SHA-256 of its bytes}, kept with every result
    (with the folder, since the release calls two different books `observation explanation.json`).
    """

    sentences: dict[str, dict[str, str]]
    hashes: dict[str, str]

    def sentence(self, finding: str, aspect: str) -> str:
        """One sentence; BookError when no book describes the finding, or not this aspect of it."""
        self.require([finding], [aspect])
        return self.sentences[finding][aspect]

    def require(self, findings: Iterable[str], aspects: Sequence[str] = ASPECTS) -> None:
        """BookError that names every finding which lacks one of the aspects."""
        if complaints := [text for name in findings if (text := self._complaint(name, aspects))]:
            raise BookError(f"{' + '.join(self.hashes) or 'no book'}: {'; '.join(complaints)}")

    def _complaint(self, finding: str, aspects: Sequence[str]) -> str | None:
        if finding not in self.sentences:
            return unknown_name("finding", finding, self.sentences)
        described = self.sentences[finding]
        lacking = [aspect for aspect in aspects if aspect not in described]
        return f"{finding!r} has no {', '.join(lacking)}, only {', '.join(described)}" if lacking else None


def read_books(descriptions: Iterable[Path | str] = (), aspects: Iterable[Path | str] = ()) -> Books:
    """Read disease books and aspect books; where two files describe a finding, the later one counts.

    Of a whole book, the descriptions are taken where it stands among the disease books, the aspects among the others.
    """
    sentences: dict[str, dict[str, str]] = {}
    hashes: dict[str, str] = {}
    for path in map(Path, descriptions):
        for finding, text in _part(path, _read_json(path, hashes), "description").items():
            if not isinstance(text, str) or not text.strip():
                raise BookError(f"{path}: the description of {finding!r} is {text!r}, not a sentence")
            sentences.setdefault(finding, {})[DESCRIPTION] = text
    for path in map(Path, aspects):
        for finding, lines in _part(path, _read_json(path, hashes), "aspects").items():
            sentences.setdefault(finding, {}).update(_aspect_lines(path, finding, lines))
    return Books(sentences, hashes)


def _read_json(path: Path, hashes: dict[str, str]) -> dict:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BookError(f"{path}: {error.strerror}; the config's `text` section names the books") from error
    try:
        book = json.loads(content)
    except ValueError as error:
        raise BookError(f"{path}: not JSON ({error})") from error
    if not isinstance(book, dict):
        raise BookError(f"{path}: a book is a JSON object of findings, this is a {type(book).__name__}")
    hashes["/".join(path.parts[-2:])] = hashlib.sha256(content).hexdigest()
    return book


def _part(path: Path, book: dict, part: str) -> dict:
    """{finding: its description, or its aspects}: of a whole book that part, of a book of one kind all."""
    if not isinstance(entries := book.get("findings"), dict):  # a finding of that name has a text or a list
        return book
    for finding, entry in entries.items():
        if isinstance(entry, dict) and part not in entry:
            raise BookError(f"{path}: {finding!r} has no {part!r}")
    return {finding: entry[part] if isinstance(entry, dict) else entry for finding, entry in entries.items()}


def _aspect_lines(path: Path, finding: str, lines: object) -> dict[str, str]:
    """The eight lines of a finding by aspect. The released books write "others" in places for "other"."""
    expected = ASPECTS[1:]
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise BookError(f"{path}: {finding!r} must be a list of {len(expected)} strings")
    found = {}
    for line in lines:
        head = line.partition(":")[0].strip().lower()
        found["other" if head == "others" else head] = line
    if len(lines) != len(expected) or set(found) != set(expected):
        missing = sorted(set(expected) - set(found))
        extra = sorted(set(found) - set(expected))
        raise BookError(f"{path}: {finding!r} has {len(lines)} aspects; missing {missing}, unexpected {extra}")
    return found
