"""Runs a plan: requests the missing answers, and writes the book. An interrupted run continues where it stopped."""

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tqdm import tqdm

from mavl.concepts import ConceptError
from mavl.concepts.answers import AnswerError, Checker, diagnoses, without_ordinary
from mavl.concepts.book import Entry, Job, read_whole_book
from mavl.concepts.client import Client, ServerError, StoppedError, UnansweredError
from mavl.concepts.plan import Plan
from mavl.progress import plural, progress_bar

if TYPE_CHECKING:  # torch takes seconds, and a single answer needs none
    from torch import Tensor

    from mavl.text.protocol import TextEncoder

UNANSWERED_IN_A_ROW = 3
"""After so many unanswered requests in a row the run ends: then the cause is the server, not the finding."""


@dataclass
class Outcome:
    """The result of a run.

    complete: findings of the `asked` ones that the book now has. failed: {finding: reason}. fatal: the error that ended
    the run early. stopped_by: the signal that did. calls: answers received.
    """

    asked: int
    complete: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    fatal: Exception | None = None
    stopped_by: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def exit_code(self) -> int:
        return 128 + self.stopped_by if self.stopped_by else int(bool(self.failed))

    def __str__(self) -> str:
        used = f"{plural(self.calls, 'answer')} in this run, {self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        rest = "" if self.complete == self.asked else ", a new start requests only the rest"
        return f"in the book: {self.complete} of {plural(self.asked, 'finding')} ({used}){rest}"


def generate(plan: Plan, client: Client) -> Outcome:
    """Request what is missing, and write the book with all complete findings, also when the run ends early.

    Before any request: ConceptError where the cache cannot be read, OSError where an answer could not be kept.
    """
    outcome, encoder, added = Outcome(len(plan.findings)), None, {}
    for folder in (plan.cache.folder, plan.out.parent) if plan.samples else ():
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # OSError before any request is sent
    if plan.provenance.text_encoder:
        from mavl.text.encoder import load_text_encoder

        encoder = load_text_encoder(plan.provenance.text_encoder)
        encoder.encode(["chest"])  # before any request is sent
    if plan.jobs:
        tqdm.write(f"requesting from {client}", file=sys.stderr)
        with suppress(asyncio.CancelledError):
            asyncio.run(_Run(plan, client, outcome).request_all())
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
    """Workers that take jobs from one list until its end or the end of the run."""

    def __init__(self, plan: Plan, client: Client, outcome: Outcome):
        self.plan, self.client, self.outcome, self._unanswered = plan, client, outcome, 0
        known = {*plan.findings, *plan.book.findings, *plan.prompts.examples}
        examples = [line for lines in plan.prompts.examples.values() for line in lines.values()]
        self._checkers = {
            each: Checker(without_ordinary(known - {each}), examples, diagnoses()) for each in plan.samples
        }

    async def request_all(self) -> None:
        jobs, loop = self.plan.jobs, asyncio.get_running_loop()
        with suppress(NotImplementedError):  # Windows
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stop, number, asyncio.current_task())
        with progress_bar(total=len(jobs), description="requesting", unit="answer") as bar:
            async with self.client.sdk, asyncio.TaskGroup() as workers:
                remaining = iter(jobs)
                for _ in range(min(self.plan.settings.concurrency, len(jobs))):
                    workers.create_task(self._work(remaining, bar))

    async def _work(self, jobs: Iterator[Job], bar: tqdm) -> None:
        for job in jobs:
            try:
                await self._request(job)
                bar.update()
            except StoppedError:
                return
            except (UnansweredError, AnswerError) as error:
                self.outcome.failed[job.finding] = str(error)
                self._unanswered += isinstance(error, UnansweredError)
                if self._unanswered >= UNANSWERED_IN_A_ROW:
                    self._end(ServerError(str(error)))
            except (ConceptError, OSError) as error:
                self._end(error)

    async def _request(self, job: Job) -> None:
        """Request answers until one can be used; AnswerError has the faults of the last one."""
        attempt = next(reversed(self.plan.cache.attempts(job)), None)
        problems = attempt.problems if attempt else ()
        for _ in range(tries := self.plan.settings.max_retries + 1):
            rejected = (attempt.answer, problems) if attempt and problems else None
            attempt = await self.client.complete(self.plan.prompts.conversation(job.finding, rejected))
            self._unanswered = 0
            self.outcome.calls += 1
            self.outcome.tokens_in += attempt.tokens_in
            self.outcome.tokens_out += attempt.tokens_out
            try:
                self._checkers[job.finding].read(attempt.answer, job.finding)
                problems = ()  # it is complete, even if the server reports a fault
            except AnswerError as error:
                problems = (*attempt.problems, *error.problems)
            self.plan.cache.add(job, attempt.model_copy(update={"problems": problems}))
            if not problems:
                return
        raise AnswerError([f"{plural(tries, 'answer')} could not be used; the last: {'; '.join(problems)}"])

    def _end(self, error: Exception) -> None:
        """Send no more requests; those already sent are awaited."""
        self.outcome.fatal = self.outcome.fatal or error
        self.client.stopped.set()

    def _stop(self, number: int, task: asyncio.Task | None) -> None:
        """Let the requests under way end after Ctrl-C or SIGTERM (Slurm, docker); drop them after a second one."""
        if task and self.outcome.stopped_by:
            task.cancel()
            return
        self.outcome.stopped_by = number
        self.client.stopped.set()
        tqdm.write("waiting for the answers under way; Ctrl-C again drops them", file=sys.stderr)
