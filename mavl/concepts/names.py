"""The names of findings to ask for, from the command line and from a file."""

from collections.abc import Iterable
from pathlib import Path

from mavl.concepts.files import ConceptError, read_text
from mavl.text.synonyms import key, spellings

LONGEST = 100
"""Characters of a name."""


class NameListError(ConceptError):
    """Names that cannot be asked for."""


def read_names(names: Iterable[str], file: Path | None) -> list[str]:
    """Names in the order given, each once; a file has one a line, and comments behind #.

    NameListError for none, for one that is no name, and for two spellings of one.
    """
    lines = read_text(file).splitlines() if file else []
    given = [*names, *(line.partition("#")[0] for line in lines)]
    tidy = list(dict.fromkeys(name for each in given if (name := " ".join(each.split()))))
    if not tidy:
        raise NameListError(f"no finding to ask for{f' in {file}' if file else ''}; give --names or --file")
    seen: dict[str, str] = {}
    for name in tidy:
        if len(name) > LONGEST or not name.isprintable() or not key(name):
            raise NameListError(f"{name[:LONGEST]!r} is no name: letters or digits, at most {LONGEST} signs")
        if (other := seen.setdefault(key(name), name)) != name:
            raise NameListError(f"{other!r} and {name!r} are two spellings of one finding; leave one out")
    return tidy


def as_spelled_in(book: Path, named: Iterable[str], names: Iterable[str]) -> list[str]:
    """The names as a book that names findings `named` spells them, so that none is asked or kept twice.

    NameListError for a name of which the book has two spellings, and not this one.
    """
    named = list(named)
    found = {name: spellings(name, named) for name in names}
    for name, spelled in found.items():
        if len(spelled) > 1:
            raise NameListError(f"{name!r} is spelled {' and '.join(map(repr, spelled))} in {book}; name one of these")
    return list(dict.fromkeys(spelled[0] if spelled else name for name, spelled in found.items()))


def counted(number: int, thing: str) -> str:
    """ "1 finding", "2 findings"."""
    return f"{number} {thing}{'s' * (number != 1)}"
