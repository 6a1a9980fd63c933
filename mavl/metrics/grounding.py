"""Grounding metrics: how well heatmaps match the masks of their images. NumPy only.

All metrics but the contrast are computed from one ranking per image: its pixels by falling heat. A pixel is predicted
where the map is above the threshold (strictly). Thresholds are first rounded to the type of the map, as in the release:
a float32 map that equals the float32 next to 0.01 is not above 0.01.

An image is (name, heatmap [H, W], mask [H, W], nonzero = finding). Only positive images count: an empty mask is an
error, so the caller omits such images. A metric of an image is NaN in these cases:
- precision if no pixel is predicted (IoU, Dice and recall are then 0, accuracy is the share of the image outside the
  mask);
- contrast-to-noise if the mask is the whole image, or if the map has one value inside and another one outside.
A constant map hits in the pointing game, because a tied maximum lies in the mask, has contrast 0, and has the average
precision of random scores: the share of the image that the mask covers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mavl.metrics.intervals import Interval, mean_intervals
from mavl.metrics.metric import Metric, by_name, ratio
from mavl.metrics.overlap import MaskedMap, Overlap, rank_pixels

Image = tuple[str, np.ndarray, np.ndarray]
"""(name, heatmap [H, W], mask [H, W]) of a positive image."""


def _average_precision(image: MaskedMap) -> float:
    at = image.at_hits()
    gained = at.hit - image.ranking.positives_before[image.ranking.starts]
    return float((gained * (at.hit / at.predicted)).sum() / at.positives)


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


METRICS = by_name(
    Metric(
        "iou",
        "IoU",
        "IoU at the threshold",
        lambda at: at.hit / (at.predicted + at.positives - at.hit),
        needs_threshold=True,
    ),
    Metric("dice", "Dice", "Dice at the threshold", lambda at: at.dice, needs_threshold=True),
    Metric("recall", "R", "recall at the threshold", lambda at: at.hit / at.positives, needs_threshold=True),
    Metric(
        "precision",
        "P",
        "precision at the threshold",
        lambda at: np.divide(at.hit, at.predicted, out=np.full(at.hit.shape, np.nan), where=at.predicted > 0),
        needs_threshold=True,
    ),
    Metric(
        "accuracy",
        "acc.",
        "accuracy at the threshold",
        lambda at: (at.pixels - at.positives - at.predicted + 2 * at.hit) / at.pixels,
        needs_threshold=True,
    ),
    Metric(
        "pointing_game",
        "point",
        "pointing game",
        lambda image: float(image.ranking.starts[0] == 0),
        note="share of cases where the maximum of the map lies in the mask",
    ),
    Metric("average_precision", "AP", "average precision", _average_precision, note="average precision of the pixels"),
    Metric(
        "best_dice",
        "max. Dice",
        "largest Dice",
        lambda image: float(image.at_hits().dice.max()),
        note="largest Dice of each case over all thresholds, an upper bound",
    ),
    Metric(
        "contrast_to_noise",
        "CNR",
        "contrast to noise",
        _contrast_to_noise,
        note="contrast to noise between inside and outside, without a sign",
        format=ratio,
    ),
)
"""The function of a metric maps the `Overlap` at K thresholds to [K] if it needs a threshold, else a `MaskedMap` to a
number."""


@dataclass(frozen=True)
class Localization:
    """The metrics of each of n positive images, and their means with intervals; the keys are those of METRICS.

    Without a threshold, the metrics that need one are NaN. `threshold_source`: the data on which the threshold was
    chosen; with a source and no threshold, the images have different ones.
    """

    names: list[str]
    values: dict[str, np.ndarray]
    means: dict[str, Interval]
    threshold: float | None
    threshold_source: str | None
    nan_policy: str
    resamples: int
    seed: int
    groups: int | None

    @property
    def undefined(self) -> dict[str, list[str]]:
        """{metric: the images without a value}, if any; with `omit` they are not part of the mean."""
        missing = {metric: np.flatnonzero(np.isnan(values)) for metric, values in self.values.items()}
        return {metric: [self.names[row] for row in rows] for metric, rows in missing.items() if len(rows)}


def released_thresholds() -> np.ndarray:
    """The 9,990 thresholds of the released sweep, 0.0001, 0.00011, … below 0.1."""
    return np.arange(0.0001, 0.1, 0.00001)


def sweep(heatmap: np.ndarray, mask: np.ndarray, thresholds: np.ndarray, name: str = "") -> dict[str, np.ndarray]:
    """heatmap [H, W], mask [H, W], thresholds [K] in any order -> each metric that needs a threshold [K]."""
    return _at(rank_pixels(heatmap, mask, name).above(thresholds))


def mean_sweep(images: Iterable[Image], thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Images, thresholds [K] -> mean over the images of each metric that needs a threshold [K].

    As released, the precision at a threshold is NaN if one image has no pixel above it.
    """
    totals: dict[str, np.ndarray] = {}
    n = 0
    for name, heatmap, mask in images:
        for metric, values in sweep(heatmap, mask, thresholds, name).items():
            totals[metric] = totals.get(metric, 0.0) + values
        n += 1
    if not n:
        raise _no_images()
    return {metric: total / n for metric, total in totals.items()}


