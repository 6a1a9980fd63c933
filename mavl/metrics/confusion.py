"""Counts of binary decisions and the rates computed from them. NumPy only."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


def ratio_of(counts: np.ndarray, of: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """counts / of, and `empty` where `of` is 0; scalars give a scalar."""
    counts, of = np.broadcast_arrays(counts, of)
    return np.divide(counts, of, out=np.full(of.shape, empty), where=of > 0)[()]


@dataclass(frozen=True)
class Confusion:
    """Counts of one decision, or arrays of them, with the rates computed from them; a rate of no images is NaN."""

    true_positives: int | np.ndarray
    false_positives: int | np.ndarray
    positives: int | np.ndarray
    negatives: int | np.ndarray

    @property
    def accuracy(self) -> float | np.ndarray:
        correct = self.true_positives + self.negatives - self.false_positives
        return ratio_of(correct, self.positives + self.negatives)

    @property
    def sensitivity(self) -> float | np.ndarray:
        return ratio_of(self.true_positives, self.positives)

    @property
    def specificity(self) -> float | np.ndarray:
        return ratio_of(self.negatives - self.false_positives, self.negatives)

    @property
    def precision(self) -> float | np.ndarray:
        """0 where no image is predicted positive, as in scikit-learn."""
        return ratio_of(self.true_positives, self.true_positives + self.false_positives, empty=0.0)

    @property
    def f1(self) -> float | np.ndarray:
        return ratio_of(2 * self.true_positives, self.positives + self.true_positives + self.false_positives)


@dataclass(frozen=True)
class Counts:
    """What the metrics of a class are computed from: confusions of R weightings of its images.

    start, end: [R, K] before and after each of the K runs of equal scores that contain a positive; cut: [R, 1] at the
    threshold of the class.
    """

    start: Confusion
    end: Confusion
    cut: Confusion

    @cached_property
    def gained(self) -> np.ndarray:
        """[R, K] the true positives of each run."""
        return self.end.true_positives - self.start.true_positives

    @cached_property
    def best(self) -> Confusion:
        """[R] at the largest F1; of several thresholds that reach it, at the lowest."""
        f1 = self.end.f1
        run = f1.shape[1] - 1 - f1[:, ::-1].argmax(axis=1)[:, None]
        picked = (np.take_along_axis(x, run, axis=1) for x in (self.end.true_positives, self.end.false_positives))
        return Confusion(*(x[:, 0] for x in (*picked, self.end.positives, self.end.negatives)))
