"""What the words of a report graph mean: a place -> its anatomy, an observation -> its finding, by rules.yaml.

anatomy_row("lobe|left|lower")  -> the row of lower_left_lobe
finding_column("opacities")     -> the column of opacity
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import yaml

from mavl.vocab import ANATOMIES, FINDINGS

TABLES = Path(__file__).with_name("rules.yaml")
UNSPECIFIED, OTHER = "unspecified", "other"
TAIL, EXCLUDED = "tail_abnorm_obs", "excluded_obs"

_REMEMBERED = 1 << 14  # distinct places and observations; a million reports have more, most of them once
_SUFFIXES = (("es", ""), ("s", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ied", "y"), ("ing", ""), ("ing", "e"))
_PUNCTUATION = ".,;:-"  # that tokenisation left at an observation, as in "effusion ;" and "opacity-"


@dataclass(frozen=True)
class AnatomyRule:
    """Which places are an anatomy; rules.yaml says what the fields mean."""

    any_of: frozenset[str]
    each_of: tuple[frozenset[str], ...] = ()
    none_of: frozenset[str] = frozenset()
    or_exactly: frozenset[str] = frozenset()

    def matches(self, place: str) -> bool:
        words = set(place.split("|"))
        named = words & self.any_of and all(words & group for group in self.each_of) and not words & self.none_of
        return bool(named) or place in self.or_exactly


@dataclass(frozen=True)
class Tables:
    """rules.yaml, read. names: word or phrase -> what it is called; lemmas: irregular form -> word."""

    anatomies: dict[str, AnatomyRule]
    names: dict[str, str]
    irregular: dict[str, str]
    excluded: frozenset[str]
    words: frozenset[str]
    """All words that the tables and the vocabulary know: what an inflection may come from."""


@cache
def tables() -> Tables:
    raw = yaml.safe_load(TABLES.read_bytes())
    names = {form: name for name, forms in raw["lemmas"].items() for form in forms}
    known = {*FINDINGS, *names, *raw["excluded_words"]} - {TAIL, EXCLUDED}
    return Tables(
        anatomies={name: _rule(**fields) for name, fields in raw["anatomies"].items()},
        names=names,
        irregular={form: word for word, forms in raw["irregular"].items() for form in forms},
        excluded=frozenset(raw["excluded_words"]),
        words=frozenset(word for phrase in known for word in phrase.split()),
    )


def _rule(each_of: list[list[str]] = (), **fields: list[str]) -> AnatomyRule:
    return AnatomyRule(each_of=tuple(map(frozenset, each_of)), **{key: frozenset(v) for key, v in fields.items()})


@cache
def fingerprint() -> str:
    """Of the tables: labels made with others are not to be mixed with these."""
    return hashlib.blake2b(TABLES.read_bytes(), digest_size=8).hexdigest()


@lru_cache(_REMEMBERED)
def anatomy_row(place: str) -> int:
    """The row of a place, lower case, root first: that of the first rule it matches, else `other`."""
    found = (name for name, rule in tables().anatomies.items() if rule.matches(place))
    return ANATOMIES.index(UNSPECIFIED if place == UNSPECIFIED else next(found, OTHER))


@lru_cache(_REMEMBERED)
def finding_column(observation: str) -> int:
    """The column of an observation's words: a finding of the vocabulary, else excluded_obs or tail_abnorm_obs."""
    words = (word.strip(_PUNCTUATION) for word in observation.lower().split())
    lemmatised = " ".join(lemma(word) for word in words if word)
    name = tables().names.get(lemmatised, lemmatised)
    if name in tables().excluded:
        name = EXCLUDED
    return FINDINGS.index(name if name in FINDINGS else TAIL)


def lemma(word: str) -> str:
    """The word of the tables or the vocabulary that this one is an inflection of; the word itself if there is none.

    >>> [lemma(word) for word in ("opacities", "scarring", "enlarged", "worse", "spleen")]
    ['opacity', 'scar', 'enlarge', 'bad', 'spleen']
    """
    known = tables().words
    if word in known:
        return word
    return tables().irregular.get(word) or next((stem for stem in _stems(word) if stem in known), word)


def _stems(word: str) -> Iterator[str]:
    """What the word may be the plural or a form of the verb of, right or wrong."""
    for suffix, ending in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem != word:
            yield stem + ending
            if suffix in ("ed", "ing") and stem[-1:] == stem[-2:-1]:
                yield stem[:-1]  # scarred, clipping
