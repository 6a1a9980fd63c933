"""Grounding metrics: how well heatmaps match the masks of their images. NumPy only.

All metrics but the contrast are computed from one ranking per image: its pixels by falling heat. A pixel is predicted
where the map is above the threshold (strictly). Thresholds are first rounded to the type of the map, as in the release:
a float32 map that equals the float32 next to 0.01 is not above 0.01.

Only positive images count: an empty mask is an error, so the caller omits such images. A metric of an image is NaN in
these cases:
- precision if no pixel is predicted (IoU, Dice and recall are then 0, accuracy is the share of the image outside the
  mask);
- contrast-to-noise if the mask is the whole image, or if the map has one value inside and another one outside.
A constant map hits in the pointing game, because a tied maximum lies in the mask, has contrast 0, and has the average
precision of random scores: the share of the image that the mask covers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from mavl.metrics.intervals import Interval, mean_intervals
from mavl.metrics.metric import Metric, by_name, ratio
from mavl.metrics.ranking import Counts, rank, ratio_of


@dataclass(frozen=True)
class MaskedMap:
    """An image: heatmap float [H, W], mask bool [H, W] with a pixel or more, and the counts of its pixels [1, K]."""

    heatmap: np.ndarray
    mask: np.ndarray
    counts: Counts


def _contrast_to_noise(image: MaskedMap) -> float:
    """|mean inside - mean outside| / sqrt(variance inside + variance outside).

    As in the MS-CXR benchmark (Boecking et al., ECCV 2022), without a sign: a map that is low only on the finding has
    the same value as its negative, so read it together with the pointing game. Variances are divided by the number of
    pixels. Two constant sides have no noise: 0 when they are equal, else NaN.
    """
    inside, outside = image.heatmap[image.mask].astype(float), image.heatmap[~image.mask].astype(float)
    if not len(outside):
        return np.nan
    if np.ptp(inside) == 0 and np.ptp(outside) == 0:  # rounding gives equal values a variance above 0
        return 0.0 if inside[0] == outside[0] else np.nan
    return float(abs(inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var()))


_at_threshold = partial(Metric, needs_threshold=True)

METRICS = by_name(
    _at_threshold("iou", "IoU", "IoU at the threshold", lambda at: at.iou),
    _at_threshold("dice", "Dice", "Dice at the threshold", lambda at: at.f1),
    _at_threshold("recall", "R", "recall at the threshold", lambda at: at.sensitivity),
    _at_threshold("precision", "P", "precision at the threshold", lambda at: ratio_of(at.true_positives, at.predicted)),
    _at_threshold("accuracy", "acc.", "accuracy at the threshold", lambda at: at.accuracy),
    Metric(
        *("pointing_game", "point", "pointing game"),
        lambda image: float(image.counts.start.predicted[0, 0] == 0),
        note="share of cases where the maximum of the map lies in the mask",
    ),
    Metric(
        *("average_precision", "AP", "average precision"),
        lambda image: image.counts.average_precision.item(),
        note="average precision of the pixels",
    ),
    Metric(
        *("best_dice", "max. Dice", "largest Dice"),
        lambda image: image.counts.end.f1.max().item(),
        note="largest Dice of each case over all thresholds, an upper bound",
    ),
    Metric(
        *("contrast_to_noise", "CNR", "contrast to noise"),
        _contrast_to_noise,
        note="contrast to noise between inside and outside, without a sign",
        format=ratio,
    ),
)
"""The function of a metric that needs a threshold maps the `Confusion` of the pixels at K thresholds to [1, K]; that of
another one maps a `MaskedMap` to a number."""


@dataclass(frozen=True)
class Localization:
    """The means of METRICS over `cases` positive images, with intervals.

    groups: the number of groups which the bootstrap resampled (None for images). Without a threshold, the metrics that
    need one are NaN. threshold_source: the data on which the threshold was chosen; with a source and no threshold, the
    images have different ones. undefined: {metric: number of images without a value}, if any; with the nan_policy
    `omit` they are not part of the mean.
    """

    cases: int
    groups: int | None
    threshold: float | None
    threshold_source: str | None
    nan_policy: str
    undefined: dict[str, int]
    means: dict[str, Interval]
    resamples: int


def released_thresholds() -> np.ndarray:
    """The 9,990 thresholds of the released sweep, 0.0001, 0.00011, … below 0.1."""
    return np.arange(0.0001, 0.1, 0.00001)


def sweep(heatmap: np.ndarray, mask: np.ndarray, thresholds: np.ndarray, name: str = "") -> dict[str, np.ndarray]:
    """heatmap [H, W], mask [H, W], thresholds [K] in any order -> each metric that needs a threshold [K]."""
    _require_finite(thresholds, name)
    at = _count(heatmap, mask, thresholds, name).counts.cut
    return {metric.name: metric.function(at)[0] for metric in METRICS.values() if metric.needs_threshold}


def measure_and_sweep(
    heatmap: np.ndarray, mask: np.ndarray, threshold: float | None, thresholds: np.ndarray | Sequence, name: str = ""
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """METRICS of one image, NaN for those that lack a threshold, and `sweep` for the thresholds [K], from one sort."""
    _require_finite([*thresholds, *([] if threshold is None else [threshold])], name)
    image = _count(heatmap, mask, [np.nan if threshold is None else threshold, *thresholds], name)
    values, swept = {}, {}
    for metric in METRICS.values():
        if metric.needs_threshold:
            at = metric.function(image.counts.cut)[0]
            values[metric.name] = np.nan if threshold is None else float(at[0])
            swept[metric.name] = at[1:]
        else:
            values[metric.name] = metric.function(image)
    return values, swept


def _require_finite(thresholds: np.ndarray | Sequence, name: str) -> None:
    if not np.isfinite(thresholds).all():
        raise ValueError(f"image {name!r}: a threshold is NaN or infinite; None is for no threshold")


def _count(heatmap: np.ndarray, mask: np.ndarray, thresholds: np.ndarray | Sequence, name: str) -> MaskedMap:
    """The map as float32 (float16 is widened) or float64 with the counts of its pixels.

    Raises ValueError with the name of the image if the shapes differ, the map is not finite, or the mask is empty.
    """
    heatmap, mask = np.asarray(heatmap), np.asarray(mask).astype(bool)
    if heatmap.ndim != 2 or heatmap.shape != mask.shape:
        raise ValueError(f"image {name!r}: heatmap {heatmap.shape} and mask {mask.shape} must both be [H, W]")
    if not np.isfinite(heatmap).all():
        raise ValueError(f"image {name!r}: the heatmap has pixels that are NaN or infinite")
    if not mask.any():
        raise ValueError(f"image {name!r}: the mask is empty; leave out images without the finding")
    heatmap = heatmap.astype(np.result_type(heatmap, np.float32), copy=False)
    ranking = rank(mask.ravel().astype(np.int8), heatmap.ravel())
    return MaskedMap(heatmap, mask, ranking.count(np.asarray(thresholds, heatmap.dtype), strict=True))


def summarize(
    values: dict[str, np.ndarray],
    threshold: float | None = None,
    *,
    threshold_source: Literal["validation", "test"] | None = None,
    nan_policy: Literal["omit", "propagate"] = "omit",
    resamples: int = 1000,
    groups: Sequence | None = None,
    seed: int = 0,
) -> Localization:
    """values {metric: [n]} of all METRICS -> their means over the images with 95 % bootstrap intervals.

    Args:
        nan_policy: whether the mean of a metric omits the images where it is NaN (`omit`), or is NaN if there is one
            (`propagate`, as released).
        groups: [n], such as patients; the bootstrap resamples them, or images without them. The threshold is fixed.
    """
    columns = np.stack([values[metric] for metric in METRICS], axis=1)
    missing = np.isnan(columns).sum(axis=0)
    counted = np.where(missing > 0, np.nan, columns) if nan_policy == "propagate" else columns
    return Localization(
        cases=len(columns),
        groups=None if groups is None else len(set(groups)),
        threshold=threshold,
        threshold_source=threshold_source,
        nan_policy=nan_policy,
        undefined={metric: int(number) for metric, number in zip(METRICS, missing, strict=True) if number},
        means=mean_intervals(counted, [*METRICS], groups=groups, resamples=resamples, seed=seed),
        resamples=resamples,
    )
