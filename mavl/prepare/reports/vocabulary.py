"""The findings that a labeller is to find: those given by name, those of books, or the 75 of the vocabulary."""

from collections.abc import Sequence
from pathlib import Path

from mavl.files import FileError, read_text
from mavl.progress import note
from mavl.text.books import BookError, read_books
from mavl.text.synonyms import key, meaning
from mavl.vocab import FINDINGS, is_name


class FindingsError(FileError):
    """Names that are no findings."""


def read_findings(names: Sequence[str], books: Sequence[Path]) -> tuple[str, ...]:
    """The findings; the 75 where neither is given.

    names: findings, or one file with a finding in each line. Raises FindingsError for what is no name and for names
    that differ in spelling alone.
    """
    if len(names) == 1 and Path(names[0]).is_file():
        names = [line.strip() for line in read_text(Path(names[0])).splitlines() if line.strip()]
    found = [*names, *(finding for book in books for finding in _findings_of(book))] or list(FINDINGS)
    spelled: dict[str, str] = {}
    for name in found:
        if not is_name(name) or not key(name):
            raise FindingsError(f"{name!r} is no name of a finding")
        if (other := spelled.setdefault(key(name), name)) != name:
            raise FindingsError(f"{other!r} and {name!r} are one name in two spellings: keep one of them")
    meanings: dict[str, str] = {}
    for name in spelled.values():
        if (other := meanings.setdefault(meaning(name), name)) != name:
            note(f"note: {other!r} and {name!r} are one finding: a mention of one of them is none of the other")
    return tuple(spelled.values())


def _findings_of(book: Path) -> list[str]:
    try:
        return list(read_books([book]).sentences)
    except BookError as error:
        try:
            return list(read_books((), [book]).sentences)
        except BookError:
            raise error from None
