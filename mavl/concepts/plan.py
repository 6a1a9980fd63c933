"""What a run requests: its settings, the names of findings, and the answers that neither book nor cache holds yet."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import Field, model_validator

from mavl.concepts import ConceptError
from mavl.concepts.answers import RESPONSE_SCHEMA, Checker
from mavl.concepts.book import Cache, Entry, Job, Provenance, WholeBook, read_whole_book
from mavl.concepts.prompts import Prompts
from mavl.config.settings import TextSettings
from mavl.files import read_text
from mavl.llm.answers import AnswerError
from mavl.llm.settings import LETTERS_A_TOKEN, ServerSettings
from mavl.progress import plural
from mavl.text.synonyms import key, spellings
from mavl.vocab import LONGEST_NAME, is_name

REQUEST = {"model", "prompt_hash", "temperature"}
CHOICE = {"samples", "text_encoder"}
"""Fields of a provenance on which the answers in the cache depend, and the choice among them."""


class ConceptSettings(ServerSettings):
    """Settings of concept_gen/generate.py. prompts: a folder, concept_gen/prompts by default."""

    ensemble: int = Field(1, gt=0, description="answers to each finding, the most central is kept; 1 by default")
    text_encoder: str = Field(
        TextSettings().encoder, description="the BERT that finds the most central, folder or hub id"
    )
    cache: str = Field("~/.cache/mavl/concepts", description="folder of the answers; ~/.cache/mavl/concepts by default")
    prompts: str | None = None

    @model_validator(mode="after")
    def _vary(self) -> "ConceptSettings":
        if self.ensemble > 1 and self.temperature == 0:
            raise ValueError("an ensemble at temperature 0 is one answer many times; set temperature, as to 0.7")
        return self


def read_names(names: Iterable[str], file: Path | None) -> list[str]:
    """Names in the order given, each once; a file has one a line, and comments after #.

    ConceptError for none, for one that is no name, and for two spellings of one.
    """
    lines = read_text(file).splitlines() if file else []
    given = [" ".join(each.split()) for each in (*names, *(line.partition("#")[0] for line in lines))]
    seen: dict[str, str] = {}
    for name in filter(None, given):
        if not is_name(name) or not key(name):
            raise ConceptError(
                f"{name[:LONGEST_NAME]!r} is no name: it needs letters or digits, at most {LONGEST_NAME} characters"
            )
        if (other := seen.setdefault(key(name), name)) != name:
            raise ConceptError(f"{other!r} and {name!r} are two spellings of one finding; leave one out")
    if not seen:
        raise ConceptError(f"no name of a finding{f' in {file}' if file else ''}; give --names or --file")
    return list(seen.values())


def as_spelled_in(book: Path, named: Iterable[str], names: Iterable[str]) -> list[str]:
    """The names in the spelling of a book that holds `named`, so that no finding is requested or kept twice.

    ConceptError for a name of which the book has two spellings, and not this one.
    """
    named, found = list(named), {}
    for name in names:
        spelled = spellings(name, named) or [name]
        if len(spelled) > 1:
            raise ConceptError(f"{name!r} is spelled {' and '.join(map(repr, spelled))} in {book}; name one of these")
        found[spelled[0]] = None
    return list(found)


@dataclass(frozen=True)
class Plan:
    """The work of a run on the book at `out`. findings: in the spelling of the book."""

    settings: ConceptSettings
    prompts: Prompts
    out: Path
    book: WholeBook
    findings: list[str]

    @cached_property
    def provenance(self) -> Provenance:
        """The provenance that all entries of this run share. No text encoder chooses where there is one sample."""
        settings = self.settings
        return Provenance(
            model=settings.model,
            prompt_version=self.prompts.version,
            prompt_hash=self.prompts.hash,
            temperature=settings.temperature,
            samples=settings.ensemble,
            text_encoder=settings.text_encoder if settings.ensemble > 1 else None,
        )

    @cached_property
    def cache(self) -> Cache:
        return Cache(Path(self.settings.cache).expanduser(), self.provenance.model_dump(include=REQUEST))

    @cached_property
    def samples(self) -> dict[str, list[Job]]:
        """For each finding to write the jobs among whose answers one is chosen; none that led to a rejected entry.

        Other findings stay as they are: reviewed, written by a person, or made in the same way before.
        """
        samples = {}
        for finding in self.findings:
            made = self.book.findings[finding].provenance if finding in self.book.findings else None
            if made and (made.model is None or made.reviewed or self._same(made, REQUEST | CHOICE)):
                continue
            rejected = [entry.provenance for entry in self.book.rejected.get(finding, ())]
            first = max((each.sample + each.samples for each in rejected if self._same(each, REQUEST)), default=0)
            samples[finding] = [Job(finding, first + number) for number in range(self.settings.ensemble)]
        return samples

    @cached_property
    def jobs(self) -> list[Job]:
        """What must be requested."""
        return [job for jobs in self.samples.values() for job in jobs if self.entry(job) is None]

    def entry(self, job: Job) -> Entry | None:
        """The entry of a job's accepted answer in the cache; None without one, or where today's rules refuse it."""
        attempts = self.cache.attempts(job)
        if not attempts or (last := attempts[-1]).problems:
            return None
        try:
            lines = Checker().read(last.answer, job.finding)
        except AnswerError:
            return None
        own = {"sample": job.sample, "created": last.created, "temperature_refused": last.temperature_refused}
        return Entry.of(lines, self.provenance.model_copy(update=own))

    def estimate(self) -> str:
        """The missing calls with their approximate tokens, and what exists already."""
        missing, examples = len(self.jobs), self.prompts.examples
        messages = [message["content"] for job in self.jobs for message in self.prompts.conversation(job.finding)]
        sent = sum(map(len, messages)) + missing * len(json.dumps(RESPONSE_SCHEMA))
        received = missing * len(json.dumps([{"finding": name} | of for name, of in examples.items()])) / len(examples)
        cached, kept = sum(map(len, self.samples.values())) - missing, len(self.findings) - len(self.samples)
        return (
            f"{plural(missing, 'call')} to make, about {round(sent / LETTERS_A_TOKEN):,} tokens in and "
            f"{round(received / LETTERS_A_TOKEN):,} out ({LETTERS_A_TOKEN} letters a token, without second tries); "
            f"{plural(cached, 'answer')} in the cache, {plural(kept, 'finding')} in {self.out}"
        )

    def _same(self, made: Provenance, fields: set[str]) -> bool:
        """Whether an entry was made with this run's values of these fields."""
        return made.model_dump(include=fields) == self.provenance.model_dump(include=fields)


def make_plan(settings: ConceptSettings, names: Iterable[str], out: Path, prompts: Prompts) -> Plan:
    """The plan of a run; ConceptError where the book cannot be read or has two spellings of a name."""
    book = read_whole_book(out)
    return Plan(settings, prompts, out, book, as_spelled_in(out, {**book.findings, **book.rejected}, names))
