"""The label file landmark_observation_adj_mtx.npy, int8 [studies, 51, 75], and the counts of its labels."""

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any, NamedTuple

import numpy as np

from mavl.prepare.problems import Problem, Report
from mavl.vocab import ABSENT, ANATOMIES, FINDINGS, PRESENT

LABELS = "landmark_observation_adj_mtx.npy"
SHAPE = (len(ANATOMIES), len(FINDINGS))
BATCH = 128  # studies that a process labels at a time


class Labelled(NamedTuple):
    """Some rows of the label file.

    matrices: int8 [rows, 51, 75], 1 present, 0 absent, -1 unknown.
    studies: the study id of each row, 0 where unknown.
    """

    matrices: np.ndarray
    studies: list[int]
    problems: list[Problem]


@dataclass
class Totals:
    """studies: int64, the study id of each row; present, absent: int64 [51, 75], numbers of studies."""

    studies: array = field(default_factory=partial(array, "q"))
    present: np.ndarray = field(default_factory=partial(np.zeros, SHAPE, dtype=np.int64))
    absent: np.ndarray = field(default_factory=partial(np.zeros, SHAPE, dtype=np.int64))


def write_labels(file: IO[bytes], batches: Iterable[Labelled], report: Report) -> Totals:
    """Write all batches, in order, as one NPY file, and report their problems."""
    totals = Totals()
    _write_header(file, 0)
    for matrices, studies, problems in batches:
        file.write(matrices.tobytes())
        totals.studies.extend(studies)
        totals.present += (matrices == PRESENT).sum(axis=0)
        totals.absent += (matrices == ABSENT).sum(axis=0)
        for problem in problems:
            report(problem)
    file.seek(0)
    _write_header(file, len(totals.studies))
    return totals


def checksum(file: Any) -> str:
    """SHA-256 of a whole binary file, in hexadecimal digits."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _write_header(file: IO[bytes], rows: int) -> None:
    """NumPy pads the header to the same length for any number of rows."""
    layout = {"descr": "|i1", "fortran_order": False, "shape": (rows, *SHAPE)}
    np.lib.format.write_array_header_1_0(file, layout)
