"""Answers as they arrive, and the JSON in them."""

import json
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

T = TypeVar("T")

Message = dict[str, str]
"""A turn of a conversation: {"role": system, user or assistant, "content": text}."""

MOST_FAULTS = 1000
"""An answer with more braces that begin no object is not read further: each costs a time that grows with its length."""

_COMPLAINTS = {"missing": "is missing", "extra_forbidden": "was not asked for", "string_type": "is no text"}


class AnswerError(ValueError):
    """An answer that cannot be used; `problems` has one line for each fault, worded for the model."""

    def __init__(self, problems: Iterable[str]):
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class Attempt(BaseModel):
    """One answer as it arrived. problems: its faults, none if it was accepted. created: UTC, ISO 8601.

    temperature_refused: it was requested without a temperature, which the server refuses.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str
    problems: tuple[str, ...]
    created: str
    tokens_in: int
    tokens_out: int
    temperature_refused: bool = False


def response_schema(name: str, answer: type[BaseModel]) -> dict[str, Any]:
    """The schema of an answer, for servers that constrain the output."""
    return {"name": name, "strict": True, "schema": answer.model_json_schema()}


def read_objects(text: str, read: Callable[[Any], T]) -> tuple[list[T], AnswerError]:
    """What `read` makes of each JSON object in a text that it accepts, in order.

    Thinking, drafts, code fences or a list may be around an object; one that is cut off, or that `read` refuses by a
    ValidationError, may hold others. Also returns the complaints about the object that comes nearest to an accepted
    one, an error to raise where none was accepted.
    """
    text = text.rpartition("</think>")[2]
    accepted, complaints = [], [(2, ["it is not a JSON object" if text.strip() else "the answer is empty"])]
    start = text.find("{")
    while start >= 0 and len(complaints) <= MOST_FAULTS:
        end = start + 1
        try:
            content, stop = json.JSONDecoder().raw_decode(text, start)
            accepted.append(read(content))
            end = stop
        except ValidationError as error:
            complaints.append((0, complaints_of(error)))
        except (ValueError, RecursionError) as error:
            complaints.append((1, [f"it is not valid JSON ({error})"]))
        start = text.find("{", end)
    return accepted, AnswerError(min(complaints, key=lambda complaint: (complaint[0], len(complaint[1])))[1])


def complaints_of(error: ValidationError) -> list[str]:
    """One line for each fault of an object; half pairs of surrogates, which no request holds, as escapes."""
    lines = (
        f'"{".".join(map(str, each["loc"]))[:80]}" {_COMPLAINTS.get(each["type"], each["msg"])}'
        for each in error.errors()
    )
    return [line.encode(errors="backslashreplace").decode() for line in lines]
