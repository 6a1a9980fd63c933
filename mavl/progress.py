"""Progress bars: frequent on a terminal, a line now and then in a log file."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

LOG_SECONDS = 30

TOGETHER = 16
"""Files a task of a thread: a future for each of 377,000 would cost about as much as reading their headers."""


def progress_bar(iterable=None, *, description: str, unit: str, show: bool = True, **options) -> tqdm:
    """tqdm over the iterable, or by hand with `total`."""
    interval = 0.2 if sys.stderr.isatty() else LOG_SECONDS
    return tqdm(iterable, desc=description, unit=unit, disable=not show, mininterval=interval, **options)


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str, show: bool = True
) -> Iterator[Result]:
    """function(item) of every file in order, under a progress bar. An interrupt cancels what has not begun."""
    tasks = [items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER)]
    bar = progress_bar(total=len(items), description=description, unit="file", show=show and len(items) > 0)
    with ThreadPoolExecutor(max(1, workers)) as pool, bar:
        for results in pool.map(lambda task: [function(item) for item in task], tasks):
            bar.update(len(results))
            yield from results
