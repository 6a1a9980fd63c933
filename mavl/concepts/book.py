"""Whole books: descriptions and aspects in one file, and for each entry how it was made and who has read it.

    {"format": "mavl book 1", "notice": "...",
     "findings": {"rib fracture": {"description": "...", "aspects": ["border: ...", ...], "provenance": {...}}},
     "rejected": {"rib fracture": [an entry like the above, ...]}}

`mavl.text.books` reads them wherever it reads books.
"""

import hashlib
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from mavl.concepts.files import ConceptError, read_text, write_text
from mavl.vocab import ASPECTS, DESCRIPTION

NOTICE = (
    "Written by a language model. Where an entry does not say that it was reviewed, no clinician has read it. "
    "Prompts for a vision-language model, not medical advice."
)


class WholeBookError(ConceptError):
    """A file that is no whole book; the message names it."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Provenance(_Part):
    """How an entry was made, and who has read it. model: None for one that a person wrote.

    sample: which of `samples` answers it is, the most central by `text_encoder`; created: when the model answered, UTC;
    edited: lines that the reviewer wrote.
    """

    model: str | None = None
    prompt_version: str | None = None
    prompt_hash: str | None = None
    temperature: float | None = None
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
        """From {aspect: words}."""
        aspects = tuple(f"{aspect}: {lines[aspect]}" for aspect in ASPECTS[1:])
        return cls(description=lines[DESCRIPTION], aspects=aspects, provenance=provenance)

    @property
    def lines(self) -> dict[str, str]:
        """{aspect: words}, the description first."""
        parted = (line.partition(":") for line in self.aspects)
        return {DESCRIPTION: self.description} | {aspect: words.strip() for aspect, _, words in parted}

    @property
    def fingerprint(self) -> str:
        """Of the text alone."""
        return hashlib.sha256("\n".join([self.description, *self.aspects]).encode()).hexdigest()[:12]


class WholeBook(_Part):
    """rejected: entries that a reviewer threw out, the oldest first, so that they are not taken up again."""

    format: Literal["mavl book 1"] = "mavl book 1"
    notice: str = NOTICE
    findings: dict[str, Entry] = {}
    rejected: dict[str, tuple[Entry, ...]] = {}

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        write_text(path, self.model_dump_json(indent=1, exclude_none=True) + "\n")


def read_whole_book(path: Path) -> WholeBook:
    """The book in a file, an empty one where there is no file; WholeBookError where it holds something else."""
    if not path.exists():
        return WholeBook()
    try:
        return WholeBook.model_validate_json(read_text(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise WholeBookError(f"{path}: no whole book ({where}: {first['msg']}); choose another --out") from error
