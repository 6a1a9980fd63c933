"""The label file landmark_observation_adj_mtx.npy, int8 [studies, 51, 75], and the counts of its labels."""

import hashlib
from collections.abc import Iterable
from typing import IO, Any, NamedTuple

import numpy as np

from mavl.vocab import ABSENT, ANATOMIES, FINDINGS, PRESENT

LABELS = "landmark_observation_adj_mtx.npy"
SHAPE = (len(ANATOMIES), len(FINDINGS))
COUNTED = {"present": PRESENT, "absent": ABSENT}
BATCH = 128
"""Studies that a process labels at a time."""


class Problem(NamedTuple):
    """A row of problems.csv. where: the report, image or row of the fault."""

    kind: str
    where: str
    detail: str = ""


class Labelled(NamedTuple):
    """Some rows of the label file.

    matrices: int8 [rows, 51, 75], 1 present, 0 absent, -1 unknown.
    studies: the study id of each row, "" where unknown.
    """

    matrices: np.ndarray
    studies: list[str]
    problems: list[Problem]


def write_labels(
    file: IO[bytes], batches: Iterable[Labelled], problems: list[Problem]
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Write all batches, in order, as one NPY file, and add their problems to `problems`.

    Returns: the study id of each row, and {"present", "absent"}: int64 [51, 75], the numbers of studies.
    """
    studies, counts = [], {name: np.zeros(SHAPE, dtype=np.int64) for name in COUNTED}
    _write_header(file, 0)
    for batch in batches:
        file.write(batch.matrices.tobytes())
        studies += batch.studies
        problems += batch.problems
        for name, label in COUNTED.items():
            counts[name] += (batch.matrices == label).sum(axis=0)
    file.seek(0)
    _write_header(file, len(studies))
    return studies, counts


def checksum(file: Any) -> str:
    """SHA-256 of a whole binary file, in hexadecimal digits."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _write_header(file: IO[bytes], rows: int) -> None:
    """NumPy pads the header to the same length for any number of rows."""
    layout = {"descr": "|i1", "fortran_order": False, "shape": (rows, *SHAPE)}
    np.lib.format.write_array_header_1_0(file, layout)
