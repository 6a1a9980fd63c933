"""Other names of findings: columns of CheXpert, ChestX-ray14 and PadChest, and everyday words.

    resolve("Pleural_Thickening", FINDINGS)  -> "thicken"
    resolve("enlarged heart", FINDINGS)      -> "cardiomegaly"

The table is `synonyms.yaml` beside this file.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import yaml

from mavl.vocab import UnknownFindingError, unknown_name

TABLE = Path(__file__).with_name("synonyms.yaml")
_SPELLING = (("ae", "e"), ("oe", "e"), ("our", "or"))
"""British to American, by rules that also garble words; both sides of a comparison are garbled alike."""


def key(name: str) -> str:
    """A name for comparisons: without case, accents, punctuation, articles, plural s and British spelling.

    >>> key("Pleural_Effusions") == key("the pleural effusion")
    True
    """
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", name) if not unicodedata.combining(letter))
    words = re.split(r"[\W_]+", plain.casefold())
    return " ".join(_singular(word) for word in words if word not in ("", "a", "an", "the"))


def resolve(name: str, *known: Iterable[str]) -> str:
    """The finding that `name` means, from the first collection of findings that holds it or what it is a synonym of.

    Of several spellings in a collection the one given counts, or else the first. UnknownFindingError when none has it.
    """
    meant = _table().get(key(name))
    groups = [list(findings) for findings in known]
    for findings in groups:
        for candidate in (name, meant):
            if candidate and (spelled := spellings(candidate, findings)):
                return spelled[0]
    everything = {finding for findings in groups for finding in findings}
    if meant:
        raise UnknownFindingError(f"{name!r} means {meant!r}: " + unknown_name("finding", meant, everything))
    synonyms = [synonym for synonym, finding in all_names() if finding in everything]
    raise UnknownFindingError(unknown_name("finding", name, [*sorted(everything), *synonyms]))


def spellings(name: str, known: Iterable[str]) -> list[str]:
    """The known names that differ from a name in spelling alone; only the name itself where it is among them."""
    known, wanted = list(known), key(name)
    return [name] if name in known else [each for each in known if key(each) == wanted]


def meaning(name: str) -> str:
    """The key of the finding that a name means: of its own, or of the one that it is a synonym of."""
    return key(_table().get(key(name), name))


def all_names() -> Iterator[tuple[str, str]]:
    """(name, finding) of every synonym in the table."""
    return ((name, finding) for finding, names in _read().items() for name in names)


def _singular(word: str) -> str:
    for british, american in _SPELLING:
        word = word.replace(british, american)
    if len(word) < 4 or word.endswith(("ss", "us", "is")):
        return word
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")


@cache
def _read() -> dict[str, list[str]]:
    return yaml.safe_load(TABLE.read_text(encoding="utf-8"))


@cache
def _table() -> dict[str, str]:
    """{key of a synonym: finding}."""
    return {key(synonym): finding for synonym, finding in all_names()}
