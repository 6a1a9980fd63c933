"""problems.csv: everything that is wrong with the data, written as it is met and counted by kind."""

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from mavl.files import whole_file


class Problem(NamedTuple):
    """What is wrong: of one of a few kinds, with which part, and in which report, image or row."""

    kind: str
    detail: str = ""
    where: str = ""


class ProblemList:
    """Writes problems down; `counts` says how many there were of each kind."""

    def __init__(self, file: IO):
        self._rows = csv.writer(file)
        self._rows.writerow(["kind", "where", "detail"])
        self.counts: Counter[str] = Counter()

    def add(self, problem: Problem) -> None:
        self._rows.writerow([problem.kind, problem.where, problem.detail])
        self.counts[problem.kind] += 1


@contextmanager
def problem_list(path: Path) -> Iterator[ProblemList]:
    """A list whose file is there when the block ends."""
    with whole_file(path) as file:
        yield ProblemList(file)
