"""What the language model is told: text files, a few examples, and a hash that says which they were."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mavl.concepts.answers import RESPONSE_SCHEMA, AnswerError, Checker
from mavl.concepts.files import ConceptError, read_text
from mavl.text.synonyms import key

FILES = ("VERSION", "system.txt", "request.txt", "correction.txt", "examples.json")
_PLACES = {"request.txt": ("{finding}",), "correction.txt": ("{problems}",)}

Message = dict[str, str]


class PromptError(ConceptError):
    """Prompts that cannot be used; the message names the file."""


@dataclass(frozen=True)
class Prompts:
    """texts: {file: content}; examples: {finding: {aspect: words}}."""

    texts: dict[str, str]
    examples: dict[str, dict[str, str]]

    @property
    def version(self) -> str:
        return self.texts["VERSION"].strip()

    @cached_property
    def hash(self) -> str:
        """Over all that the model is told beside the finding's name, the schema of its answer included."""
        content = json.dumps([self.texts, RESPONSE_SCHEMA], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @property
    def example_lines(self) -> list[str]:
        return [line for lines in self.examples.values() for line in lines.values()]

    @property
    def mean_answer(self) -> float:
        """Letters of an example's answer."""
        answers = [json.dumps({"finding": name, **lines}) for name, lines in self.examples.items()]
        return sum(map(len, answers)) / len(answers)

    def conversation(self, finding: str, rejected: tuple[str, Sequence[str]] | None = None) -> list[Message]:
        """The messages that ask for a finding. rejected: the last answer that could not be used, and its problems.

        An example of the very finding is left out, lest it be copied.
        """
        messages = [_message("system", self.texts["system.txt"])]
        for name, lines in self.examples.items():
            if key(name) != key(finding):
                messages += [self._request(name), _message("assistant", json.dumps({"finding": name, **lines}))]
        messages.append(self._request(finding))
        if rejected is not None:
            answer, problems = rejected
            complaint = "\n".join(f"- {problem}" for problem in problems)
            correction = self.texts["correction.txt"].replace("{problems}", complaint).replace("{finding}", finding)
            messages += [_message("assistant", answer or "(no answer)"), _message("user", correction)]
        return messages

    def _request(self, finding: str) -> Message:
        return _message("user", self.texts["request.txt"].replace("{finding}", finding))


def read_prompts(folder: Path) -> Prompts:
    """The prompts in a folder; PromptError where a file is missing or an example breaks its own rules."""
    texts = {name: read_text(folder / name) for name in FILES}
    for name, places in _PLACES.items():
        if missing := [place for place in places if place not in texts[name]]:
            raise PromptError(f"{folder / name}: has no {' and no '.join(missing)}")
    path = folder / "examples.json"
    try:
        answers = json.loads(texts[path.name])
        examples = {answer["finding"]: Checker().read(json.dumps(answer), answer["finding"]) for answer in answers}
    except AnswerError as error:
        raise PromptError(f"{path}: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise PromptError(f"{path}: no list of answers ({error})") from error
    if not examples:
        raise PromptError(f"{path}: no example")
    return Prompts(texts, examples)


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content.strip()}
