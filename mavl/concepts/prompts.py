"""The conversation with the language model: text files, worked examples, and a hash of both."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mavl.concepts import ConceptError
from mavl.concepts.answers import RESPONSE_SCHEMA, Checker
from mavl.files import parse_json, read_text
from mavl.llm.answers import Message
from mavl.text.synonyms import key

FILES = ("VERSION", "system.txt", "request.txt", "correction.txt", "examples.json")


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
        """Hash of everything in a request but the finding's name, the schema of the answer included."""
        content = json.dumps([self.texts, RESPONSE_SCHEMA], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def conversation(self, finding: str, rejected: tuple[str, Sequence[str]] | None = None) -> list[Message]:
        """The messages of a request. rejected: the last answer that could not be used, and its problems.

        An example of the same finding is left out, since the model would copy it.
        """
        turns = [("system", self.texts["system.txt"])]
        for name, lines in self.examples.items():
            if key(name) != key(finding):
                turns += [("user", self._request(name)), ("assistant", json.dumps({"finding": name, **lines}))]
        turns.append(("user", self._request(finding)))
        if rejected is not None:
            complaint = "\n".join(f"- {problem}" for problem in rejected[1])
            correction = self.texts["correction.txt"].replace("{problems}", complaint).replace("{finding}", finding)
            turns += [("assistant", rejected[0] or "(no answer)"), ("user", correction)]
        return [{"role": role, "content": content.strip()} for role, content in turns]

    def _request(self, finding: str) -> str:
        return self.texts["request.txt"].replace("{finding}", finding)


def read_prompts(folder: Path) -> Prompts:
    """The prompts in a folder; ConceptError where a placeholder is missing or an example breaks its own rules."""
    texts, path = {name: read_text(folder / name) for name in FILES}, folder / "examples.json"
    for name, place in (("request.txt", "{finding}"), ("correction.txt", "{problems}")):
        if place not in texts[name]:
            raise ConceptError(f"{folder / name}: has no {place}")
    try:
        answers = parse_json(texts[path.name], str(path))
        examples = {answer["finding"]: Checker().read(json.dumps(answer), answer["finding"]) for answer in answers}
    except (ValueError, TypeError, KeyError) as error:
        raise ConceptError(f"{path}: no list of answers ({error})") from error
    if not examples:
        raise ConceptError(f"{path}: no example")
    return Prompts(texts, examples)