def best_threshold(images: Iterable[Image], thresholds: np.ndarray) -> float:
    """The threshold with the largest mean Dice over the images; of several that reach it, the first."""
    return float(np.asarray(thresholds)[mean_sweep(images, thresholds)["dice"].argmax()])


def measure(heatmap: np.ndarray, mask: np.ndarray, threshold: float | None = None, name: str = "") -> dict[str, float]:
    """heatmap [H, W], mask [H, W] -> METRICS of one image; those that need a threshold are NaN without one.

    Raises ValueError with the name of the image if the shapes differ, the map is not finite, or the mask is empty.
    """
    return measure_and_sweep(heatmap, mask, threshold, (), name)[0]


def measure_and_sweep(
    heatmap: np.ndarray, mask: np.ndarray, threshold: float | None, thresholds: np.ndarray | Sequence, name: str = ""
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The results of `measure` for the threshold and of `sweep` for the thresholds [K], from one sort."""
    image = rank_pixels(heatmap, mask, name)
    at = {} if threshold is None else {name: x.item() for name, x in _at(image.above([threshold])).items()}
    values = {
        name: at.get(name, np.nan) if metric.needs_threshold else metric.function(image)
        for name, metric in METRICS.items()
    }
    return values, _at(image.above(thresholds))


def localize(
    images: Iterable[Image],
    threshold: float | None = None,
    *,
    threshold_source: Literal["validation", "test"] | None = None,
    nan_policy: Literal["omit", "propagate"] = "omit",
    resamples: int = 1000,
    groups: Sequence | None = None,
    seed: int = 0,
) -> Localization:
    """Every metric of every image, and their means with 95 % bootstrap intervals. One image is in memory at a time.

    Raises ValueError for no image, and as `measure`.

    Args:
        threshold: of all images; threshold_source: the data on which it was chosen. Both or neither are given.
        nan_policy: whether the mean of a metric omits the images where it is NaN (`omit`), or is NaN if there is one
            (`propagate`, as released).
        groups: [n], such as patients; the bootstrap resamples them, or images without them. The threshold is fixed.
    """
    if (threshold is None) != (threshold_source is None) or threshold_source not in ("validation", "test", None):
        raise ValueError(
            f"threshold_source is {threshold_source!r}; it is 'validation' or 'test' with a threshold, and None without"
        )
    if nan_policy not in ("omit", "propagate"):
        raise ValueError(f"nan_policy is 'omit' or 'propagate', not {nan_policy!r}")
    measured = [(name, measure(heatmap, mask, threshold, name)) for name, heatmap, mask in images]
    return summarize(
        [name for name, _ in measured],
        {metric: np.array([of_image[metric] for _, of_image in measured]) for metric in METRICS},
        threshold,
        threshold_source=threshold_source,
        nan_policy=nan_policy,
        resamples=resamples,
        groups=groups,
        seed=seed,
    )


def summarize(
    names: Sequence[str],
    values: dict[str, np.ndarray],
    threshold: float | None = None,
    *,
    threshold_source: Literal["validation", "test"] | None = None,
    nan_policy: Literal["omit", "propagate"] = "omit",
    resamples: int = 1000,
    groups: Sequence | None = None,
    seed: int = 0,
) -> Localization:
    """The result of `localize` for images that are measured: names [n], values {metric: [n]} of all METRICS.

    `threshold` is the one of all images; None if they have different ones, with or without a source.
    """
    if not len(names):
        raise _no_images()
    columns = np.stack([values[metric] for metric in METRICS], axis=1)
    counted = columns
    if nan_policy == "propagate":
        counted = np.where(np.isnan(columns).any(axis=0), np.nan, columns)
    return Localization(
        names=list(names),
        values=dict(zip(METRICS, columns.T, strict=True)),
        means=mean_intervals(counted, [*METRICS], groups=groups, resamples=resamples, seed=seed),
        threshold=threshold,
        threshold_source=threshold_source,
        nan_policy=nan_policy,
        resamples=resamples,
        seed=seed,
        groups=None if groups is None else len(set(groups)),
    )


def _at(overlap: Overlap) -> dict[str, np.ndarray]:
    """Each metric that needs a threshold, at those of the overlap [K]."""
    return {name: metric.function(overlap) for name, metric in METRICS.items() if metric.needs_threshold}


def _no_images() -> ValueError:
    return ValueError("no image to localise in: none of the images has the finding")
