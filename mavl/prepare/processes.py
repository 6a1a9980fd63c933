"""Several processes on one task list."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mavl.data.processes import leave_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 2
"""Tasks per process that are taken from the iterable before their results are: the iterable may have any length."""


class WorkerError(RuntimeError):
    """A process was killed from outside."""


def work_through(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> Iterator[Result]:
    """function(task) of each task, in the order of the tasks, computed in `workers` processes (1: in this process).

    An error of `tasks` or of `function` is raised after the tasks in work are done; WorkerError when a process was
    killed.
    """
    if workers <= 1:
        yield from map(function, tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy the locks that threads of this process hold
    with ProcessPoolExecutor(workers, mp_context=context, initializer=leave_with_parent) as pool:
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
