"""Scores sorted once, and counts of their binary decisions at any thresholds. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np


def ratio_of(counts: np.ndarray, of: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """counts / of, and `empty` where `of` is 0."""
    counts, of = np.broadcast_arrays(counts, of)
    return np.divide(counts, of, out=np.full(of.shape, empty), where=of > 0)


@dataclass(frozen=True)
class Confusion:
    """Counts of decisions [R, K] with R weightings of the images at K thresholds; positives and negatives are [R, 1].

    The rates are NaN where they are shares of no image.
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        return self.true_positives + self.false_positives

    @property
    def accuracy(self) -> np.ndarray:
        correct = self.true_positives + self.negatives - self.false_positives
        return ratio_of(correct, self.positives + self.negatives)

    @property
    def sensitivity(self) -> np.ndarray:
        return ratio_of(self.true_positives, self.positives)

    @property
    def specificity(self) -> np.ndarray:
        return ratio_of(self.negatives - self.false_positives, self.negatives)

    @property
    def precision(self) -> np.ndarray:
        """0 where no image is predicted positive, as in scikit-learn."""
        return ratio_of(self.true_positives, self.predicted, empty=0.0)

    @property
    def iou(self) -> np.ndarray:
        return ratio_of(self.true_positives, self.positives + self.false_positives)

    @property
    def f1(self) -> np.ndarray:
        return ratio_of(2 * self.true_positives, self.positives + self.predicted)


@dataclass(frozen=True)
class Counts:
    """The counts from which the metrics of a class are computed.

    start, end: before and after each of the K runs of equal scores that contain a positive; cut: at the thresholds.
    """

    start: Confusion
    end: Confusion
    cut: Confusion

    @cached_property
    def gained(self) -> np.ndarray:
        """[R, K] the true positives of each run."""
        return self.end.true_positives - self.start.true_positives

    @property
    def average_precision(self) -> np.ndarray:
        """[R] the sum of precision times gain in recall."""
        return ratio_of((self.gained * self.end.precision).sum(axis=1), self.end.positives[:, 0])

    @cached_property
    def best(self) -> Confusion:
        """[R, 1] at the largest F1; of several thresholds that reach it, at the lowest."""
        run = self.end.f1.shape[1] - 1 - self.end.f1[:, ::-1].argmax(axis=1)[:, None]
        true, false = (np.take_along_axis(x, run, axis=1) for x in (self.end.true_positives, self.end.false_positives))
        return Confusion(true, false, self.end.positives, self.end.negatives)


@dataclass(frozen=True)
class Ranking:
    """The m labelled images of a class in order of falling score.

    A metric can improve only at a threshold that adds a positive. Therefore the running sums over the m images are
    needed only at the K runs of equal scores that contain a positive, which makes a resample cheap.
    """

    order: np.ndarray  # [m] rows of the images
    scores: np.ndarray  # [m] falling
    positive: np.ndarray  # places of the positives in the order
    positives_before: np.ndarray  # [m + 1] number of positives before each place
    starts: np.ndarray  # [K] first place of each run
    ends: np.ndarray  # [K] place after the last of each run

    @property
    def one_label(self) -> bool:
        """Whether all images have the same label, or there is none."""
        return len(self.positive) in (0, len(self.order))

    def count(
        self, thresholds: Sequence[float] | np.ndarray, strict: bool, weights: np.ndarray | None = None
    ) -> Counts:
        """The counts; positive is score >= threshold, or score > threshold if `strict`.

        weights: [R, m] whole numbers in this order, [1, m] of ones if omitted.
        """
        weights = np.ones((1, len(self.order)), int) if weights is None else weights
        predicted, true = _running_sums(weights), _running_sums(weights.take(self.positive, axis=1))
        positives = true[:, -1:]
        negatives = predicted[:, -1:] - positives

        def at(places: np.ndarray) -> Confusion:
            true_positives = true.take(self.positives_before[places], axis=1)
            return Confusion(true_positives, predicted.take(places, axis=1) - true_positives, positives, negatives)

        cut = np.searchsorted(-self.scores, -np.asarray(thresholds, float), side="left" if strict else "right")
        return Counts(at(self.starts), at(self.ends), at(cut))


def rank(labels: np.ndarray, scores: np.ndarray, name: str = "") -> Ranking:
    """labels [n] in {1, 0, -1 = unlabelled, not ranked}, scores [n] -> their ranking.

    Raises ValueError with the name of the class and the row (from 0) for other labels and scores that are not finite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    for what, values, good, rule in (
        ("label", labels, np.isin(labels, (1, 0, -1)), "labels are 1, 0, or -1 for unlabelled"),
        ("score", scores, np.isfinite(scores), "scores must be finite"),
    ):
        if not good.all():
            row = int(good.argmin())
            raise ValueError(f"{f'class {name!r}, ' if name else ''}row {row}: {what} {values[row]}; {rule}")
    labelled = np.flatnonzero(labels != -1)
    order = labelled[np.argsort(-scores[labelled], kind="stable")]
    scores, present = scores[order], labels[order] == 1
    before = np.r_[0, np.cumsum(present)]
    edges = np.r_[0, np.flatnonzero(scores[1:] != scores[:-1]) + 1, len(order)]
    starts, ends = edges[:-1], edges[1:]
    with_positive = before[ends] > before[starts]
    return Ranking(order, scores, np.flatnonzero(present), before, starts[with_positive], ends[with_positive])


def _running_sums(weights: np.ndarray) -> np.ndarray:
    """weights [R, m] -> [R, m + 1], the sum of the weights before each place."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), int)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
