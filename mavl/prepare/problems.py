"""problems.csv: each fault of the data, in order of discovery, with the number of each kind."""

import csv
from collections import Counter
from collections.abc import Callable
from typing import IO, NamedTuple


class Problem(NamedTuple):
    """A fault. kind: one of a few; where: the report, image or row."""

    kind: str
    detail: str = ""
    where: str = ""


Report = Callable[[Problem], object]


class ProblemList:
    """Writes problems to a text file; `counts` has the number of each kind."""

    def __init__(self, file: IO[str]):
        self._rows = csv.writer(file)
        self._rows.writerow(["kind", "where", "detail"])
        self.counts: Counter[str] = Counter()

    def add(self, problem: Problem) -> None:
        self._rows.writerow([problem.kind, problem.where, problem.detail])
        self.counts[problem.kind] += 1
