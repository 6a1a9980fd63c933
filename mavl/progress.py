"""Console output: progress bars, notes, numbers with their nouns."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

LOG_SECONDS = 30
UP = "\x1b[A"
"""The cursor a line up, as tqdm writes it where one bar is below another."""
LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"

TOGETHER = 16
"""Files a task of a thread: a future for each of 377,000 would cost about as much as reading their headers."""


def plural(number: int, noun: str) -> str:
    """A number with its noun.

    >>> [plural(1, "image"), plural(2000, "study"), plural(0, "mass"), plural(2, "epoch")]
    ['1 image', '2,000 studies', '0 masses', '2 epochs']
    """
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        noun = f"{noun[:-1]}ie"
    return f"{number:,} {noun}{'es' if noun.endswith(('s', 'x', 'tch', 'sh')) else 's'}"


def is_first_process() -> bool:
    """Whether this is the first process of a run, or the only one, as launchers of several state it."""
    return os.environ.get("RANK", "0") == "0"


def note(text: str) -> None:
    """Print a line to stderr, above any progress bar; of several processes of a run, the first one alone does."""
    if is_first_process():
        tqdm.write(text, file=sys.stderr)


class _Lines:
    """A file for tqdm that writes each state as a line to stderr, for the log of a job."""

    last = ""

    def write(self, text: str) -> None:
        line = text.replace(UP, "").strip()
        if line and line != self.last:
            self.last = line
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(iterable=None, *, description: str, unit: str, show: bool = True, **options) -> tqdm:
    """tqdm over the iterable, or by hand with `total`; where stderr is no terminal, a line every LOG_SECONDS."""
    options |= {"desc": description, "unit": unit, "disable": not show}
    if sys.stderr.isatty():
        return tqdm(iterable, mininterval=0.2, **options)
    return tqdm(iterable, mininterval=LOG_SECONDS, miniters=1, bar_format=LINE, file=_Lines(), **options)


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
