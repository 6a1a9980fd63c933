"""Segmentation metrics: Dice and IoU of predicted and true masks, with the intervals of their means. NumPy only.

Everything is computed from three pixel counts of an image: predicted, in the true mask, and in both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mavl.metrics.intervals import Interval, mean_intervals
from mavl.metrics.metric import Metric, by_name
from mavl.metrics.ranking import ratio_of


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
        """[n] in [0, 1]: 2·both / (predicted + true); for an empty true mask 1 if nothing is predicted, else 0."""
        total = self.predicted + self.true
        return np.where(self.true > 0, ratio_of(2 * self.both, total), self.predicted == 0)

    @property
    def iou(self) -> np.ndarray:
        """[n] in (0, 1]: (both + 1) / (either + 1), the released definition."""
        return (self.both + 1) / (self.predicted + self.true - self.both + 1)


METRICS = by_name(
    Metric(
        "dice",
        "Dice",
        "Dice",
        lambda counts: counts.dice,
        note="mean over the images, where an empty mask counts 1 without a predicted pixel, else 0",
    ),
    Metric("dice_positive", "pos.", "Dice, with a mask", lambda counts: np.where(counts.true > 0, counts.dice, np.nan)),
    Metric("dice_empty", "empty", "Dice, empty mask", lambda counts: np.where(counts.true > 0, np.nan, counts.dice)),
    Metric("iou", "IoU", "IoU", lambda counts: counts.iou, note="(both + 1) / (either + 1), mean over the images"),
)
"""The function of a metric maps `PixelCounts` to a value of each image [n], NaN for an image that does not count."""


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
    counts: PixelCounts, *, groups: Sequence | None = None, resamples: int = 1000, seed: int = 0
) -> SegmentationResult:
    """The means over the images; the bootstrap resamples images, or whole groups [n] such as patients."""
    values = np.stack([metric.function(counts) for metric in METRICS.values()], axis=1)
    return SegmentationResult(
        means=mean_intervals(values, [*METRICS], groups=groups, resamples=resamples, seed=seed),
        images=len(values),
        positives=int((counts.true > 0).sum()),
        groups=None if groups is None else len(set(groups)),
        resamples=resamples,
        seed=seed,
    )


def count(predicted: np.ndarray, masks: np.ndarray) -> PixelCounts:
    """predicted, masks [n, ...], nonzero inside -> their pixel counts."""
    predicted, masks = (np.asarray(x).astype(bool).reshape(len(x), -1) for x in (predicted, masks))
    return PixelCounts(predicted.sum(axis=1), masks.sum(axis=1), (predicted & masks).sum(axis=1))


def best_threshold(mean_mask: np.ndarray, masks: Iterable[np.ndarray]) -> float:
    """mean_mask [H, W], masks [H, W] -> the threshold with the largest mean Dice of mean_mask > threshold.

    The candidates are hundredths of the largest value, all below it: only a mean mask of zeros predicts nothing.
    """
    candidates = np.arange(100) / 100 * mean_mask.max()
    above = (mean_mask.ravel() > candidates[:, None]).astype(np.float32)
    predicted, total = above.sum(axis=1), np.zeros(len(candidates))
    for mask in masks:
        inside = np.asarray(mask, np.float32).ravel()
        total += PixelCounts(predicted, np.full(len(candidates), inside.sum()), above @ inside).dice
    return float(candidates[total.argmax()])
