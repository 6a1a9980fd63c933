"""Every answer on disk from the moment it arrives: one file for each finding and sample."""

import hashlib
import json
import re
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
    model_config = ConfigDict(extra="forbid")

    asked: dict[str, str | int | float]
    attempts: tuple[Attempt, ...] = ()


class Cache(NamedTuple):
    """The answers to requests of one kind: {"model": ..., "prompt_hash": ..., "temperature": ...}."""

    folder: Path
    kind: dict[str, str | float]

    def attempts(self, job: Job) -> tuple[Attempt, ...]:
        """All answers to a job, the oldest first; ConceptError for a damaged file."""
        path = self._path(job)
        try:
            return _Record.model_validate_json(read_text(path)).attempts if path.exists() else ()
        except ValidationError as error:
            raise ConceptError(f"{path}: damaged; delete it, and its answers are requested again") from error

    def add(self, job: Job, attempt: Attempt) -> None:
        """Write an answer after the former ones."""
        record = _Record(asked=self.kind | job._asdict(), attempts=(*self.attempts(job), attempt))
        write_text(self._path(job), record.model_dump_json(indent=1) + "\n")

    def _path(self, job: Job) -> Path:
        digest = hashlib.sha256(json.dumps(self.kind | job._asdict()).encode()).hexdigest()[:16]
        readable = re.sub(r"[^\w-]+", "_", job.finding)[:40]
        return self.folder / f"{readable}-{digest}.json"
