"""Intervals that hold with few positives: of AUROC, of shares, and of their means over classes.

The percentile bootstrap is too narrow there, because resamples of few positives vary too little (docs/protocols.md).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from scipy.optimize import root_scalar
from scipy.stats import beta, chi2

from mavl.metrics.intervals import LEVEL, Interval


class Size(NamedTuple):
    """Numbers of independent images with and without a finding; estimates of correlated images have fractions."""

    positives: float
    negatives: float


class Estimate(Protocol):
    """A metric whose variance is known from its true value and the size of a class. method: that of its interval."""

    method: ClassVar[str]

    def variance(self, true: float, size: Size) -> float:
        """The variance of the estimate where `true`, in [0, 1], is the true value."""
        ...

    def interval(self, value: float, size: Size) -> Interval:
        """The interval of one class."""
        ...


class Area:
    """AUROC. Newcombe, Statistics in Medicine 2006, method 5."""

    method: ClassVar[str] = "Newcombe's score interval"

    def variance(self, true: float, size: Size) -> float:
        spread = (1 - true) / (2 - true) + true / (1 + true)
        pairs = size.positives * size.negatives
        return true * (1 - true) * (1 + ((size.positives + size.negatives) / 2 - 1) * spread) / pairs

    def interval(self, value: float, size: Size) -> Interval:
        return score_interval(value, lambda true: self.variance(true, size))


@dataclass(frozen=True)
class Share:
    """A share of images. of: the number of images that it is a share of. Clopper and Pearson, Biometrika 1934."""

    of: Callable[[Size], float]
    method: ClassVar[str] = "the exact interval"

    def variance(self, true: float, size: Size) -> float:
        return true * (1 - true) / self.of(size)

    def interval(self, value: float, size: Size) -> Interval:
        number, tail = self.of(size), (1 - LEVEL) / 2
        inside, outside = value * number, (1 - value) * number
        low = beta.ppf(tail, inside, outside + 1) if inside else 0.0
        high = beta.ppf(1 - tail, inside + 1, outside) if outside else 1.0
        return Interval(value, float(low), float(high))


def score_interval(value: float, variance: Callable[[float], float]) -> Interval:
    """The true values in [0, 1] that are at most 1.96 of their standard deviations away from the estimate `value`.

    variance: of the estimate, by the true value; 0 at 0 and at 1.
    """
    squared, step = float(chi2.ppf(LEVEL, 1)), 1e-9  # 1.96²

    def excess(true: float) -> float:
        return (value - true) ** 2 - squared * variance(true)

    low = root_scalar(excess, bracket=(0.0, value - step)).root if value > step else 0.0
    high = root_scalar(excess, bracket=(value + step, 1.0)).root if value < 1 - step else 1.0
    return Interval(value, low, high)


def mean_interval(estimate: Estimate, values: np.ndarray, sizes: Sequence[Size], samples: np.ndarray) -> Interval:
    """Of the mean over C classes: the true means at most 1.96 of their standard deviations away.

    The variance is that of classes which all have the mean as their true value; among classes of one size no other
    true values with that mean have a larger one. Negative correlations count as none.

    Args:
        values: [C], none NaN.
        samples: [R, C] resampled values, for the correlations between classes.
    """
    correlations = _correlations(samples).clip(0, 1)
    np.fill_diagonal(correlations, 1)

    def variance(true: float) -> float:
        deviations = np.sqrt([estimate.variance(true, size) for size in sizes])
        return float(deviations @ correlations @ deviations) / len(sizes) ** 2

    return score_interval(float(values.mean()), variance)


def _correlations(samples: np.ndarray) -> np.ndarray:
    """[R, C], NaN where a resample has no value -> [C, C]; 0 for a column of equal values."""
    known = ~np.isnan(samples)
    counts = known.sum(axis=0)
    centred = np.where(known, samples, 0.0)
    centred = np.where(known, centred - centred.sum(axis=0) / np.maximum(1, counts), 0.0)
    deviations = np.sqrt((centred**2).sum(axis=0) / np.maximum(1, counts))
    normed = np.divide(centred, deviations, out=np.zeros_like(centred), where=deviations > 0)
    return normed.T @ normed / np.maximum(1, known.T.astype(float) @ known)
