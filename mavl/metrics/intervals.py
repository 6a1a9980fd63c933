"""Bootstrap intervals, and means over images.

A resample of n images is stored as the number of times that each image occurs in it: a metric that takes these numbers
as weights needs no copy of the images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from mavl.metrics.ranking import ratio_of

LEVEL = 0.95
"""The share of the resampled values that lies within an interval."""

FEWEST = 25
"""Groups (images without groups) that a bootstrap interval needs, of a class both positive and negative ones."""

FEWEST_FOR_VARIANCE = 50
"""Groups of each label whose resamples show how much their correlated images inflate a variance."""

FEWEST_FOR_ESTIMATES = 2
"""Groups of each label that an interval of AUROC or of a share needs."""

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
    keys = list(groups)  # as an array, NaN among texts would be the text "nan"
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


def bootstrap_interval(value: float, samples: np.ndarray, number: int) -> Interval:
    """The interval of a value of `number` images or groups by its resampled values [R], of which NaN are ignored.

    Because resamples repeat images, a maximum over thresholds is biased upward in them: the percentiles are corrected
    for bias (Efron, Canadian Journal of Statistics 1981). Resamples of few images vary too little: the percentiles are
    those of Student's t (Hesterberg, The American Statistician 2015).
    """
    counted = samples[~np.isnan(samples)]
    if not len(counted):
        return Interval(float(value))
    below = ((counted < value).mean() + (counted <= value).mean()) / 2
    bias = norm.ppf(np.clip(below, 0.5 / len(counted), 1 - 0.5 / len(counted)))
    half = np.sqrt(number / (number - 1)) * t.ppf((1 + LEVEL) / 2, number - 1) if number > 1 else np.inf
    low, high = np.quantile(counted, norm.cdf([2 * bias - half, 2 * bias + half]))
    return Interval(float(value), float(low), float(high))


def mean_intervals(
    values: np.ndarray, metrics: Sequence[str], *, groups: Sequence | None, resamples: int, seed: int
) -> dict[str, Interval]:
    """values [n, M] of n images, NaN where an image has no value -> the mean of each metric with its interval.

    The mean of a column without any value is NaN. The bootstrap resamples images, or whole groups [n] if given; a mean
    over fewer than FEWEST of them has no interval.
    """
    known = ~np.isnan(values)
    counted, counts = np.where(known, values, 0.0), known.astype(float)

    def means(weights: np.ndarray) -> np.ndarray:
        return ratio_of(weights @ counted, weights @ counts)

    n = len(values)
    units = group_index(range(n) if groups is None else groups, n)
    columns = zip(means(np.ones((1, n)))[0], bootstrap(means, units, resamples, seed).T, known.T, strict=True)
    return {
        metric: bootstrap_interval(value, samples if number >= FEWEST else samples[:0], number)
        for metric, (value, samples, of) in zip(metrics, columns, strict=True)
        for number in [len(np.unique(units[of]))]
    }
