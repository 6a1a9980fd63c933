"""Bootstrap intervals, and means over images. NumPy only.

A resample of n images is stored as the number of times that each image occurs in it: a metric that takes these numbers
as weights needs no copy of the images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mavl.metrics.ranking import ratio_of

LEVEL = 0.95
"""The share of the resampled values that lies within an interval."""

WEIGHTS_AT_ONCE = 2**18
"""2 MiB of weights, which fit into the processor's cache and bound the memory."""


@dataclass(frozen=True)
class Interval:
    """A value and the bounds of its 95 % interval; the bounds are NaN where no resample has a value."""

    value: float
    low: float = np.nan
    high: float = np.nan


def group_index(groups: Sequence, n: int) -> np.ndarray:
    """groups [n], hashable keys such as patient ids -> [n] integers from 0, in order of first appearance."""
    keys = np.asarray(groups).tolist()
    missing = [row for row, key in enumerate(keys) if key is None or key != key]
    if len(keys) != n or missing:
        raise ValueError(f"groups: {len(keys)} keys for {n} images, rows without a key: {missing}")
    index: dict = {}
    return np.array([index.setdefault(key, len(index)) for key in keys])


def bootstrap(
    statistics: Callable[[np.ndarray], np.ndarray], groups: np.ndarray, resamples: int, seed: int
) -> np.ndarray:
    """The statistics [resamples, ...] of resamples of whole groups, with replacement; groups [n] are integers from 0.

    `statistics` maps weights [R, n], the number of times that each image occurs, to [R, ...]. A resample has as many
    groups as the data. The resamples depend on the seed alone, not on how many are computed at a time.
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
    return ratio_of(sums, counts)


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
        return ratio_of(weights @ counted, weights @ counts)[:, None]

    n = len(values)
    units = group_index(range(n) if groups is None else groups, n)
    return percentile_intervals(means(np.ones((1, n))), bootstrap(means, units, resamples, seed), metrics)[0]
