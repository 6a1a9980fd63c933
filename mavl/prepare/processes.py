"""Work for several processes: few tasks ahead of the results, and no process that outlives the one that started it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2
"""Tasks a process that are drawn from the iterable before their results are: it may be as long as it likes."""


class WorkerError(RuntimeError):
    """A process was killed from outside."""


def work_through(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """function(task) of every task, as they are done, in so many processes (1: in this one).

    When drawing a task or doing one fails, those that were begun are finished before the error is raised; WorkerError
    when a process was killed.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would carry along the threads' locks of this process
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_with_parent) as pool:
        pending = set()
        try:
            for task in tasks:
                if len(pending) == AHEAD * workers:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
                pending.add(pool.submit(function, task))
            yield from (future.result() for future in pending)
        except BrokenProcessPool as error:
            fix = "out of memory? fewer --workers need less; the same command goes on where it was"
            raise WorkerError(f"a worker process was killed ({fix})") from error


def _leave_with_parent() -> None:
    """An interrupt is the parent's affair; a parent that is gone, however it went, takes this process along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process().sentinel
    threading.Thread(target=lambda: (wait_for([parent]), os._exit(1)), daemon=True).start()
