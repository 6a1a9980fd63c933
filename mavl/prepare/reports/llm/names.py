"""The names in answers -> findings and anatomies of the vocabulary."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache

from mavl.prepare.radgraph.rules import EXCLUDED, OTHER, TAIL, anatomy_row
from mavl.prepare.reports.llm.answers import Laterality, Stated
from mavl.prepare.reports.protocol import Mention
from mavl.text.synonyms import key, resolve
from mavl.vocab import ANATOMIES, UNSPECIFIED, UnknownFindingError

SIDES, BOTH = ("left", "right"), "both"
UNLISTED = {TAIL, EXCLUDED, OTHER, UNSPECIFIED}
"""Classes for what has no name of its own; a model is not to choose them."""


class Names:
    """The vocabulary of a run, and the names that answers had and the vocabulary has not.

    findings, places: the names to state in a prompt; a place is an anatomy without its side. unknown_findings: names of
    findings that mean none of the vocabulary; their items are left out. unknown_places: names that mean no anatomy;
    their items are at `other`, or at `unspecified` where there is no `other`. {name: items}.
    """

    def __init__(self, findings: Sequence[str], anatomies: Sequence[str] = ANATOMIES):
        self.findings = [name for name in findings if name not in UNLISTED]
        split = {anatomy: _split(anatomy) for anatomy in anatomies if anatomy not in UNLISTED}
        self.places = list(dict.fromkeys(place for place, _ in split.values()))
        self._anatomies = {(key(place), side): anatomy for anatomy, (place, side) in split.items()}
        self._elsewhere = OTHER if OTHER in anatomies else UNSPECIFIED
        self.unknown_findings: Counter[str] = Counter()
        self.unknown_places: Counter[str] = Counter()
        self._finding = cache(self._find)

    def mentions(self, labels: Sequence[Stated]) -> Iterator[Mention]:
        """The mentions of a report, each once, in order."""
        made = {}
        for each in labels:
            finding = self._finding(each.finding)
            if finding is None:
                self.unknown_findings[_short(each.finding)] += 1
                continue
            for anatomy in self._anatomies_of(each.anatomy, each.laterality):
                made[Mention(finding, each.status, anatomy, " ".join(each.quote.split()))] = None
        yield from made

    def _find(self, name: str) -> str | None:
        try:
            return resolve(name, self.findings)
        except UnknownFindingError:
            return None

    def _anatomies_of(self, name: str, laterality: Laterality) -> list[str]:
        """The anatomies of a place: one, or those of both sides. A side in the name itself counts."""
        place, side = _split(name)
        side = side or laterality.replace("none", "")
        sides = SIDES if BOTH in (side, laterality) else (side,)
        found = [self._anatomy(place, side) for side in sides]
        if None in found:
            self.unknown_places[_short(" ".join(filter(None, (laterality.replace("none", ""), name))))] += 1
        return list(dict.fromkeys(anatomy or self._elsewhere for anatomy in found))

    def _anatomy(self, place: str, side: str) -> str | None:
        """The anatomy of a place ("" where none is stated) and a side ("" likewise), or None where none has both.

        Other names than those of the prompt go by the table for RadGraph's words. An anatomy without sides, such as the
        spine, takes any.
        """
        if not place and not side:
            return UNSPECIFIED
        if exact := self._anatomies.get((key(place), side)):
            return exact
        for words in (place.split(), key(place).split()):
            *modifiers, root = words or [side]
            by_rule = ANATOMIES[anatomy_row("|".join(dict.fromkeys(filter(None, (root, side, *modifiers)))))]
            if by_rule in self._anatomies.values() and _split(by_rule)[1] in ("", side):
                return by_rule
        return self._anatomies.get((key(place), ""))


def _split(name: str) -> tuple[str, str]:
    """(place, side) of an anatomy; a side is left, right, both or "".

    >>> _split("lower_left_lobe"), _split("hilar_unspec"), _split("right apical lung")
    (('lower lobe', 'left'), ('hilar', ''), ('apical lung', 'right'))
    """
    words = name.lower().replace("_", " ").split()
    sides = {word for word in words if word in SIDES}
    place = " ".join(word for word in words if word not in (*SIDES, "unspec", UNSPECIFIED))
    return place, BOTH if len(sides) == 2 else "".join(sides)


def _short(name: str) -> str:
    return " ".join(name.split())[:60]
