"""What an answer of the language model must hold, and what is wrong with one that cannot be used."""

import re
from collections import Counter
from collections.abc import Iterable

from pydantic import ConfigDict, ValidationError, create_model

from mavl.synonyms import key
from mavl.vocab import ASPECTS, DESCRIPTION

DESCRIPTION_WORDS = (10, 50)
ASPECT_WORDS = (2, 25)
"""Fewest and most words of a line. The prompts ask for less, so that a word too many costs no second answer."""

NO_FLUID = "no fluid"
"""The one line that findings share."""

_HEDGES = re.compile(
    r"\b(as an ai|language model|i'm sorry|i am sorry|i cannot|i can't|consult|may|might|can be|could be|varies"
    r"|variable|depends|depending|not applicable|not specific|n/a)\b",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"(.+?)(?::|\s(?:is|are|has|have|shows?|appears?|presents?|refers|means|describes|consists|looks?)\b)",
    re.IGNORECASE,
)
"""What a sentence speaks of: "A pneumothorax is air …", "Pneumothorax: air …"."""

Answer = create_model(
    "Answer",
    __config__=ConfigDict(extra="forbid", strict=True),
    finding=(str, ...),
    **dict.fromkeys(ASPECTS, (str, ...)),
)
"""The finding's name, the description and the eight aspects."""

RESPONSE_SCHEMA = {"name": "finding", "strict": True, "schema": Answer.model_json_schema()}
"""For servers that hold the model to it. Lengths stay out: not all of them know how to."""


class AnswerError(ValueError):
    """An answer that cannot be used; `problems` has a line for each thing that is wrong, in words for the model."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class Checker:
    """Reads answers, and knows what they must not say.

    others: names of other findings that may be taken for the one asked; examples: lines of the prompts' examples, which
    weak models copy.
    """

    def __init__(self, others: Iterable[str] = (), examples: Iterable[str] = ()):
        self._others = {key(other): other for other in others}
        self._examples = {_bare(line) for line in examples} - {NO_FLUID}

    def read(self, text: str, finding: str) -> dict[str, str]:
        """{aspect: words}, the description among them, spaces tidied; AnswerError with all that is wrong."""
        answer = _parse(text)
        lines = {aspect: _tidy(getattr(answer, aspect), aspect) for aspect in ASPECTS}
        problems = []
        if key(answer.finding) != key(finding):
            problems.append(f'"finding" is "{answer.finding[:80]}", but "{finding}" was asked')
        for aspect, line in lines.items():
            problems += [f'"{aspect}" {problem}' for problem in self._problems(aspect, line, finding)]
        for line, count in Counter(map(_bare, lines.values())).items():
            if count > 1 and line:
                same = [f'"{aspect}"' for aspect, other in lines.items() if _bare(other) == line]
                problems.append(f"{' and '.join(same)} hold the same words")
        if problems:
            raise AnswerError(problems)
        return lines

    def _problems(self, aspect: str, line: str, finding: str) -> Iterable[str]:
        fewest, most = DESCRIPTION_WORDS if aspect == DESCRIPTION else ASPECT_WORDS
        words = len(line.split())
        if not line:
            yield "is empty"
        elif not fewest <= words <= most:
            yield f"has {words} word{'s' * (words != 1)}; write {fewest} to {most}"
        if not line.isprintable():
            yield "holds characters that cannot be printed"
        if hedge := _HEDGES.search(line):
            yield f'says "{hedge[0]}"; say firmly what is seen'
        if other := self._other_subject(line, finding):
            yield f'describes "{other}" instead of "{finding}"'
        if _bare(line) in self._examples:
            yield "is copied from an example"

    def _other_subject(self, line: str, finding: str) -> str | None:
        """The other finding that the line speaks of; "pulmonary fibrosis is ..." still speaks of fibrosis."""
        if not (match := _SUBJECT.match(line)):
            return None
        subject = key(match[1])
        return None if set(key(finding).split()) <= set(subject.split()) else self._others.get(subject)


def _parse(text: str) -> Answer:
    """The JSON object in an answer, which may stand behind aloud thinking or inside a code fence."""
    if not text.strip():
        raise AnswerError(["the answer is empty"])
    text = text.rpartition("</think>")[2]
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start:
        raise AnswerError(["it is not a JSON object"])
    try:
        return Answer.model_validate_json(text[start : end + 1])
    except ValidationError as error:
        raise AnswerError(_complaint(each) for each in error.errors()) from error


def _complaint(error: dict) -> str:
    """One line for one of pydantic's errors."""
    where = ".".join(map(str, error["loc"]))[:80]
    match error["type"]:
        case "json_invalid":
            return f"it is not valid JSON ({error['ctx']['error']})"
        case "missing":
            return f'"{where}" is missing'
        case "extra_forbidden":
            return f'"{where}" was not asked for'
    return f'"{where}" is no text'


def _tidy(line: str, aspect: str) -> str:
    """Single spaces, and no "border:" before the words of the border."""
    line = " ".join(line.split())
    head, colon, words = line.partition(":")
    return words.strip() if colon and head.strip().lower() == aspect else line


def _bare(line: str) -> str:
    return line.lower().rstrip(". ")
