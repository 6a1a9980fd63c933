"""What an answer of the language model must hold, and what is wrong with one that cannot be used."""

import json
import re
from collections import Counter
from collections.abc import Iterable

from pydantic import ConfigDict, ValidationError, create_model

from mavl.concepts.names import counted
from mavl.text.synonyms import key, meaning
from mavl.vocab import ASPECTS, DESCRIPTION

DESCRIPTION_WORDS = (10, 50)
ASPECT_WORDS = (2, 25)
"""Fewest and most words of a line. The prompts ask for less, so that a word too many costs no second answer."""

NO_FLUID = "no fluid"
"""The one line that findings share."""

_HEDGES = re.compile(
    r"\b(as an ai|language model|i'm sorry|i am sorry|i cannot|i can't|consult|may|might|can be|could|possibly"
    r"|potentially|likely|probably|perhaps|presumably|sometimes|varies|variable|depends|depending|not applicable"
    r"|not specific|non-?specific|n/a|medical advice)\b|^not visible\b",
    re.IGNORECASE,
)
"""What is not said firmly. "Not visible" only in front, since "vessels not visible within it" is a sign."""

_NOT_ON_A_FILM = re.compile(
    r"\b(?:(?-i:CT|HRCT|MRI|PET)|ultrasound|tomograph\w*|symptoms?|cough\w*|fever|dyspno?ea|shortness of breath)\b",
    re.IGNORECASE,
)
"""Other ways of looking, and what only the patient tells."""

_VERBS = r"is|are|has|have|shows?|appears?|presents?|refers|means|describes|consists|looks?"
_SUBJECT = re.compile(rf"(.+?)(?::|\s(?:{_VERBS})\b)", re.IGNORECASE)
"""What a sentence speaks of: "A pneumothorax is air …", "Pneumothorax: air …"."""

_LOOSE_SUBJECTS = (
    re.compile(r"(.+?)\s(?:with\b|[\u2013\u2014-]\s)", re.IGNORECASE),
    re.compile(rf"in\s(.+?)(?:[,:]|\s(?:there|the|{_VERBS})\b)", re.IGNORECASE),
)
"""And "Pneumothorax with a thin line", "In pneumothorax, air …"."""

_LIQUIDS = {"effusion", "edema", "fluid", "empyema", "hydrothorax"}
"""Last words of what a line of fluid may speak of, whichever the finding."""

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
    weak models copy; known: names that everybody knows, which may be told from the one asked under `other`.
    """

    def __init__(self, others: Iterable[str] = (), examples: Iterable[str] = (), known: Iterable[str] = ()):
        self._others = {key(other): other for other in others}
        self._known = {key(other): other for other in known} | self._others
        self._examples = {_bare(line) for line in examples} - {NO_FLUID}

    def read(self, text: str, finding: str) -> dict[str, str]:
        """{aspect: words}, the description among them, spaces tidied; AnswerError with all that is wrong."""
        answer = _parse(text)
        lines = {aspect: tidy(getattr(answer, aspect), aspect) for aspect in ASPECTS}
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
        if not line:
            yield "is empty"
        elif wrong := length_problem(aspect, line):
            yield wrong
        if not line.isprintable():
            yield "holds characters that cannot be printed"
        if hedge := _HEDGES.search(line):
            yield f'says "{hedge[0]}"; say firmly what is seen'
        if unseen := _NOT_ON_A_FILM.search(line):
            yield f'says "{unseen[0]}"; say what a plain film shows'
        if other := self._other_subject(aspect, line, finding):
            yield f'describes "{other}" instead of "{finding}"'
        if _bare(line) in self._examples:
            yield "is copied from an example"

    def _other_subject(self, aspect: str, line: str, finding: str) -> str | None:
        """The other finding that the line speaks of.

        "Pulmonary fibrosis is ..." still speaks of fibrosis, "the fracture is ..." of a rib fracture.
        """
        own = set(key(finding).split())
        passing = aspect == "other"  # where companions and look-alikes belong
        for form in (_SUBJECT,) if passing else (_SUBJECT, *_LOOSE_SUBJECTS):
            subject = key(match[1]) if (match := form.match(line)) else ""
            if (other := (self._others if passing else self._known).get(subject)) is None:
                continue
            words = subject.split()
            liquid = aspect == "fluid" and words[-1] in _LIQUIDS
            if not (own <= set(words) or set(words) <= own or meaning(other) == meaning(finding) or liquid):
                return other
        return None


def length_problem(aspect: str, line: str) -> str | None:
    """What is wrong with the length of an aspect's words, if anything."""
    fewest, most = DESCRIPTION_WORDS if aspect == DESCRIPTION else ASPECT_WORDS
    words = len(line.split())
    return None if fewest <= words <= most else f"has {counted(words, 'word')}; write {fewest} to {most}"


def tidy(line: str, aspect: str) -> str:
    """Single spaces, and no "border:" before the words of the border."""
    line = " ".join(line.split())
    head, colon, words = line.partition(":")
    return words.strip() if colon and head.strip().lower() == aspect else line


def _parse(text: str) -> Answer:
    """The JSON object in an answer, which may stand behind aloud thinking or inside a code fence."""
    if not text.strip():
        raise AnswerError(["the answer is empty"])
    text = text.rpartition("</think>")[2]
    start = text.find("{")
    if start < 0 or "}" not in text[start:]:
        raise AnswerError(["it is not a JSON object"])
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)  # behind it there may be more, braces among it
        return Answer.model_validate_json(text[start:end])
    except ValidationError as error:
        raise AnswerError(_complaint(each) for each in error.errors()) from error
    except (ValueError, RecursionError) as error:
        raise AnswerError([f"it is not valid JSON ({error})"]) from error


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


def _bare(line: str) -> str:
    return line.lower().rstrip(". ")
