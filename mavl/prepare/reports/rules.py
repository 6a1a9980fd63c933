"""A rule labeller: phrases of findings, and what negates them or leaves them open, as rules.yaml lists them.

It is NegEx (Chapman et al., Journal of Biomedical Informatics 2001) for reports of chest X-rays: a trigger before or
after a finding counts up to the next ending, such as "but".
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from mavl.prepare.reports.places import places_of
from mavl.prepare.reports.protocol import Mention, Report, Status
from mavl.prepare.reports.sections import Sections, read_sentences, tables
from mavl.prepare.reports.words import pattern_of, phrases, spell, tokens
from mavl.progress import note, plural
from mavl.text.synonyms import all_names, key, meaning

_DOUBT = "possible_"
"""What a phrase such as "cannot be excluded" becomes before negations are looked for."""

_ENOUGH = 6
_ENGLISH = frozenset("the of and are with without there lung lungs heart clear right left size chest".split())
"""Words of a report, and those of which an English one of that length has at least one (99.6 % of Open-I's do)."""


class Found(NamedTuple):
    """A finding in a spelled sentence: characters start to end.

    heads: findings that it is a kind of; gaps: whether other words, as "not", may be among those of its phrase.
    """

    start: int
    end: int
    finding: str
    heads: tuple[str, ...] = ()
    gaps: bool = False


class RuleLabeller:
    """Mentions of findings by rules.

    findings: their names, any; sections: those that are read.
    """

    name = "rules"

    def __init__(self, findings: Sequence[str], sections: Sections = "both"):
        self.findings = tuple(findings)
        self.sections: Sections = sections
        self._finding_of = _phrases_of(self.findings)
        self._joined = pattern_of(self._finding_of)
        self._distinct = {name: pattern_of(of) for name in self.findings if (of := _listed("distinct", name))}
        self._open = [(pattern_of([phrase]), name) for name, phrase in _open_phrases(self.findings)]

    def label(self, reports: Sequence[Report]) -> Iterator[list[Mention]]:
        """The mentions of each report, in the order of its sentences. Prints where most reports are not English."""
        long = foreign = 0
        for report in reports:
            sentences = read_sentences(report, self.sections)
            words = re.findall(r"\w+", " ".join(sentences).lower())
            long += len(words) >= _ENOUGH
            foreign += len(words) >= _ENOUGH and _ENGLISH.isdisjoint(words)
            yield [mention for sentence in sentences for mention in self.mentions(sentence)]
        if 2 * foreign > long:
            note(
                f"note: {foreign:,} of {plural(long, 'report')} with {_ENOUGH} words or more seem not to be English, "
                "the only language of the rules: their negations are not seen. --labeler llm reads other languages"
            )

    def estimate(self, reports: Sequence[Report]) -> str:
        """That it costs no request."""
        return f"no request to make for {plural(len(reports), 'report')}"

    def describe(self) -> dict[str, Any]:
        """Nothing: rules need no further numbers."""
        return {}

    def mentions(self, sentence: str) -> list[Mention]:
        """The mentions of a sentence."""
        triggers, made = _triggers(), []
        masked = triggers.mask(spell(sentence))
        for each, places in self._located(sentence):
            status = triggers.status(masked, each)
            if status is None:
                continue
            names = (each.finding, *each.heads) if status == "present" else (each.finding,)
            made += [Mention(name, status, place, sentence) for name in names for place in places]
        return list(dict.fromkeys(made))

    def findings_in(self, text: str) -> set[str]:
        """The findings that a text names, whatever it says of them."""
        return {name for found, _ in self._located(text) for name in (found.finding, *found.heads)}

    def _located(self, sentence: str) -> list[tuple[Found, tuple[str, ...]]]:
        """The findings that a sentence names, with their anatomies."""
        found = self._find(spell(sentence))
        places = places_of(tokens(sentence), [(each.start, each.end) for each in found])
        return [pair for pair in zip(found, places, strict=True) if pair[1]]

    def _find(self, spelled: str) -> list[Found]:
        found = []
        for match in self._joined.finditer(spelled):
            for finding, heads in self._finding_of[match[0]]:
                found.append(Found(match.start(), match.end(), finding, heads))
        for pattern, finding in self._open:
            found += [Found(*match.span(), finding, gaps=True) for match in pattern.finditer(spelled)]
        others = {
            name: [match.span() for match in pattern.finditer(spelled)] for name, pattern in self._distinct.items()
        }
        return sorted(
            each
            for each in found
            if not any(start <= each.start and each.end <= end for start, end in others.get(each.finding, ()))
        )


def _phrases_of(findings: Sequence[str]) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """{phrase without gaps: [(finding, findings that it is a kind of)]}. A finding's own name means no other one."""
    own = {spell(finding): finding for finding in findings}
    made: dict[str, dict[str, tuple[str, ...]]] = {}
    for spelled, finding in own.items():
        words = spelled.split()
        tails = (" ".join(words[start:]) for start in range(1, len(words)))
        heads = (own[f" {tail} "] for tail in tails if f" {tail} " in own)
        heads = tuple(head for head in heads if finding not in map(key, _listed("distinct", head)))
        made.setdefault(spelled.strip(), {})[finding] = heads
    for finding in findings:
        for phrase in _other_phrases(finding):
            if ".." not in phrase and (spelled := spell(phrase)) not in own:
                made.setdefault(spelled.strip(), {})[finding] = ()
    return {phrase: list(of.items()) for phrase, of in made.items()}


def _open_phrases(findings: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(finding, phrase) of all phrases with gaps."""
    return ((finding, phrase) for finding in findings for phrase in _other_phrases(finding) if ".." in phrase)


def _other_phrases(finding: str) -> list[str]:
    """What reports call a finding, beside its name."""
    meant = meaning(finding)
    named = [name for pair in all_names() if meaning(pair[1]) == meant for name in pair]
    return [*phrases(_listed("terms", finding)), *named]


def _listed(table: str, finding: str) -> list[str]:
    """What a table of rules.yaml lists for a finding, under its own name or that of which it is a synonym."""
    names = (key(finding), meaning(finding))
    return [phrase for name, listed in tables()[table].items() if key(name) in names for phrase in listed]


class _Triggers:
    """The tables of negation and uncertainty as patterns over spelled sentences."""

    def __init__(self, content: dict):
        negation, uncertainty = content["negation"], content["uncertainty"]
        self.first = pattern_of(uncertainty["first"])
        self.no_trigger = pattern_of([*content["no_negation"], *content["no_ending"]])
        self.absent_before, self.absent_near = pattern_of(negation["before"]), pattern_of(negation["near"])
        self.absent_after = pattern_of(negation["after"])
        self.uncertain_before = pattern_of(uncertainty["before"])
        self.uncertain_after = pattern_of(uncertainty["after"])
        self.endings, self.beginnings = pattern_of(content["endings"]), pattern_of(content["beginnings"])
        self.causes = pattern_of(content["causes"])
        self.left_out = pattern_of(content["left_out"])
        self.earlier, self.still = pattern_of(content["earlier"]), pattern_of(content["still"])

    def mask(self, spelled: str) -> str:
        """The sentence without what looks like a trigger and is none, and with "cannot exclude" as "possible"."""
        spelled = self.first.sub(lambda match: _DOUBT.ljust(len(match[0]), "_"), spelled)
        return self.no_trigger.sub(lambda match: "_" * len(match[0]), spelled)

    def status(self, spelled: str, found: Found) -> Status | None:
        """The status of a finding in a masked sentence; None for one that the report does not see in these images."""
        start, end = found.start, found.end
        stop = self.endings.search(spelled, end)
        last = stop.start() if stop else None
        first = max(_last_end(pattern, spelled, start) for pattern in (self.endings, self.absent_after))
        begin = _last_end(self.beginnings, spelled, start)
        first = first if " or " in spelled[begin:last] else max(first, begin)
        after = spelled[end:last]
        before = spelled[max(first - 1, 0) : (end if found.gaps else start) + 1]
        if self.left_out.search(before) or self.left_out.search(after):
            return None
        if self.earlier.search(before + after) and not self.still.search(after):
            return None
        if _DOUBT in before + after:
            return "uncertain"
        words = len(before) - (end - start if found.gaps else 0) - 1
        effect = before[max(_last_end(self.causes, before, words) - 1, 0) :]
        comma = effect.rfind(" , ", 0, max(words - (len(before) - len(effect)) + 1, 0))
        stop = self.causes.search(after)
        if (
            self.absent_before.search(effect)
            or self.absent_near.search(effect, max(comma, 0))
            or self.absent_after.search(after[: stop.start() + 1 if stop else None])
        ):
            return "absent"
        if self.uncertain_before.search(before) or self.uncertain_after.search(after):
            return "uncertain"
        return "present"


def _last_end(pattern: re.Pattern[str], text: str, before: int) -> int:
    """Where the last match of a pattern before a place ends; 0 for none."""
    return max((match.end() for match in pattern.finditer(text, 0, max(before, 0))), default=0)


@cache
def _triggers() -> _Triggers:
    return _Triggers(tables())
