"""Findings that an answer may slip into without being asked: this project's own, and what else they are called."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mavl.config.settings import EvaluationSettings
from mavl.text.books import read_books
from mavl.text.synonyms import all_names, key
from mavl.vocab import FINDINGS, NORMALITY

REPOSITORY = Path(__file__).resolve().parents[2]

_LOOKS = """
    opacity line low tip tube catheter lead device clip wire hardware stent metal material body
    air fluid drainage pressure prominence marking nodule mass lesion cyst cavity cavitation bulla bullae granuloma
    plaque calcification calcified consolidation density pattern glass opacification scar scarring thicken thickening
    widen enlarge enlargement dilation dilatation elongation expand distention elevation tortuous degenerative
    change loss shift deviation collapse ggo compression aerate crowd crowding blunt blunting obscure deformity
    engorgement infiltrate infiltration redistribution cephalization band area trapping hyperinflate hyperinflation
    overinflation process abnormality disease finding borderline abnormal obs healthy unchanged
""".split()
"""Words that say how something looks, or that something is there: other findings are made of it."""

_PARTS = "lung heart chest diaphragm hemidiaphragm bone rib aorta mediastinum pleura silhouette angle sign".split()
"""Names that end in a part of the body, as "enlarged heart", are phrases to begin any description with."""

_ORDINARY = {key(word) for word in (*NORMALITY, *_LOOKS, *_PARTS)}


def without_ordinary(names: Iterable[str]) -> set[str]:
    """The names of a run or its book, but for those that are a word of reports and no more, such as air."""
    return {name for name in names if key(name) not in _ORDINARY}


@cache
def diagnoses() -> frozenset[str]:
    """Names of the vocabulary, of this project's books where they are at hand, and their synonyms, but for ordinary
    ones, by the last word: "The opacity is white" and "Multiple nodules: ..." speak of the finding asked.
    """
    settings = EvaluationSettings(benchmark="none")
    books = [path for name in settings.descriptions if (path := REPOSITORY / name).is_file()]
    names = {*FINDINGS, *read_books(books).sentences, *(name for name, _ in all_names())}
    return frozenset(name for name in names if not _is_ordinary(key(name).split()))


def _is_ordinary(words: list[str]) -> bool:
    """By the last word; but "interstitial lung disease" is more than a disease."""
    return words[-1] in _ORDINARY and (words[-1] != "disease" or len(words) == 1)
