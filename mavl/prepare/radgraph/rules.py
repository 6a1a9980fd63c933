"""Words of report graphs -> rows and columns of the label matrix, by the tables of rules.yaml.

anatomy_row("lobe|left|lower")  -> the row of lower_left_lobe
finding_column("opacities")     -> the column of opacity
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import yaml

from mavl.vocab import ANATOMIES, FINDINGS, UNSPECIFIED

TABLES = Path(__file__).with_name("rules.yaml")
OTHER = "other"
TAIL, EXCLUDED = "tail_abnorm_obs", "excluded_obs"

_CACHED = 1 << 14  # places and observations; a million reports have more, but most of the rest occur once
_SUFFIXES = (("es", ""), ("s", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ied", "y"), ("ing", ""), ("ing", "e"))
_PUNCTUATION = ".,;:-"  # tokenisation leaves it at observations, as in "effusion ;" and "opacity-"

_TABLES = yaml.safe_load(TABLES.read_bytes())
_NAMES, _IRREGULAR = (
    {form: name for name, forms in _TABLES[table].items() for form in forms} for table in ("lemmas", "irregular")
)
_EXCLUDED = frozenset(_TABLES["excluded_words"])
_LEMMAS = frozenset(word for phrase in {*FINDINGS, *_NAMES, *_EXCLUDED} - {TAIL, EXCLUDED} for word in phrase.split())


@lru_cache(_CACHED)
def anatomy_row(place: str) -> int:
    """The row of a place in lower case, root first: that of the first rule it matches, else `other`."""
    if place == UNSPECIFIED:
        return ANATOMIES.index(UNSPECIFIED)
    rules = _TABLES["anatomies"].items()
    return ANATOMIES.index(next((name for name, rule in rules if _matches(place, **rule)), OTHER))


def _matches(place: str, any_of=(), each_of=(), none_of=(), or_exactly=()) -> bool:
    words = set(place.split("|"))
    named = not any(words.isdisjoint(group) for group in (any_of, *each_of)) and words.isdisjoint(none_of)
    return named or place in or_exactly


def place_words() -> frozenset[str]:
    """The single words that the rules of the anatomies know."""
    texts = (
        text for rule in _TABLES["anatomies"].values() for of in rule.values() for each in of for text in _each(each)
    )
    return frozenset(word for text in texts for word in text.split("|") if " " not in word)


def _each(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else text


@lru_cache(_CACHED)
def finding_column(observation: str) -> int:
    """The column of an observation's words: a finding of the vocabulary, else excluded_obs or tail_abnorm_obs."""
    words = (word.strip(_PUNCTUATION) for word in observation.lower().split())
    lemmatised = " ".join(lemma(word) for word in words if word)
    name = _NAMES.get(lemmatised, lemmatised)
    if name in _EXCLUDED:
        name = EXCLUDED
    return FINDINGS.index(name if name in FINDINGS else TAIL)


def lemma(word: str) -> str:
    """The word of the tables or the vocabulary of which this word is an inflection, else the word itself.

    >>> [lemma(word) for word in ("opacities", "scarring", "enlarged", "worse", "spleen")]
    ['opacity', 'scar', 'enlarge', 'bad', 'spleen']
    """
    if word in _LEMMAS:
        return word
    return _IRREGULAR.get(word) or next((stem for stem in _stems(word) if stem in _LEMMAS), word)


def _stems(word: str) -> Iterator[str]:
    """Candidates of which the word may be the plural or a verb form."""
    for suffix, ending in _SUFFIXES:
        stem = word.removesuffix(suffix)
        if stem != word:
            yield stem + ending
            if suffix in ("ed", "ing") and stem[-1:] == stem[-2:-1]:
                yield stem[:-1]  # scarred, clipping
