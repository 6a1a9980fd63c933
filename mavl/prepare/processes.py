"""Several processes on one task list, and one process at a time in a folder."""

import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2
"""Tasks per process that are taken from the iterable before their results are: the iterable may have any length."""

LOCK = ".lock"


class WorkerError(RuntimeError):
    """A process was killed from outside."""


class InUseError(ValueError):
    """A folder that another process writes."""


def work_through(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """function(task) of each task, in the order of the tasks, computed in `workers` processes (1: in this process).

    An error of `tasks` or of `function` is raised after the tasks in work are done; WorkerError when a process was
    killed.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks that threads of this process hold
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_with_parent) as pool:
        pending = deque()
        try:
            for task in tasks:
                if len(pending) == AHEAD * workers:
                    yield pending.popleft().result()
                pending.append(pool.submit(function, task))
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            fix = "out of memory? run the command again: fewer --workers need less"
            raise WorkerError(f"a worker process was killed ({fix})") from error


def _leave_with_parent() -> None:
    """The process ignores interrupts, which the parent handles, and exits when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Lock the folder for the block; the end of the process also ends the lock. InUseError where it is locked."""
    with open(folder / LOCK, "w", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o666)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUseError(f"{folder} is being written by another process") from error
        except OSError as error:
            fix = "let no other process write it"
            print(f"{folder}: its file system has no locks ({error.strerror}); {fix}", file=sys.stderr)
        yield
