"""Names of findings -> entries of a whole book, by asking a language model. Interrupted runs go on where they were."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tqdm import tqdm

from mavl.concepts.answers import AnswerError, Checker
from mavl.concepts.book import Entry
from mavl.concepts.cache import Attempt
from mavl.concepts.client import Client, Completion, ServerError, StoppedError, UnansweredError
from mavl.concepts.ensemble import choose
from mavl.concepts.files import ConceptError, check_writable
from mavl.concepts.known import diagnoses, without_ordinary
from mavl.concepts.names import counted
from mavl.concepts.plan import Job, Order, Plan, make_plan
from mavl.progress import progress_bar

if TYPE_CHECKING:  # torch takes seconds, and a single answer needs none
    from mavl.text.encoder import TextEncoder

UNANSWERED_IN_A_ROW = 3
"""So many requests given up one after the other mean that it is the server, not the finding."""


@dataclass
class Outcome:
    """What a run has done. complete: findings of the `asked` ones that the book now has; failed: {finding: why};
    fatal: what ended the run before its time; stopped_by: the signal that did.
    """

    asked: int
    complete: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    fatal: ConceptError | None = None
    stopped_by: int | None = None
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def exit_code(self) -> int:
        return 128 + self.stopped_by if self.stopped_by else 1 if self.failed else 0

    def __str__(self) -> str:
        used = f"{counted(self.calls, 'answer')} in this run, {self.tokens_in:,} tokens in, {self.tokens_out:,} out"
        rest = "" if self.complete == self.asked else ", a new start asks only for the rest"
        are = "is" if self.asked == 1 else "are"
        return f"{self.complete} of {counted(self.asked, 'finding')} {are} in the book ({used}){rest}"


def generate(order: Order, client: Client) -> Outcome:
    """Ask for what is missing and write the book, also with what is there when the run ends early.

    ConceptError before anything is asked, when the book, the cache or the text encoder cannot be read, or an answer
    could not be kept.
    """
    plan = make_plan(order)
    if plan.jobs:
        check_writable(order.cache.folder, "--cache")
    if plan.samples:
        check_writable(order.out.parent, "--out")
    encoder = _load_encoder(order)
    run = _Run(plan, client)
    if plan.jobs:
        with suppress(asyncio.CancelledError):
            asyncio.run(run.ask_all())
    added = _choose(plan, encoder)
    if added:
        plan.book.model_copy(update={"findings": plan.book.findings | added}).write(order.out)
    run.outcome.complete = len(plan.kept) + len(added)
    return run.outcome


class _Run:
    """Workers that take jobs from one list until it is at its end, or the run is."""

    def __init__(self, plan: Plan, client: Client):
        self.plan, self.client, self.cache, self.prompts = plan, client, plan.order.cache, plan.order.prompts
        self.outcome = Outcome(len(plan.order.findings))
        self._unanswered = 0
        known = {*plan.order.findings, *plan.book.findings, *self.prompts.examples}
        examples = self.prompts.example_lines
        self._checkers = {
            each: Checker(without_ordinary(known - {each}), examples, diagnoses()) for each in plan.samples
        }

    async def ask_all(self) -> None:
        jobs = self.plan.jobs
        with progress_bar(total=len(jobs), description="asking", unit="answer") as bar, self._interruptible():
            async with self.client, asyncio.TaskGroup() as workers:
                remaining = iter(jobs)
                for _ in range(min(self.client.settings.concurrency, len(jobs))):
                    workers.create_task(self._work(remaining, bar))

    async def _work(self, jobs: Iterator[Job], bar: tqdm) -> None:
        for job in jobs:
            try:
                await self._ask(job)
            except StoppedError:
                return
            except (UnansweredError, AnswerError) as error:
                self.outcome.failed[job.finding] = str(error)
                self._unanswered += isinstance(error, UnansweredError)
                if self._unanswered >= UNANSWERED_IN_A_ROW:
                    self._end(ServerError(str(error)))
            except ConceptError as error:
                self._end(error)
            else:
                bar.update()

    async def _ask(self, job: Job) -> None:
        """Ask until an answer can be used; AnswerError says what was wrong with the last one."""
        before = self.cache.attempts(job.finding, job.sample)
        rejected = before[-1] if before and before[-1].problems else None
        retries = self.client.settings.max_retries
        for _ in range(retries + 1):
            messages = self.prompts.conversation(job.finding, rejected and (rejected.answer, rejected.problems))
            attempt = self._judged(job, await self.client.complete(messages))
            self.cache.add(job.finding, job.sample, attempt)
            if not attempt.problems:
                return
            rejected = attempt
        tried = counted(retries + 1, "answer")
        raise AnswerError([f"{tried} could not be used; the last: {'; '.join(rejected.problems)}"])

    def _judged(self, job: Job, completion: Completion) -> Attempt:
        self._unanswered = 0
        self.outcome.calls += 1
        self.outcome.tokens_in += completion.tokens_in
        self.outcome.tokens_out += completion.tokens_out
        problems: tuple[str, ...] = ()
        try:
            if completion.flaw:
                raise AnswerError([completion.flaw])
            self._checkers[job.finding].read(completion.text, job.finding)
        except AnswerError as error:
            problems = error.problems
        return Attempt(
            answer=completion.text,
            problems=problems,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            tokens_in=completion.tokens_in,
            tokens_out=completion.tokens_out,
        )

    def _end(self, error: ConceptError) -> None:
        """Send no more; requests under way come to their end, since they are paid for."""
        self.outcome.fatal = self.outcome.fatal or error
        self.client.stopped.set()

    @contextmanager
    def _interruptible(self):
        """Within it, Ctrl-C lets the requests under way come to their end, and a second one drops them.

        So does SIGTERM, by which Slurm and docker end a job.
        """
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop(number: int) -> None:
            if self.outcome.stopped_by:
                task.cancel()
                return
            self.outcome.stopped_by = number
            self.client.stopped.set()
            tqdm.write("waiting for the answers under way; Ctrl-C again drops them", file=sys.stderr)

        signals = (signal.SIGINT, signal.SIGTERM)
        with suppress(NotImplementedError):  # Windows
            for number in signals:
                loop.add_signal_handler(number, stop, number)
        try:
            yield
        finally:
            with suppress(NotImplementedError):
                for number in signals:
                    loop.remove_signal_handler(number)


def _load_encoder(order: Order) -> "TextEncoder | None":
    """The encoder that chooses among samples, loaded before anything is paid for; None where there is no choice."""
    if order.samples == 1:
        return None
    from mavl.text.encoder import TextEncoder

    encoder = TextEncoder(order.text_encoder)
    encoder.encode(["chest"])
    return encoder


def _choose(plan: Plan, encoder: "TextEncoder | None") -> dict[str, Entry]:
    """{finding: entry} for each finding whose samples are all there."""
    chosen = {}
    for finding, jobs in plan.samples.items():
        entries = [plan.entry(job) for job in jobs]
        if None not in entries:
            chosen[finding] = entries[0 if encoder is None else choose(entries, encoder)]
    return chosen
