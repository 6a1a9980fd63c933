"""How well predicted masks overlap the true ones: Dice and IoU of each image, their means with intervals. NumPy only.

Everything is computed from three pixel counts of an image: predicted, in the true mask, and in both. SPEC §12.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mavl.metrics.intervals import Interval, bootstrap, group_index, percentile_intervals

METRICS = ("dice", "dice_positive", "dice_empty", "iou")
"""Means over the images: the released Dice over all, over those with a mask, over those without; the released IoU."""


@dataclass(frozen=True)
class PixelCounts:
    """Pixel counts [n] of n images: predicted, true, and both."""

    predicted: np.ndarray
    true: np.ndarray
    both: np.ndarray

    def __post_init__(self):
        for name, counts in vars(self).items():
            object.__setattr__(self, name, np.asarray(counts, dtype=float))

    @property
    def dice(self) -> np.ndarray:
        """[n] in [0, 1]: 2·both / (predicted + true); of an empty true mask 1 when nothing is predicted, else 0."""
        total = self.predicted + self.true
        ratio = np.divide(2 * self.both, total, out=np.ones_like(total), where=total > 0)
        return np.where(self.true > 0, ratio, self.predicted == 0)

    @property
    def iou(self) -> np.ndarray:
        """[n] in (0, 1]: (both + 1) / (either + 1), the released definition."""
        return (self.both + 1) / (self.predicted + self.true - self.both + 1)

    def columns(self) -> np.ndarray:
        """[n, METRICS], NaN where an image does not count for a metric."""
        dice, positive = self.dice, self.true > 0
        return np.stack([dice, np.where(positive, dice, np.nan), np.where(positive, np.nan, dice), self.iou], axis=1)


@dataclass(frozen=True)
class SegmentationResult:
    """The means of METRICS with their 95 % intervals, over `images`, `positives` of which have a mask."""

    means: dict[str, Interval]
    images: int
    positives: int
    groups: int | None
    resamples: int
    seed: int


def summarize(
    overlap: PixelCounts, *, groups: Sequence | None = None, resamples: int = 1000, seed: int = 0
) -> SegmentationResult:
    """The means over the images; the bootstrap draws images, or whole groups [n] such as patients.

    A metric without an image to count is NaN, and a resample without one does not count for it.
    """
    columns = overlap.columns()
    known = ~np.isnan(columns)
    values, counts = np.where(known, columns, 0.0), known.astype(float)

    def means(weights: np.ndarray) -> np.ndarray:
        sums, of = weights @ values, weights @ counts
        return np.divide(sums, of, out=np.full(sums.shape, np.nan), where=of > 0)[:, None]

    n = len(columns)
    units = group_index(range(n) if groups is None else groups, n)
    [intervals] = percentile_intervals(means(np.ones((1, n))), bootstrap(means, units, resamples, seed), METRICS)
    return SegmentationResult(
        means=intervals,
        images=n,
        positives=int((overlap.true > 0).sum()),
        groups=None if groups is None else int(units.max()) + 1,
        resamples=resamples,
        seed=seed,
    )


def count(predicted: np.ndarray, masks: np.ndarray) -> PixelCounts:
    """predicted, masks [n, ...], nonzero where it is -> their counts."""
    predicted, masks = (np.asarray(x).astype(bool).reshape(len(x), -1) for x in (predicted, masks))
    return PixelCounts(predicted.sum(axis=1), masks.sum(axis=1), (predicted & masks).sum(axis=1))


def best_threshold(mean_mask: np.ndarray, masks: Iterable[np.ndarray]) -> float:
    """mean_mask [H, W], masks [H, W] -> the threshold for which mean_mask > threshold has the largest mean Dice.

    Candidates are hundredths of the largest value, all below it, so that only a mean mask of nothing predicts nothing.
    """
    candidates = np.arange(100) / 100 * mean_mask.max()
    level = np.searchsorted(candidates, mean_mask.ravel(), side="left")  # a pixel is above so many of the candidates

    def above(pixels: np.ndarray) -> np.ndarray:
        """[100] how many of the pixels are above each candidate."""
        return np.bincount(pixels, minlength=len(candidates) + 1)[::-1].cumsum()[-2::-1]

    predicted, total = above(level), np.zeros(len(candidates))
    for mask in masks:
        inside = np.asarray(mask, dtype=bool).ravel()
        total += PixelCounts(predicted, np.full(len(candidates), inside.sum()), above(level[inside])).dice
    return float(candidates[total.argmax()])
