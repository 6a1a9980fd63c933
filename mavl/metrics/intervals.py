"""Bootstrap intervals from one sort, means over images and over seeds. NumPy only.

A resample of n images is stored as the number of times that each image occurs in it. A metric that takes these numbers
as weights sorts the scores once and then only counts: `Ranking` counts, `bootstrap` resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""The share of the resampled values that lies within an interval."""

WEIGHTS_AT_ONCE = 2**18
"""2 MiB of weights, which fit into the processor's cache and bound the memory."""


@dataclass(frozen=True)
class Interval:
    """A value and the bounds of its 95 % interval; the bounds are NaN where no resample has a value."""

    value: float
    low: float
    high: float


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

    def place(self, threshold: float, strict: bool) -> np.ndarray:
        """[1] the number of images predicted positive: score >= threshold, or score > threshold if `strict`."""
        return np.searchsorted(-self.scores, [-threshold], side="left" if strict else "right")

    def tally(self, weights: np.ndarray | None = None) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
        """weights [R, m] in this order, whole numbers (1 if omitted) -> a function of places.

        The function maps places [K], each the number of images predicted positive, to the summed weights of the true
        positives [R, K], the false positives [R, K], all positives [R, 1] and all negatives [R, 1].
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
    """labels [n] in {1, 0, -1 = unlabelled, not ranked}, scores [n] -> their ranking.

    Raises ValueError with the name of the class and the row (from 0) for other labels and for scores that are not
    finite.
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

    Raises ValueError if the length is not n or an entry is missing (None or NaN).
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
    """The statistics of resamples of whole groups, with replacement: [resamples, ...].

    A resample has as many groups as the data. If every image is a group of its own, this is the plain bootstrap. The
    resamples depend on the seed alone, not on how many are computed at a time.

    Args:
        statistics: maps weights [R, n], the number of times that each image occurs, to [R, ...].
        groups: [n] integers from 0.
    """
    rng = np.random.default_rng(seed)
    size = int(groups.max()) + 1
    step = max(1, WEIGHTS_AT_ONCE // len(groups))
    samples = [statistics(np.empty((0, len(groups)), int))]  # the shape of the result if resamples is 0
    for first in range(0, resamples, step):
        chosen = rng.integers(size, size=(min(step, resamples - first), size))
        chosen += size * np.arange(len(chosen))[:, None]
        counts = np.bincount(chosen.ravel(), minlength=chosen.size).reshape(chosen.shape)
        samples.append(statistics(counts.take(groups, axis=1)))
    return np.concatenate(samples)


def mean_over_classes(statistics: np.ndarray) -> np.ndarray:
    """[R, C, M] -> [R, 1, M], the mean over the classes that are not NaN; NaN where all are."""
    known = ~np.isnan(statistics)
    sums, counts = np.sum(statistics, axis=1, where=known, keepdims=True), known.sum(axis=1, keepdims=True)
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def percentile_intervals(values: np.ndarray, samples: np.ndarray, metrics: Sequence[str]) -> list[dict[str, Interval]]:
    """values [1, C, M], their resampled values [R, C, M] -> for each class, the interval of each metric.

    Resampled values that are NaN are ignored. Because resamples repeat images, these intervals are biased upward for a
    maximum over thresholds and, with few positives, for average precision.
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


def mean_intervals(
    values: np.ndarray, metrics: Sequence[str], *, groups: Sequence | None, resamples: int, seed: int
) -> dict[str, Interval]:
    """values [n, M] of n images, NaN where an image has no value -> the mean of each metric with its interval.

    The mean of a column without any value is NaN. The bootstrap resamples images, or whole groups [n] if given.
    """
    known = ~np.isnan(values)
    counted, counts = np.where(known, values, 0.0), known.astype(float)

    def means(weights: np.ndarray) -> np.ndarray:
        sums, of = weights @ counted, weights @ counts
        return np.divide(sums, of, out=np.full(sums.shape, np.nan), where=of > 0)[:, None]

    n = len(values)
    units = group_index(range(n) if groups is None else groups, n)
    return percentile_intervals(means(np.ones((1, n))), bootstrap(means, units, resamples, seed), metrics)[0]


def mean_and_std(values: Sequence[float | None]) -> dict[str, float | list[float]]:
    """Values of several seeds -> {mean, std, values}, without the undefined ones (NaN, or None from JSON).

    std is that of a sample; it is NaN for a single value.
    """
    values = [np.nan if value is None else value for value in values]
    defined = [value for value in values if not np.isnan(value)]
    return {
        "mean": float(np.mean(defined)) if defined else np.nan,
        "std": float(np.std(defined, ddof=1)) if len(defined) > 1 else np.nan,
        "values": values,
    }


def _running_sums(weights: np.ndarray) -> np.ndarray:
    """weights [R, m] -> [R, m + 1], the sum of the weights before each place."""
    sums = np.zeros((len(weights), weights.shape[1] + 1), int)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
