"""Checks of the language model's answers: what an answer must hold, and which other findings it must not describe."""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import ConfigDict, create_model

from mavl.config.settings import DESCRIPTION_BOOKS
from mavl.llm.answers import AnswerError, read_objects, response_schema
from mavl.progress import plural
from mavl.text.books import read_books
from mavl.text.synonyms import all_names, key, meaning
from mavl.vocab import ASPECTS, DESCRIPTION, FINDINGS, NORMALITY

DESCRIPTION_WORDS = (10, 50)
ASPECT_WORDS = (2, 25)
"""Fewest and most words of a line. The prompts set narrower bounds: one word too many costs no second answer."""

NO_FLUID = "no fluid"
"""The one line that findings share."""

_HEDGES = re.compile(
    r"\b(as an ai|language model|i'm sorry|i am sorry|i cannot|i can't|consult|may|might|can be|could|possibly"
    r"|potentially|likely|probably|perhaps|presumably|sometimes|varies|variable|depends|depending|not applicable"
    r"|not specific|non-?specific|n/a|medical advice)\b|^not visible\b",
    re.IGNORECASE,
)
"""Words of uncertainty. "Not visible" only at the start of a line: "vessels not visible within it" is a sign."""

_UNSEEN = re.compile(
    r"\b(?:(?-i:CT|HRCT|MRI|PET)|ultrasound|tomograph\w*|symptoms?|cough\w*|fever|dyspno?ea|shortness of breath)\b",
    re.IGNORECASE,
)
"""Other modalities, and symptoms."""

_VERBS = r"is|are|has|have|shows?|appears?|presents?|refers|means|describes|consists|looks?"
_SUBJECTS = (
    re.compile(rf"(.+?)(?::|\s(?:{_VERBS})\b)", re.IGNORECASE),
    re.compile(r"(.+?)\s(?:with\b|[\u2013\u2014-]\s)", re.IGNORECASE),
    re.compile(rf"in\s(.+?)(?:[,:]|\s(?:there|the|{_VERBS})\b)", re.IGNORECASE),
)
"""The subject of "A pneumothorax is air …" or "Pneumothorax: air …", of "Pneumothorax with a thin line", and of
"In pneumothorax, air …"."""

_LIQUIDS = {"effusion", "edema", "fluid", "empyema", "hydrothorax"}
"""Last words of the subjects that a `fluid` line of any finding may have."""

_WORDS = """
    opacity line low tip tube catheter lead device clip wire hardware stent metal material body
    air fluid drainage pressure prominence marking nodule mass lesion cyst cavity cavitation bulla bullae granuloma
    plaque calcification calcified consolidation density pattern glass opacification scar scarring thicken thickening
    widen enlarge enlargement dilation dilatation elongation expand distention elevation tortuous degenerative
    change loss shift deviation collapse ggo compression aerate crowd crowding blunt blunting obscure deformity
    engorgement infiltrate infiltration redistribution cephalization band area trapping hyperinflate hyperinflation
    overinflation process abnormality disease finding borderline abnormal obs healthy unchanged
    lung heart chest diaphragm hemidiaphragm bone rib aorta mediastinum pleura silhouette angle sign
""".split()
"""Words for an appearance or a part of the body, of which the descriptions of all findings consist."""

_ORDINARY = {key(word) for word in (*NORMALITY, *_WORDS)}

_FIELDS: dict[str, Any] = dict.fromkeys(("finding", *ASPECTS), (str, ...))
_ANSWER = create_model("Answer", __config__=ConfigDict(extra="forbid", strict=True), **_FIELDS)

RESPONSE_SCHEMA = response_schema("finding", _ANSWER)
"""It states no lengths, which not all servers support."""


