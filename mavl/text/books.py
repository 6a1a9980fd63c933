"""Books: descriptions of findings in words. Read, check, find by name.

A disease book is JSON `{finding: description}`; an aspect book is JSON `{finding: [8 strings]}`, each string
"aspect: words", sorted by aspect. Both are the released formats. To state its origin, a book may put them under
"findings", beside an "about" of its own. A whole book, JSON
`{"findings": {finding: {"description": ..., "aspects": [8 strings], ...}}}` (mavl.concepts.book), is both in one.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mavl.files import NotJSONError, parse_json, shipped
from mavl.progress import note, plural
from mavl.vocab import ASPECTS, DESCRIPTION, LONGEST_NAME, is_name, unknown_name

LONGEST_TEXT = 10_000
"""Most characters of a description or a line."""


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

    def filled(self, findings: Iterable[str], aspects: Sequence[str] = ASPECTS) -> "Books":
        """The books in which those of the findings that have a description alone have it for every aspect.

        What is filled is printed; the hashes stay those of the files.
        """
        alone = [name for name in findings if len(aspects) > 1 and [*self.sentences.get(name, {})] == [DESCRIPTION]]
        if not alone:
            return self
        names = f"{plural(len(alone), 'finding')} without aspects in the books, {', '.join(alone[:5])}"
        note(f"note: {names}{', …' if len(alone) > 5 else ''}: the description stands for each aspect")
        made = {name: dict.fromkeys(aspects, self.sentences[name][DESCRIPTION]) for name in alone}
        return replace(self, sentences=self.sentences | made)

    def require(self, findings: Iterable[str], aspects: Sequence[str] = ASPECTS) -> None:
        """BookError that names every finding which lacks one of the aspects."""
        problems = []
        for name in findings:
            described = self.sentences.get(name, {})
            if not described:
                problems.append(unknown_name("finding", name, self.sentences))
            elif lacking := [aspect for aspect in aspects if aspect not in described]:
                problems.append(f"{name!r} has no {', '.join(lacking)}, only {', '.join(described)}")
        if problems:
            raise BookError(f"{' + '.join(self.hashes) or 'no book'}: {'; '.join(problems)}")


def read_books(descriptions: Iterable[Path | str] = (), aspects: Iterable[Path | str] = ()) -> Books:
    """Read disease books and aspect books; where two files describe a finding, the later one counts.

    This project's books are found in any working folder, by their names in a checkout.

    A whole book gives its descriptions to `descriptions` and its aspects to `aspects`.
    """
    sentences: dict[str, dict[str, str]] = {}
    hashes: dict[str, str] = {}
    for path in map(shipped, descriptions):
        for finding, text in _read(path, "description", hashes).items():
            if not isinstance(text, str) or not text.strip():
                raise BookError(f"{path}: the description of {finding!r} is {repr(text)[:80]}, not a sentence")
            _check_text(f"{path}: the description of {finding!r}", text)
            sentences.setdefault(finding, {})[DESCRIPTION] = text
    for path in map(shipped, aspects):
        for finding, lines in _read(path, "aspects", hashes).items():
            sentences.setdefault(finding, {}).update(_aspect_lines(f"{path}: {finding!r}", lines))
    return Books(sentences, hashes)


def in_sentences(path: Path | str) -> bool:
    """Whether a book is a disease book, `{finding: description}`, which gives no aspects."""
    return all(isinstance(entry, str) for entry in _read(shipped(path), "aspects", {}).values())


def _read(path: Path, part: str, hashes: dict[str, str]) -> dict:
    """{finding: its description, or its aspects}: that part of a whole book, all of a book of one kind."""
    try:
        content = path.read_bytes()
        book = parse_json(content, str(path))
    except OSError as error:
        raise BookError(f"{path}: {error.strerror}; the config's `text` section names the books") from error
    except NotJSONError as error:
        raise BookError(str(error)) from error
    if not isinstance(book, dict):
        raise BookError(f"{path}: a book is a JSON object of findings, this is a {type(book).__name__}")
    hashes["/".join(path.parts[-2:])] = hashlib.sha256(content).hexdigest()
    if not isinstance(entries := book.get("findings"), dict):  # a finding of that name has a text or a list
        entries = book
    if not entries:
        raise BookError(f"{path}: holds no finding")
    if wrong := [name for name in entries if name != " ".join(name.split()) or not is_name(name)]:
        needs = f"1 to {LONGEST_NAME} printable characters, and single blanks only inside"
        raise BookError(f"{path}: {wrong[0][:LONGEST_NAME]!r} is no name of a finding; it needs {needs}")
    if entries is book:
        return book
    if lacking := [name for name, entry in entries.items() if isinstance(entry, dict) and part not in entry]:
        raise BookError(f"{path}: {lacking[0]!r} has no {part!r}")
    return {name: entry[part] if isinstance(entry, dict) else entry for name, entry in entries.items()}


def _check_text(place: str, text: str) -> None:
    """BookError for a text that no encoder takes as it is."""
    if len(text) > LONGEST_TEXT:
        raise BookError(f"{place} has {len(text):,} characters; a text has at most {LONGEST_TEXT:,}")
    if strange := [letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs") and not letter.isspace()]:
        raise BookError(f"{place} holds {strange[0]!r}, which is no printable character")


def _aspect_lines(place: str, lines: object) -> dict[str, str]:
    """The eight lines of a finding by aspect. The released books write "others" in places for "other"."""
    expected = ASPECTS[1:]
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise BookError(f"{place} must be a list of {len(expected)} strings")
    found: dict[str, str] = {}
    for line in lines:
        _check_text(f"{place}: a line", line)
        head, _, words = line.partition(":")
        if words.strip():
            aspect = head.strip().lower()
            found["other" if aspect == "others" else aspect] = line
    if len(lines) != len(expected) or set(found) != set(expected):
        missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
        raise BookError(f"{place} has {len(lines)} aspects; missing or without words {missing}, unexpected {extra}")
    return found
