"""The anatomies of findings by the words near them, by the rules of mavl/prepare/radgraph/rules.yaml.

A place is a run of words such as "base of the left lung" or "right middle and lower lobes". One that follows a
preposition belongs to the findings before it, another one to the findings that follow. In "opacity in the left base,
consistent with atelectasis" it belongs to both.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from mavl.prepare.radgraph.rules import OTHER, anatomy_row, place_words
from mavl.prepare.reports.sections import tables
from mavl.vocab import ANATOMIES, UNSPECIFIED

AND, STOPS = "and", (";", ":")
BARRIERS = (",", "without")
"""What separates a place from a finding that follows, unless a preposition comes before the place."""

LINKS = frozenset(("and", "or", ",", "nor", "and/or"))


Span = tuple[int, int]


class Run(NamedTuple):
    """Tokens first to last (exclusive) that name places; after: whether a preposition comes before them."""

    first: int
    last: int
    after: bool
    anatomies: tuple[str, ...]


def places_of(words: Sequence[tuple[int, str]], spans: Sequence[tuple[int, int]]) -> list[tuple[str, ...]]:
    """The anatomies of findings; none for what is part of a place, as "lower" in "left lower lobe".

    Args:
        words: (place, word) of each token of the sentence.
        spans: where each finding starts and ends, by the places of `words`, in rising order.
    """
    if not spans:
        return []
    places, texts = [place for place, _ in words], [word for _, word in words]
    found = [_tokens_in(places, span) for span in spans]
    parts = {span for span in found if all(word in _tables().modifiers for word in texts[slice(*span)])}
    held: dict[Span, list[str]] = {span: [] for span in found if span not in parts}
    for run in _runs(texts):
        for owner in _owners(run, list(held), texts):
            held[owner] += run.anatomies
    for one, other in pairwise(held):
        if not held[other] and _is_named_by(texts[one[1] : other[0]]):
            held[other] = held[one]
    return [() if span in parts else tuple(dict.fromkeys(held[span])) or (UNSPECIFIED,) for span in found]


def _tokens_in(places: Sequence[int], span: tuple[int, int]) -> Span:
    inside = [number for number, place in enumerate(places) if span[0] <= place < span[1]]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def _owners(run: Run, found: Sequence[Span], words: Sequence[str]) -> list[Span]:
    """The findings that a run of words belongs to, of those found."""
    overlapping = [span for span in found if span[0] < run.last and run.first < span[1]]
    if overlapping:
        return [span for span in found if any(of[0] <= span[0] and span[1] <= of[1] for of in overlapping)]
    before = [span for span in found if span[1] <= run.first and _joined(words[span[1] : run.first])]
    follows = [span for span in found if span[0] >= run.last]
    after = [span for span in follows if _joined(words[run.last : span[0]], () if run.after else BARRIERS)]
    if before and (run.after or not after):
        return _coordinated(before[::-1], words)
    return _coordinated(after, words)


def _is_named_by(between: Sequence[str]) -> bool:
    """Whether words such as "consistent with" between two findings make the second one a name of the first."""
    known = _tables()
    return any(word in known.names for word in between) and not any(word in STOPS or word == AND for word in between)


def _joined(between: Sequence[str], barriers: Sequence[str] = ()) -> bool:
    """Whether words between a place and a finding leave them in one clause."""
    return not any(word in _tables().endings or word in barriers for word in between)


def _coordinated(near: Sequence[Span], words: Sequence[str]) -> list[Span]:
    """The first of the findings, the nearest first, and those that only commas, "and" and "or" separate from it."""
    owners = list(near[:1])
    for one, other in pairwise(near):
        first, last = sorted((one, other))
        if any(word not in LINKS for word in words[first[1] : last[0]]):
            break
        owners.append(other)
    return owners


def _runs(words: Sequence[str]) -> Iterator[Run]:
    """The runs of words that name an anatomy."""
    known, start = _tables(), 0
    while start < len(words):
        if words[start] not in known.words:
            start += 1
            continue
        end = last = start + 1
        while end < len(words):
            if words[end] in known.words:
                last = end + 1
            elif words[end] not in known.fillers and words[end] != AND:
                break
            end += 1
        before = next((word for word in reversed(words[:start]) if word not in known.fillers or word == "of"), "")
        preposition = before in known.prepositions
        if anatomies := _anatomies(words[start:last]):
            yield Run(start, last, preposition, anatomies)
        start = last


def _anatomies(words: Sequence[str]) -> tuple[str, ...]:
    """The anatomies that a run of words names: several where "and" joins them."""
    known = _tables()
    parts: list[list[str]] = [[]]
    for word in words:
        if word == AND:
            parts.append([])
        elif word not in known.fillers:
            parts[-1] += [each.replace("_", " ") for each in known.words[word].split()]
    root = next((word for part in reversed(parts) for word in reversed(part) if word not in known.modifiers), None)
    side: list[str] = []
    found = []
    for part in filter(None, parts):
        if root and all(word in known.modifiers for word in part):
            part = [*part, root]
        if any(word in known.sides for word in part):
            side = [word for word in part if word in known.sides]
        elif any(word in known.modifiers for word in part):
            part = [*side, *part]
        found.append(_anatomy(part))
    return tuple(dict.fromkeys(filter(None, found)))


def _anatomy(words: Sequence[str]) -> str | None:
    """The anatomy of the words of one place, its root first or last; None where no rule knows it."""
    for place in ([words[-1], *words[:-1]], words):
        anatomy = ANATOMIES[anatomy_row("|".join(place))]
        if anatomy != OTHER:
            return anatomy
    return None


class _Tables(NamedTuple):
    words: dict[str, str]
    modifiers: frozenset[str]
    sides: frozenset[str]
    fillers: frozenset[str]
    prepositions: frozenset[str]
    names: frozenset[str]
    endings: frozenset[str]


@cache
def _tables() -> _Tables:
    """The tables of places; words: {word: the words of the anatomy rules that it means}."""
    written = tables()["places"]
    modifiers, sides, fillers, prepositions, names = (
        frozenset(written[name]) for name in ("modifiers", "sides", "fillers", "prepositions", "names")
    )
    words = {word: word for word in place_words()} | dict.fromkeys(modifiers, "") | written["words"]
    words |= {word: word for word in modifiers}
    endings = frozenset(word for ending in tables()["endings"] for word in ending.split() if " " not in ending)
    return _Tables(words, modifiers, sides, fillers, prepositions, names, endings | set(STOPS))