class Checker:
    """Parses and checks answers.

    Args:
        others: names of the other findings of the run, which no line may describe.
        examples: lines of the prompts' examples, which weak models copy.
        known: names of common findings, which only an `other` line may describe, as a look-alike.
    """

    def __init__(self, others: Iterable[str] = (), examples: Iterable[str] = (), known: Iterable[str] = ()):
        self._others = {key(other): other for other in others}
        self._known = {key(other): other for other in known} | self._others
        self._examples = {_bare(line) for line in examples} - {NO_FLUID}

    def read(self, text: str, finding: str) -> dict[str, str]:
        """{aspect: words}, the description first, with single spaces; AnswerError lists all faults."""
        answer, problems = _parse(text), []
        lines = {aspect: tidy(answer[aspect], aspect) for aspect in ASPECTS}
        if key(answer["finding"]) != key(finding):
            problems.append(f'"finding" is "{answer["finding"][:80]}", but "{finding}" was asked')
        same: dict[str, list[str]] = {}
        for aspect, line in lines.items():
            problems += [f'"{aspect}" {problem}' for problem in self._problems(aspect, line, finding)]
            same.setdefault(_bare(line) or aspect, []).append(f'"{aspect}"')
        problems += [f"{' and '.join(aspects)} hold the same words" for aspects in same.values() if len(aspects) > 1]
        if problems:
            raise AnswerError(problems)
        return lines

    def _problems(self, aspect: str, line: str, finding: str) -> Iterable[str]:
        if wrong := line_problem(aspect, line):
            yield wrong
        if hedge := _HEDGES.search(line):
            yield f'says "{hedge[0]}"; say firmly what is seen'
        if unseen := _UNSEEN.search(line):
            yield f'says "{unseen[0]}"; say what a plain film shows'
        if other := self._other_subject(aspect, line, finding):
            yield f'describes "{other}" instead of "{finding}"'
        if _bare(line) in self._examples:
            yield "is copied from an example"

    def _other_subject(self, aspect: str, line: str, finding: str) -> str | None:
        """The other finding that is the subject of the line.

        "Pulmonary fibrosis is ..." is a line of fibrosis too, and "the fracture is ..." one of a rib fracture. The
        aspect `other` is that of companions and look-alikes.
        """
        own, passing = set(key(finding).split()), aspect == "other"
        for form in _SUBJECTS[:1] if passing else _SUBJECTS:
            words = key(match[1]).split() if (match := form.match(line)) else []
            other = (self._others if passing else self._known).get(" ".join(words))
            liquid = aspect == "fluid" and words[-1:] and words[-1] in _LIQUIDS
            if other and not (own <= set(words) or set(words) <= own or meaning(other) == meaning(finding) or liquid):
                return other
        return None


def line_problem(aspect: str, line: str) -> str | None:
    """What is wrong with a line of this aspect whatever the finding: empty, its length, unprintable characters."""
    if not line:
        return "is empty"
    if not line.isprintable():
        return "holds characters that cannot be printed"
    fewest, most = DESCRIPTION_WORDS if aspect == DESCRIPTION else ASPECT_WORDS
    words = len(line.split())
    return None if fewest <= words <= most else f"has {plural(words, 'word')}; write {fewest} to {most}"


def tidy(line: str, aspect: str) -> str:
    """The line with single spaces and without "border:" in front of a border's words."""
    line = " ".join(line.split())
    head, colon, words = line.partition(":")
    return words.strip() if colon and head.strip().lower() == aspect else line


def without_ordinary(names: Iterable[str]) -> set[str]:
    """The names without those that are ordinary words of reports, such as air."""
    return {name for name in names if key(name) not in _ORDINARY}


@cache
def diagnoses() -> frozenset[str]:
    """Names of the vocabulary and of this project's books, and their synonyms.

    Names that end in an ordinary word are left out: "The opacity is white" and "Multiple nodules: ..." may describe the
    requested finding. "Interstitial lung disease" stays, since it is more specific than "disease".
    """
    names = {*FINDINGS, *read_books(DESCRIPTION_BOOKS).sentences, *(name for name, _ in all_names())}
    words = {name: key(name).split() for name in names}
    specific = {name for name, of in words.items() if of[-1] == "disease" and len(of) > 1}
    return frozenset(specific | {name for name, of in words.items() if of[-1] not in _ORDINARY})


def _parse(text: str) -> dict[str, str]:
    """The last JSON object in the text that has all keys. AnswerError where there is none."""
    answers, error = read_objects(text, _ANSWER.model_validate)
    if not answers:
        raise error
    return answers[-1].model_dump()


def _bare(line: str) -> str:
    return line.lower().rstrip(". ")
