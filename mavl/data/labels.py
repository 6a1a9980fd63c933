"""Labels from reports: a matrix [anatomies, findings] of a study -> the targets of the losses (MedKLIP, ICCV 2023)."""

from functools import cached_property
from pathlib import Path

import numpy as np

from mavl.vocab import ABSENT, ANATOMIES, FINDINGS, PRESENT, UNKNOWN, UNSPECIFIED

CANDIDATES = 8


def finding_labels(matrix: np.ndarray) -> np.ndarray:
    """matrix int8 [51, F] -> labels int8 [F]: 1 if any anatomy holds 1, else 0 if any holds 0, else -1."""
    present = (matrix == PRESENT).any(axis=0)
    absent = (matrix == ABSENT).any(axis=0)
    return np.where(present, PRESENT, np.where(absent, ABSENT, UNKNOWN)).astype(np.int8)


def draw_locations(matrix: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """matrix int8 [51, F] -> random candidate anatomies int64 [F, 8], the first the right one. No replacement.

    If the finding is present: one of the anatomies that hold 1, then 7 of those that do not (-1 when they run out).
    Otherwise 8 of those that do not, which the loss does not read.
    """
    held = matrix.T == PRESENT
    keys = generator.random(held.shape)
    order = np.argsort(np.where(held, 2 + keys, keys), axis=1)
    locations = order[:, :CANDIDATES]
    negatives = (~held).sum(axis=1, keepdims=True)
    locations = np.where(np.arange(CANDIDATES) < negatives, locations, -1)
    present = held.any(axis=1)
    true = np.argmax(np.where(held, keys, -1.0), axis=1)
    with_true = np.concatenate([true[:, None], locations[:, : CANDIDATES - 1]], axis=1)
    return np.where(present[:, None], with_true, locations)


def unlocated(labels: np.ndarray) -> np.ndarray:
    """labels [F] without places -> matrix int8 [51, F] that holds them at `unspecified`."""
    matrix = np.full((len(ANATOMIES), len(labels)), UNKNOWN, dtype=np.int8)
    matrix[ANATOMIES.index(UNSPECIFIED)] = labels
    return matrix


class LabelStore:
    """`landmark_observation_adj_mtx.npy`, [studies, 51, 75], as a memory map: a row costs what it holds.

    The released file is float64, that of `prepare_data.py radgraph` int8. columns: positions of the wanted findings in
    the vocabulary (None: all). ValueError for a file of another shape.
    """

    def __init__(self, path: Path, columns: list[int] | None = None):
        self.path, self.columns = path, columns

    def __reduce__(self):
        return LabelStore, (self.path, self.columns)  # workers open the file anew: a pickled memory map is a copy

    @cached_property
    def array(self) -> np.ndarray:
        expected = (len(ANATOMIES), len(FINDINGS))
        try:
            array = np.lib.format.open_memmap(self.path, mode="r")
        except ValueError as error:
            raise ValueError(f"{self.path}: not an NPY file of numbers ({error})") from error
        if array.ndim != 3 or array.shape[1:] != expected:
            raise ValueError(f"{self.path}: shape {array.shape}, expected [studies, {expected[0]}, {expected[1]}]")
        return array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> np.ndarray:
        """matrix int8 [51, F] of one study."""
        matrix = np.asarray(self.array[row], dtype=np.int8)
        return matrix if self.columns is None else matrix[:, self.columns]
