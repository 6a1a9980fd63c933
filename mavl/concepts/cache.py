"""Every answer that was paid for, kept the moment it comes: a file for each finding and sample."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mavl.concepts.files import ConceptError, read_text, write_text


class CacheError(ConceptError):
    """A file of the cache that cannot be used."""


class Attempt(BaseModel):
    """One answer, as it came. problems: what was wrong with it; none if it was accepted. created: UTC, ISO 8601."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: str
    problems: tuple[str, ...]
    created: str
    tokens_in: int
    tokens_out: int


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: dict[str, str | int | float]
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class Cache:
    """The answers of one model to one version of the prompts at one temperature."""

    folder: Path
    model: str
    prompt_hash: str
    temperature: float

    def attempts(self, finding: str, sample: int) -> tuple[Attempt, ...]:
        """All answers so far to a question, in the order they came; CacheError for a damaged file."""
        path = self._path(finding, sample)
        if not path.exists():
            return ()
        try:
            return _Record.model_validate_json(read_text(path)).attempts
        except ValidationError as error:
            raise CacheError(f"{path}: damaged; delete it, and its answers are asked for again") from error

    def accepted(self, finding: str, sample: int) -> Attempt | None:
        """The answer without problems, if there is one: the last."""
        attempts = self.attempts(finding, sample)
        return attempts[-1] if attempts and not attempts[-1].problems else None

    def add(self, finding: str, sample: int, attempt: Attempt) -> None:
        """Write an answer behind the others."""
        record = _Record(asked=self._asked(finding, sample), attempts=(*self.attempts(finding, sample), attempt))
        write_text(self._path(finding, sample), record.model_dump_json(indent=1) + "\n")

    def _asked(self, finding: str, sample: int) -> dict[str, str | int | float]:
        return {
            "model": self.model,
            "prompt_hash": self.prompt_hash,
            "temperature": float(self.temperature),
            "finding": finding,
            "sample": sample,
        }

    def _path(self, finding: str, sample: int) -> Path:
        digest = hashlib.sha256(json.dumps(self._asked(finding, sample)).encode()).hexdigest()[:16]
        readable = re.sub(r"[^\w-]+", "_", finding)[:40]
        return self.folder / f"{readable}-{digest}.json"
