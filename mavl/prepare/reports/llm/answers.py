"""What an answer about a batch of reports must hold."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from mavl.llm.answers import AnswerError, complaints_of, read_objects, response_schema
from mavl.prepare.reports.protocol import Status

Laterality = Literal["left", "right", "both", "none"]

MOST_COMPLAINTS = 5
"""Of a report; the next answer may have others."""

_WORD = re.compile(r"[^\W_]+")
_BOTH = ("bilateral", "left and right")
_NONE = ("", "unspecified", "n/a")


def _word(given: Any) -> Any:
    """A word in lower case, as the schema has it; models that no schema constrains vary."""
    word = "none" if given is None else given
    word = word.strip().lower() if isinstance(word, str) else word
    return "both" if word in _BOTH else "none" if word in _NONE else word


def _encodable(text: str) -> str:
    """The text; ValueError for half a pair of surrogates, which no file holds."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("it holds half a pair of surrogates")
    return text


_Text = Annotated[str, AfterValidator(_encodable)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Stated(_Strict):
    """A finding as the model names it. anatomy: "" where none is stated; quote: the report's words."""

    finding: _Text
    status: Annotated[Status, BeforeValidator(_word)]
    anatomy: Annotated[_Text, BeforeValidator(lambda given: "" if given is None else given)]
    laterality: Annotated[Laterality, BeforeValidator(_word)]
    quote: _Text


class _Labels(_Strict):
    id: Annotated[str, BeforeValidator(lambda given: str(given) if isinstance(given, int) else given)]
    findings: list[Stated]


class _Answer(_Strict):
    reports: list[_Labels]


class _Entry(BaseModel):
    """A report's part of an answer before it is checked."""

    id: str | int
    findings: list[Any]


class _Entries(BaseModel):
    reports: list[Any]


RESPONSE_SCHEMA = response_schema("reports", _Answer)

Labels = tuple[Stated, ...]


def read_labels(text: str, reports: Sequence[str]) -> tuple[dict[str, Labels], dict[str, list[str]]]:
    """{report: its labels}, and {report: why it has none}, of an answer to a batch of reports.

    Each report is judged by itself: it needs one entry under its id, and quotes that are words of it. Whole entries of
    an answer that was cut off count.
    """
    accepted, error = read_objects(text, _read)
    whole = [each for each in accepted if isinstance(each, _Entries)]
    entries = whole[-1].reports if whole else accepted
    found: dict[str, list[Any]] = {}
    for entry in entries:
        entry = entry.model_dump() if isinstance(entry, _Entry) else entry
        name = str(entry.get("id", "")) if isinstance(entry, dict) else ""
        found.setdefault(name, []).append(entry)
    labels, problems = {}, {}
    for number, report in enumerate(reports, 1):
        try:
            labels[report] = _labels_of(found.get(str(number), []), report, number)
        except AnswerError as fault:
            problems[report] = list(fault.problems if entries else error.problems)
    return labels, problems


def _read(content: Any) -> _Entries | _Entry:
    try:
        return _Entries.model_validate(content)
    except ValidationError:
        return _Entry.model_validate(content)


def _labels_of(entries: list[Any], report: str, number: int) -> Labels:
    """The labels in the one entry of a report; AnswerError lists what is wrong."""
    if len(entries) != 1:
        raise AnswerError([f'the answer has {"several entries" if entries else "no entry"} for report "{number}"'])
    try:
        labels = tuple(_Labels.model_validate(entries[0]).findings)
    except ValidationError as error:
        raise AnswerError(
            [f'report "{number}": {complaint}' for complaint in complaints_of(error)[:MOST_COMPLAINTS]]
        ) from error
    if faults := [fault for each in labels if (fault := _fault(each, _words(report)))]:
        raise AnswerError([f'report "{number}": {fault}' for fault in faults[:MOST_COMPLAINTS]])
    return labels


def _fault(stated: Stated, words: str) -> str | None:
    """What is wrong with an item of a report of these words."""
    quote, place = _words(stated.quote), _words(stated.anatomy).split()
    if not quote.strip() or quote not in words:
        return f"the quote {stated.quote[:80]!r} is not in the report"
    if not _words(stated.finding).strip():
        return f'the item with the quote {stated.quote[:80]!r} has no "finding"'
    if stated.laterality != "none" and {"left", "right"} & set(place) not in (set(), {stated.laterality}):
        return f'"anatomy" is {stated.anatomy[:80]!r} and "laterality" is "{stated.laterality}"'
    return None


def _words(text: str) -> str:
    """The words of a text in lower case, with a space around each."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "
