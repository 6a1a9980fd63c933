"""What a run keeps on disk: whole books, and every answer from the moment it arrives.

A whole book has descriptions and aspects in one file, with the origin and the review of each entry:

    {"format": "mavl book 1", "notice": "...",
     "findings": {"rib fracture": {"description": "...", "aspects": ["border: ...", ...], "provenance": {...}}},
     "rejected": {"rib fracture": [an entry like the above, ...]}}

`mavl.text.books` reads it like any other book.
"""

import hashlib
import json
import re
from datetime import date
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from mavl.concepts import ConceptError
from mavl.files import NotJSONError, parse_json, read_text, write_text
from mavl.llm.answers import Attempt
from mavl.vocab import ASPECTS, DESCRIPTION

NOTICE = (
    "Written by a language model. Where an entry does not say that it was reviewed, no clinician has read it. "
    "Prompts for a vision-language model, not medical advice."
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(_Part):
    """How an entry was made, and who reviewed it.

    model: None for an entry that a person wrote. temperature: as requested; temperature_refused: the server refused the
    parameter and used the model's own. sample: the number of this answer among `samples`, the most central by
    `text_encoder`. created: time of the answer, UTC. edited: aspects whose words the reviewer wrote.
    """

    model: str | None = None
    prompt_version: str | None = None
    prompt_hash: str | None = None
    temperature: float | None = None
    temperature_refused: bool = False
    samples: int = 1
    sample: int = 0
    text_encoder: str | None = None
    created: str | None = None
    reviewed: bool = False
    reviewed_by: str | None = None
    reviewed_on: date | None = None
    edited: tuple[str, ...] = ()


class Entry(_Part):
    """A finding: its description, and its aspects as "aspect: words"."""

    description: str
    aspects: tuple[str, ...]
    provenance: Provenance = Provenance()

    @field_validator("aspects")
    @classmethod
    def _all_in_order(cls, aspects: tuple[str, ...]) -> tuple[str, ...]:
        if [line.partition(":")[0] for line in aspects] != list(ASPECTS[1:]):
            raise ValueError(f'not "aspect: words" for each of {", ".join(ASPECTS[1:])}')
        return aspects

    @classmethod
    def of(cls, lines: dict[str, str], provenance: Provenance) -> "Entry":
        """The entry of {aspect: words}."""
        aspects = tuple(f"{aspect}: {lines[aspect]}" for aspect in ASPECTS[1:])
        return cls(description=lines[DESCRIPTION], aspects=aspects, provenance=provenance)

    @property
    def lines(self) -> dict[str, str]:
        """{aspect: words}, the description first."""
        words = [line.partition(":")[2].strip() for line in self.aspects]
        return dict(zip(ASPECTS, [self.description, *words], strict=True))


class WholeBook(_Part):
    """rejected: entries that a reviewer rejected, the oldest first; they are not taken up again."""

    format: Literal["mavl book 1"] = "mavl book 1"
    notice: str = NOTICE
    findings: dict[str, Entry] = {}
    rejected: dict[str, tuple[Entry, ...]] = {}

    def write(self, path: Path) -> None:
        """Write the whole file, or leave the former one."""
        write_text(path, self.model_dump_json(indent=1, exclude_none=True) + "\n")


def read_whole_book(path: Path) -> WholeBook:
    """The book in a file, an empty one without a file; ConceptError for any other content."""
    if not path.exists():
        return WholeBook()
    try:
        parse_json(text := read_text(path), str(path))  # pydantic takes repeated names
        return WholeBook.model_validate_json(text)
    except NotJSONError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ConceptError(f"{path}: no whole book ({reason}); choose another --out") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConceptError(f"{path}: no whole book ({where}: {first['msg']}); choose another --out") from error


class Job(NamedTuple):
    """One request: a finding, and the number of its sample."""

    finding: str
    sample: int


class _Record(_Part):
    asked: dict[str, str | int | float]
    attempts: tuple[Attempt, ...] = ()


class Cache(NamedTuple):
    """The answers to requests of one kind, {"model": ..., "prompt_hash": ..., "temperature": ...}: a file for a job."""

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
