"""Sentences and phrases in one spelling, so that phrases are found as substrings: " no left pleural effusion . "."""

import re
from collections.abc import Iterable
from functools import lru_cache

from mavl.prepare.radgraph.rules import lemma
from mavl.prepare.reports.sections import tables
from mavl.text.synonyms import key

_TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")
_KEPT = ",;:?()"
_GAP = r"(?:[^\W_][\w']* ){0,4}?"


@lru_cache(1 << 15)
def stem(word: str) -> str:
    """The one spelling of a word and its inflections; "" for an article and for punctuation that separates nothing."""
    if not word[0].isalnum():
        return word if word in _KEPT else ""
    word = word.lower()
    return key(word if word in tables()["no_inflections"] else lemma(word)).replace(" ", "")


def spell(text: str) -> str:
    """The stems of a text's words with a space around each.

    >>> spell("No pleural effusions.")
    ' no pleural effusion '
    """
    return f" {' '.join(filter(None, map(stem, _TOKEN.findall(text))))} "


def tokens(text: str) -> list[tuple[int, str]]:
    """(place of its stem in `spell(text)`, word in lower case) of each word that has a stem."""
    found, place = [], 1
    for word in _TOKEN.findall(text):
        if spelled := stem(word):
            found.append((place, word.lower()))
            place += len(spelled) + 1
    return found


def phrases(written: Iterable[str]) -> list[str]:
    """Phrases of rules.yaml, their <groups> written out."""
    found = []
    for phrase in written:
        group = re.search("<(.+?)>", phrase)
        if group:
            found += phrases(phrase.replace(group[0], each) for each in tables()["groups"][group[1]])
        else:
            found.append(phrase)
    return found


def pattern_of(written: Iterable[str]) -> re.Pattern[str]:
    """A pattern of any of the phrases in a text of `spell`, the longer ones first, without the spaces around it."""
    found = sorted({" ".join(phrase.split()) for phrase in phrases(written)}, key=lambda each: (-len(each), each))
    alternatives = [" ".join(map(_word_pattern, phrase.split())).replace(" .. ", f" {_GAP}") for phrase in found]
    return re.compile(rf"(?<= )(?:{'|'.join(alternatives) or '(?!)'})(?= )")


def _word_pattern(written: str) -> str:
    """A pattern of one word of a phrase: of each of those that | separates."""
    if written == "..":
        return written
    spelled = sorted({re.escape(spell(each).strip()) for each in written.split("|")} - {""}, key=len, reverse=True)
    return f"(?:{'|'.join(spelled)})" if len(spelled) > 1 else "".join(spelled)
