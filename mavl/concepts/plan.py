"""What is to be asked: an order, less what the book and the cache hold already."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mavl.concepts.answers import RESPONSE_SCHEMA, AnswerError, Checker
from mavl.concepts.book import Entry, Provenance, WholeBook, read_whole_book
from mavl.concepts.cache import Attempt, Cache
from mavl.concepts.names import as_spelled_in, counted
from mavl.concepts.prompts import Prompts
from mavl.concepts.settings import ConceptSettings

LETTERS_A_TOKEN = 4
"""A rule of thumb for English."""


@dataclass(frozen=True)
class Order:
    """Findings for a book, and how they are made. samples: answers to each, of which the most central is kept."""

    findings: Sequence[str]
    out: Path
    cache: Cache
    prompts: Prompts
    samples: int
    text_encoder: str

    def provenance(self, sample: int, created: str) -> Provenance:
        return Provenance(
            model=self.cache.model,
            prompt_version=self.prompts.version,
            prompt_hash=self.prompts.hash,
            temperature=self.cache.temperature,
            samples=self.samples,
            sample=sample,
            text_encoder=self.chooser,
            created=created,
        )

    @property
    def chooser(self) -> str | None:
        """The text encoder, where there is something to choose."""
        return self.text_encoder if self.samples > 1 else None

    def asked_like(self, made: Provenance) -> bool:
        """Whether an entry was asked for as this order would, so that its samples are in the cache."""
        asked = (made.model, made.prompt_hash, made.temperature)
        return asked == (self.cache.model, self.prompts.hash, self.cache.temperature)


def make_order(settings: ConceptSettings, findings: Sequence[str], out: Path, prompts: Prompts) -> Order:
    """What the settings ask for."""
    cache = Cache(Path(settings.cache).expanduser(), settings.model, prompts.hash, settings.temperature)
    return Order(findings, out, cache, prompts, settings.ensemble, settings.text_encoder)


@dataclass(frozen=True)
class Job:
    """One question: a finding, and which of its samples."""

    finding: str
    sample: int


@dataclass(frozen=True)
class Plan:
    """What an order comes down to.

    kept: findings whose entries stay: reviewed, written by a person, or made the same way before. samples: what each
    other finding is chosen from. jobs: what must still be asked.
    """

    order: Order
    book: WholeBook
    kept: tuple[str, ...]
    samples: dict[str, list[Job]]
    jobs: list[Job]

    def entry(self, job: Job) -> Entry | None:
        """What the cache holds for a job, if it can be used."""
        return _entry(self.order, job)

    @property
    def to_ask(self) -> list[str]:
        """The findings that questions are still to be asked about."""
        return list(dict.fromkeys(job.finding for job in self.jobs))

    def estimate(self) -> str:
        """What is still to be asked, and about how much that is."""
        messages = (each for job in self.jobs for each in self.order.prompts.conversation(job.finding))
        asked = sum(len(message["content"]) for message in messages) + len(self.jobs) * len(json.dumps(RESPONSE_SCHEMA))
        answered = len(self.jobs) * self.order.prompts.mean_answer
        tokens_in, tokens_out = (round(letters / LETTERS_A_TOKEN) for letters in (asked, answered))
        cached = sum(map(len, self.samples.values())) - len(self.jobs)
        return (
            f"{counted(len(self.jobs), 'call')} to make, about {tokens_in:,} tokens in and {tokens_out:,} out "
            f"({LETTERS_A_TOKEN} letters counted as a token, answers as long as the prompts' examples, second tries "
            "not counted); "
            f"{counted(cached, 'answer')} {'is' if cached == 1 else 'are'} in the cache, "
            f"{counted(len(self.kept), 'finding')} in {self.order.out}"
        )


def make_plan(order: Order) -> Plan:
    """ConceptError where the book or the cache cannot be read, or the book has two spellings of a name."""
    book = read_whole_book(order.out)
    order = replace(order, findings=as_spelled_in(order.out, {**book.findings, **book.rejected}, order.findings))
    kept = tuple(finding for finding in order.findings if _stays(book.findings.get(finding), order))
    samples = {}
    for finding in order.findings:
        if finding not in kept:
            first = _first_sample(book.rejected.get(finding, ()), order)
            samples[finding] = [Job(finding, sample) for sample in range(first, first + order.samples)]
    jobs = [job for jobs in samples.values() for job in jobs if _entry(order, job) is None]
    return Plan(order, book, kept, samples, jobs)


def _entry(order: Order, job: Job) -> Entry | None:
    attempt: Attempt | None = order.cache.accepted(job.finding, job.sample)
    if attempt is None:
        return None
    try:
        lines = Checker().read(attempt.answer, job.finding)
    except AnswerError:  # an older version of the rules took it
        return None
    return Entry.of(lines, order.provenance(job.sample, attempt.created))


def _stays(entry: Entry | None, order: Order) -> bool:
    if entry is None:
        return False
    made = entry.provenance
    if made.model is None or made.reviewed:
        return True
    return order.asked_like(made) and (made.samples, made.text_encoder) == (order.samples, order.chooser)


def _first_sample(rejected: Iterable[Entry], order: Order) -> int:
    """A sample number beyond those that a rejected entry was chosen from."""
    made = [entry.provenance for entry in rejected]
    return max((each.sample + each.samples for each in made if order.asked_like(each)), default=0)
