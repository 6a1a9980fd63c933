"""The names of findings to ask for, from the command line and from a file."""

from collections.abc import Iterable
from pathlib import Path

from mavl.concepts.files import ConceptError, read_text
from mavl.synonyms import key

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
