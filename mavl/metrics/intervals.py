"""Bootstrap intervals at the price of one sort. NumPy only.

A resample of n images is the number of times that each image was drawn. A metric that takes those numbers as weights
ranks the scores once and from then on only counts: `Ranking` does the counting, `bootstrap` the drawing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""The share of the resamples that lies within an interval."""

_WEIGHTS_AT_ONCE = 2**18
"""2 MiB of weights, so that they stay in the processor's cache and memory stays flat."""


@dataclass(frozen=True)
class Interval:
    """A value and the bounds of its 95 % interval; the bounds are NaN where no resample counted."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ranking:
    """The m labelled images of a class by falling score.

    A metric can only change for the better at a threshold that lets a positive in. So of the running sums over m images
    those at the K runs of equal scores that hold a positive are enough, which keeps a resample cheap.
    """

    order: np.ndarray  # [m] rows of the images
    scores: np.ndarray  # [m] falling
    positive: np.ndarray  # places of the positives in the order
    positives_before: np.ndarray  # [m + 1] how many there are before each place
    starts: np.ndarray  # [K] first place of each run
    ends: np.ndarray  # [K] place after its last

    @property
    def one_label(self) -> bool:
        return len(self.positive) in (0, len(self.order))

    def place(self, threshold: float, strict: bool) -> np.ndarray:
        """[1] how many images are predicted positive: score >= threshold, or score > threshold if `strict`."""
        return np.searchsorted(-self.scores, [-threshold], side="left" if strict else "right")

    def tally(self, weights: np.ndarray | None = None) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
        """weights [R, m] in this order, whole numbers (1 if left out) -> a function of places.

        It maps places [K], each the number of images predicted positive, to the weight of true positives [R, K], false
        positives [R, K], all positives [R, 1] and all negatives [R, 1].
        """
        weights = np.ones((1, len(self.order)), int) if weights is None else weights
        predicted, true = _running_sums(weights), _running_sums(weights.take(self.positive, axis=1))
        positives = true[:, -1:]
        negatives = predicted[:, -1:] - positives

        def count(places: np.ndarray) -> tuple[np.ndarray, ...]:
            true_positives = true.take(self.positives_before[places], axis=1)
            return true_positives, predicted.take(places, axis=1) - true_positives, positives, negatives

        return count


def rank(labels: np.ndarray, scores: np.ndarray, name: str = "") -> Ranking:
    """labels [n] in {1, 0, -1 = left out}, scores [n] -> their ranking.

    Raises ValueError, with the class's name and the row (from 0), for other labels and for scores that are not finite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be vectors of one length")
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


def group_index(groups: Sequence, n: int) -> np.ndarray:
    """groups [n], any hashable keys such as patient ids -> [n] integers from 0, in order of first appearance.

    Raises ValueError where the length is not n or an entry is missing (None or NaN).
    """
    keys = np.asarray(groups).tolist()
    if np.shape(keys) != (n,):
        raise ValueError(f"groups must hold one entry for each of the {n} images, not have the shape {np.shape(keys)}")
    missing = [row for row, key in enumerate(keys) if key is None or key != key]
    if missing:
        raise ValueError(f"groups: row {missing[0]} is missing; give an image of unknown patient a group of its own")
    index: dict = {}
    return np.array([index.setdefault(key, len(index)) for key in keys])


def bootstrap(
    statistics: Callable[[np.ndarray], np.ndarray], groups: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """Draw whole groups with replacement, as many as there are; with every image its own group, the plain bootstrap.

    groups [n] are integers from 0. `statistics` maps weights [R, n], how often each image was drawn, to [R, ...]; the
    answer is [resamples, ...]. The draws depend on the seed alone, not on how many are held at a time.
    """
    rng = np.random.default_rng(seed)
    size = int(groups.max()) + 1
    step = max(1, _WEIGHTS_AT_ONCE // len(groups))
    samples = [statistics(np.empty((0, len(groups)), int))]  # gives no resamples at all their shape, too
    for first in range(0, resamples, step):
        drawn = rng.integers(size, size=(min(step, resamples - first), size))
        drawn += size * np.arange(len(drawn))[:, None]
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        samples.append(statistics(counts.take(groups, axis=1)))
    return np.concatenate(samples)


def mean_over_classes(statistics: np.ndarray) -> np.ndarray:
    """[R, C, M] -> [R, 1, M], over the classes that are not NaN; NaN where all are."""
    known = ~np.isnan(statistics)
    sums, counts = np.sum(statistics, axis=1, where=known, keepdims=True), known.sum(axis=1, keepdims=True)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def percentile_intervals(values: np.ndarray, samples: np.ndarray, metrics: Sequence[str]) -> list[dict[str, Interval]]:
    """values [1, C, M], their resampled values [R, C, M] -> for each class, the interval of each metric.

    Resampled values that are NaN do not count. As resamples repeat images, these intervals lean upward for a maximum
    over thresholds and for average precision when positives are few.
    """
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]

    def interval(value: float, sampled: np.ndarray) -> Interval:
        counted = sampled[~np.isnan(sampled)]
        low, high = np.quantile(counted, tails) if len(counted) and not np.isnan(value) else (np.nan, np.nan)
        return Interval(float(value), float(low), float(high))

    return [
        {metric: interval(values[0, c, m], samples[:, c, m]) for m, metric in enumerate(metrics)}
        for c in range(values.shape[1])
    ]


def _running_sums(weights: np.ndarray) -> np.ndarray:
    """weights [R, m] -> [R, m + 1], the sum of those before each place."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), int)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
