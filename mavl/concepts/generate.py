"""Runs a plan: requests the missing answers, and writes the book. An interrupted run continues where it stopped."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mavl.concepts.answers import RESPONSE_SCHEMA, Checker, diagnoses, without_ordinary
from mavl.concepts.book import Entry, Job, read_whole_book
from mavl.concepts.plan import Plan
from mavl.llm.answers import AnswerError
from mavl.llm.client import Client
from mavl.llm.workers import Outcome as RunOutcome
from mavl.llm.workers import Workers
from mavl.progress import note, plural, progress_bar

if TYPE_CHECKING:  # torch takes seconds, and a single answer needs none
    from torch import Tensor

    from mavl.text.protocol import TextEncoder


@dataclass(kw_only=True)
class Outcome(RunOutcome):
    """The result of a run. complete: findings of the `asked` ones that the book now has. failed: {finding: reason}."""

    asked: int
    complete: int = 0
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return 128 + self.stopped_by if self.stopped_by else int(bool(self.failed))

    def __str__(self) -> str:
        used = f"{plural(self.calls, 'answer')} in this run, {self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        rest = "" if self.complete == self.asked else ", a new start requests only the rest"
        return f"in the book: {self.complete} of {plural(self.asked, 'finding')} ({used}){rest}"


def generate(plan: Plan) -> Outcome:
    """Request what is missing, and write the book with all complete findings, also when the run ends early.

    Before any request: ConceptError where the cache cannot be read, OSError where an answer could not be kept.
    """
    client = Client(plan.settings, RESPONSE_SCHEMA)
    outcome, encoder, added = Outcome(asked=len(plan.findings)), None, {}
    for folder in (plan.cache.folder, plan.out.parent) if plan.samples else ():
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # OSError before any request is sent
    if plan.provenance.text_encoder:
        from mavl.text.encoder import load_text_encoder

        encoder = load_text_encoder(plan.provenance.text_encoder)
        encoder.encode(["chest"])  # before any request is sent
    if plan.jobs:
        note(f"requesting from {client}")
        _Run(plan, client, outcome).request_all()
    for finding, jobs in plan.samples.items():
        entries = [entry for job in jobs if (entry := plan.entry(job))]
        if len(entries) == len(jobs):
            added[finding] = entries[0 if encoder is None else choose(entries, encoder)]
    if added:
        book = read_whole_book(plan.out)  # again, since another run may have added findings meanwhile
        book.model_copy(update={"findings": book.findings | added}).write(plan.out)
    outcome.complete = len(plan.findings) - len(plan.samples) + len(added)
    return outcome


def most_central(vectors: "Tensor") -> int:
    """The one of k answers, vectors [k, A, T], with the largest mean cosine, over aspects, to the others.

    The first of equal ones.
    """
    unit = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    agreement = (unit.unsqueeze(0) * unit.unsqueeze(1)).sum(dim=-1).mean(dim=-1)  # [k, k]
    scores = (agreement.sum(dim=0) - agreement.diagonal()).tolist()
    return scores.index(max(scores))


def choose(entries: Sequence[Entry], encoder: "TextEncoder") -> int:
    """The position of the most central entry by the text embeddings of all sentences."""
    sentences = [sentence for entry in entries for sentence in (entry.description, *entry.aspects)]
    return most_central(encoder.encode(sentences).unflatten(0, (len(entries), -1)))


class _Run:
    """Requests for jobs until an answer of each can be used."""

    def __init__(self, plan: Plan, client: Client, outcome: Outcome):
        self._plan, self._workers = plan, Workers(client, outcome, self._request, self._fail)
        self._failed = outcome.failed
        known = {*plan.findings, *plan.book.findings, *plan.prompts.examples}
        examples = [line for lines in plan.prompts.examples.values() for line in lines.values()]
        self._checkers = {
            each: Checker(without_ordinary(known - {each}), examples, diagnoses()) for each in plan.samples
        }

    def request_all(self) -> None:
        jobs = self._plan.jobs
        self._workers.run(jobs, progress_bar(total=len(jobs), description="requesting", unit="answer"))

    async def _request(self, job: Job) -> None:
        """Request answers until one can be used; AnswerError has the faults of the last one."""
        attempt = next(reversed(self._plan.cache.attempts(job)), None)
        problems = attempt.problems if attempt else ()
        for _ in range(tries := self._plan.settings.max_retries + 1):
            rejected = (attempt.answer, problems) if attempt and problems else None
            attempt = await self._workers.complete(self._plan.prompts.conversation(job.finding, rejected))
            try:
                self._checkers[job.finding].read(attempt.answer, job.finding)
                problems = ()  # it is complete, even if the server reports a fault
            except AnswerError as error:
                problems = (*attempt.problems, *error.problems)
            self._plan.cache.add(job, attempt.model_copy(update={"problems": problems}))
            if not problems:
                return
        raise AnswerError([f"{plural(tries, 'answer')} could not be used; the last: {'; '.join(problems)}"])

    def _fail(self, job: Job, reason: str) -> None:
        self._failed[job.finding] = reason
