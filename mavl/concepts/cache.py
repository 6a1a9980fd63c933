"""Every answer on disk from the moment it arrives: one file for each finding and sample."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from mavl.concepts import ConceptError
from mavl.files import read_text, write_text


class Job(NamedTuple):
    """One request: a finding, and the number of its sample."""

    finding: str
    sample: int


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


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: dict[str, str | int | float]
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class Cache:
    """The answers to requests of one kind: {"model": ..., "prompt_hash": ..., "temperature": ...}."""

    folder: Path
    kind: dict[str, str | float]

    def attempts(self, job: Job) -> tuple[Attempt, ...]:
        """All answers to a job, the oldest first; ConceptError for a damaged file."""
        path, _ = self._place(job)
        if not path.exists():
            return ()
        try:
            return _Record.model_validate_json(read_text(path)).attempts
        except ValidationError as error:
            raise ConceptError(f"{path}: damaged; delete it, and its answers are requested again") from error

    def add(self, job: Job, attempt: Attempt) -> None:
        """Write an answer after the former ones."""
        path, asked = self._place(job)
        record = _Record(asked=asked, attempts=(*self.attempts(job), attempt))
        write_text(path, record.model_dump_json(indent=1) + "\n")

    def _place(self, job: Job) -> tuple[Path, dict[str, str | int | float]]:
        """(the file of a job, what it answers)."""
        asked = self.kind | job._asdict()
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        readable = re.sub(r"[^\w-]+", "_", job.finding)[:40]
        return self.folder / f"{readable}-{digest}.json", asked
