"""Many requests at once, in a run that ends in order: after its jobs, after a lasting error, or by a signal."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from tqdm import tqdm

from mavl.llm.answers import AnswerError, Attempt, Message
from mavl.llm.client import Client, ServerError, StoppedError, UnansweredError
from mavl.progress import note

Job = TypeVar("Job")

UNANSWERED_IN_A_ROW = 3
"""After so many unanswered requests in a row the run ends: then the cause is the server, not the job."""


@dataclass(kw_only=True)
class Outcome:
    """The result of a run.

    fatal: the error that ended the run early. stopped_by: the signal that did. calls: answers received.
    """

    fatal: Exception | None = None
    stopped_by: int = 0
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0


class Workers(Generic[Job]):
    """Coroutines that take jobs from one list until its end or the end of the run.

    Args:
        work: does a job by `complete`. AnswerError and UnansweredError are faults of the job, others end the run.
        fail: takes a job that failed, and the reason.
    """

    def __init__(
        self,
        client: Client,
        outcome: Outcome,
        work: Callable[[Job], Awaitable[None]],
        fail: Callable[[Job, str], None],
    ):
        self._client, self._outcome, self._work_on, self._fail, self._unanswered = client, outcome, work, fail, 0

    async def complete(self, messages: Sequence[Message]) -> Attempt:
        """The answer to a conversation, counted; errors as Client.complete."""
        attempt = await self._client.complete(messages)
        self._unanswered = 0
        self._outcome.calls += 1
        self._outcome.tokens_in += attempt.tokens_in
        self._outcome.tokens_out += attempt.tokens_out
        return attempt

    def run(self, jobs: Sequence[Job], bar: tqdm) -> None:
        """Work through the jobs; the bar counts those that succeed."""
        with suppress(asyncio.CancelledError):
            asyncio.run(self._run(jobs, bar))

    def end(self, error: Exception) -> None:
        """Send no more requests; those already sent are awaited."""
        self._outcome.fatal = self._outcome.fatal or error
        self._client.stopped.set()

    async def _run(self, jobs: Sequence[Job], bar: tqdm) -> None:
        loop = asyncio.get_running_loop()
        with suppress(NotImplementedError):  # Windows
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stop, number, asyncio.current_task())
        with bar:
            async with self._client.sdk, asyncio.TaskGroup() as workers:
                remaining = iter(jobs)
                for _ in range(min(self._client.settings.concurrency, len(jobs))):
                    workers.create_task(self._work(remaining, bar))

    async def _work(self, jobs: Iterator[Job], bar: tqdm) -> None:
        for job in jobs:
            try:
                await self._work_on(job)
                bar.update()
            except StoppedError:
                return
            except (UnansweredError, AnswerError) as error:
                self._fail(job, str(error))
                self._unanswered += isinstance(error, UnansweredError)
                if self._unanswered >= UNANSWERED_IN_A_ROW:
                    self.end(ServerError(str(error)))
            except Exception as error:
                self.end(error)

    def _stop(self, number: int, task: asyncio.Task | None) -> None:
        """Let the requests under way end after Ctrl-C or SIGTERM (Slurm, docker); drop them after a second one."""
        if task and self._outcome.stopped_by:
            task.cancel()
            return
        self._outcome.stopped_by = number
        self._client.stopped.set()
        note("waiting for the answers under way; Ctrl-C again drops them")
