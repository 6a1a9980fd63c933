"""How well heatmaps find the masks of their images: at one threshold, without one, and over a sweep. NumPy only.

Everything but the contrast is read off one ranking per image: its pixels by falling heat. A pixel is predicted where
the map is above the threshold (strictly). Thresholds are rounded to the map's own type first, as the release does: a
float32 map that equals the float32 next to 0.01 is not above 0.01.

An image is (name, heatmap [H, W], mask [H, W], nonzero = finding). Only positive images count, so an empty mask is an
error and the caller leaves such images out. A NaN says that an image has no such value:
- precision where nothing is predicted (IoU, Dice and recall are then 0, accuracy is the share outside the mask);
- contrast-to-noise where the mask is the whole image, or where the map holds one value inside and another outside.
A constant map hits the pointing game, as a tied pixel lies in the mask, has contrast 0, and ranks like a coin: its
average precision is the mask's share of the image.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mavl.metrics.intervals import Interval, Ranking, bootstrap, group_index, percentile_intervals, rank

THRESHOLD_METRICS = ("iou", "dice", "recall", "precision", "accuracy")
"""Those of the pixels above a threshold."""

RANKING_METRICS = ("pointing_game", "average_precision", "best_dice")
"""Those that need no threshold. best_dice is the largest Dice, or F1, over all thresholds of that image."""

METRICS = (*THRESHOLD_METRICS, *RANKING_METRICS, "contrast_to_noise")

Image = tuple[str, np.ndarray, np.ndarray]
"""(name, heatmap [H, W], mask [H, W]) of a positive image."""


@dataclass(frozen=True)
class Localization:
    """The metrics of each of n positive images, and their means with intervals; keys are METRICS.

    Without a threshold, THRESHOLD_METRICS are NaN. `threshold_source` says on which data the threshold was chosen; with
    a source and no threshold, the images had different ones.
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
        """The images without a value, for each metric that has such; with `omit` its mean leaves them out."""
        missing = {metric: np.flatnonzero(np.isnan(values)) for metric, values in self.values.items()}
        return {metric: [self.names[row] for row in rows] for metric, rows in missing.items() if len(rows)}


def released_thresholds() -> np.ndarray:
    """The 9,990 thresholds of the released sweep, 0.0001, 0.00011, … below 0.1."""
    return np.arange(0.0001, 0.1, 0.00001)


def sweep(heatmap: np.ndarray, mask: np.ndarray, thresholds: np.ndarray, name: str = "") -> dict[str, np.ndarray]:
    """heatmap [H, W], mask [H, W], thresholds [K] in any order -> each of THRESHOLD_METRICS [K], from one sort."""
    heatmap, mask = _checked(heatmap, mask, name)
    return _overlap(_ranking(heatmap, mask), _rounded(thresholds, heatmap.dtype))


def mean_sweep(images: Iterable[Image], thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Images, thresholds [K] -> mean over the images of each of THRESHOLD_METRICS [K].

    As released, a threshold's precision is NaN as soon as one image has no pixel above it.
    """
    total, n = 0.0, 0
    for name, heatmap, mask in images:
        total = total + np.stack(list(sweep(heatmap, mask, thresholds, name).values()))
        n += 1
    if not n:
        raise _no_images()
    return dict(zip(THRESHOLD_METRICS, total / n, strict=True))


def best_threshold(images: Iterable[Image], thresholds: np.ndarray) -> float:
    """The threshold with the largest mean Dice over the images; of several that reach it, the first."""
    return float(np.asarray(thresholds)[mean_sweep(images, thresholds)["dice"].argmax()])


def measure(heatmap: np.ndarray, mask: np.ndarray, threshold: float | None = None, name: str = "") -> dict[str, float]:
    """heatmap [H, W], mask [H, W] -> METRICS of one image, THRESHOLD_METRICS NaN without a threshold.

    Raises ValueError, with the image's name, where the shapes differ, the map is not finite, or the mask is empty.
    """
    return measure_and_sweep(heatmap, mask, threshold, (), name)[0]


def measure_and_sweep(
    heatmap: np.ndarray, mask: np.ndarray, threshold: float | None, thresholds: np.ndarray | Sequence, name: str = ""
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What `measure` answers for the threshold and `sweep` for the thresholds [K], from one sort."""
    heatmap, mask = _checked(heatmap, mask, name)
    ranking = _ranking(heatmap, mask)
    values = dict.fromkeys(THRESHOLD_METRICS, np.nan)
    if threshold is not None:
        overlap = _overlap(ranking, _rounded([threshold], heatmap.dtype))
        values = {metric: value.item() for metric, value in overlap.items()}
    values |= _ranking_metrics(ranking) | {"contrast_to_noise": _contrast_to_noise(heatmap, mask)}
    return values, _overlap(ranking, _rounded(thresholds, heatmap.dtype))


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
    """Every metric of every image, and their means with 95 % bootstrap intervals. Holds one image at a time.

    `threshold` was chosen on `threshold_source`; both or neither are given. A NaN of one image is left out of its
    metric's mean (`omit`), or makes the mean NaN (`propagate`, as released). The bootstrap draws images, or whole
    groups [n] such as patients; the threshold stays. ValueError for no image at all, and as in `measure`.
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
    """What `localize` answers, for images that are measured already: names [n], values {metric: [n]} of all METRICS.

    `threshold` is the one of all images; None, also with a source, where they do not share one.
    """
    if not len(names):
        raise _no_images()
    columns = np.stack([values[metric] for metric in METRICS], axis=1)
    known = ~np.isnan(columns)
    if nan_policy == "propagate":
        known &= known.all(axis=0)
    return Localization(
        names=list(names),
        values=dict(zip(METRICS, columns.T, strict=True)),
        means=_mean_intervals(columns, known, groups, resamples, seed),
        threshold=threshold,
        threshold_source=threshold_source,
        nan_policy=nan_policy,
        resamples=resamples,
        seed=seed,
        groups=None if groups is None else len(set(groups)),
    )


def _mean_intervals(
    values: np.ndarray, known: np.ndarray, groups: Sequence | None, resamples: int, seed: int
) -> dict[str, Interval]:
    """values [n, M], known [n, M] (which of them count) -> the mean of each metric; NaN where nothing counts."""
    counted, counts = np.where(known, values, 0.0), known.astype(float)

    def means(weights: np.ndarray) -> np.ndarray:
        sums, of = weights @ counted, weights @ counts
        return np.divide(sums, of, out=np.full(sums.shape, np.nan), where=of > 0)[:, None]

    units = group_index(range(len(values)) if groups is None else groups, len(values))
    return percentile_intervals(means(np.ones((1, len(values)))), bootstrap(means, units, resamples, seed), METRICS)[0]


def _overlap(ranking: Ranking, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Thresholds [K] -> THRESHOLD_METRICS [K]: those of the first pixels of the ranking, all that are above it."""
    predicted = np.searchsorted(-ranking.scores, -thresholds, side="left")
    hit = ranking.positives_before[predicted]
    pixels, positives = len(ranking.scores), len(ranking.positive)
    return {
        "iou": hit / (predicted + positives - hit),
        "dice": 2 * hit / (predicted + positives),
        "recall": hit / positives,
        "precision": np.divide(hit, predicted, out=np.full(hit.shape, np.nan), where=predicted > 0),
        "accuracy": (pixels - positives - predicted + 2 * hit) / pixels,
    }


def _ranking_metrics(ranking: Ranking) -> dict[str, float]:
    """RANKING_METRICS, from the runs of equal heat that hold a pixel of the mask."""
    predicted, hit = ranking.ends, ranking.positives_before[ranking.ends]
    positives = len(ranking.positive)
    gained = hit - ranking.positives_before[ranking.starts]
    return {
        "pointing_game": float(ranking.starts[0] == 0),
        "average_precision": float((gained * (hit / predicted)).sum() / positives),
        "best_dice": float((2 * hit / (predicted + positives)).max()),
    }


def _contrast_to_noise(heatmap: np.ndarray, mask: np.ndarray) -> float:
    """heatmap [H, W], mask [H, W] bool -> |mean inside - mean outside| / sqrt(variance inside + variance outside).

    As in the MS-CXR benchmark (Boecking et al., ECCV 2022), without a sign: a map that is dark just on the finding
    scores as high as its negative, so read it beside the pointing game. Variances are divided by the number of pixels.
    Two constant sides have no noise: 0 when they are equal, else NaN.
    """
    inside, outside = heatmap[mask].astype(float), heatmap[~mask].astype(float)
    if not len(outside):
        return np.nan
    if np.ptp(inside) == 0 and np.ptp(outside) == 0:  # asked of the values, as rounding gives equal ones a variance
        return 0.0 if inside[0] == outside[0] else np.nan
    return float(abs(inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var()))


def _ranking(heatmap: np.ndarray, mask: np.ndarray) -> Ranking:
    return rank(mask.ravel().astype(np.int8), heatmap.ravel())


def _rounded(thresholds: Sequence[float] | np.ndarray, dtype: np.dtype) -> np.ndarray:
    thresholds = np.asarray(thresholds, dtype=float)
    if thresholds.ndim != 1 or np.isnan(thresholds).any():
        raise ValueError(f"thresholds must be a vector without NaN, not {thresholds}")
    return thresholds.astype(dtype).astype(float)


def _checked(heatmap: np.ndarray, mask: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The map as float32 (a half is widened) or float64, and the mask as bool."""
    heatmap, mask = np.asarray(heatmap), np.asarray(mask).astype(bool)
    image = f"image {name!r}: " if name else ""
    if heatmap.ndim != 2 or heatmap.shape != mask.shape:
        raise ValueError(f"{image}heatmap {heatmap.shape} and mask {mask.shape} must both be [H, W] of one size")
    if not (finite := np.isfinite(heatmap)).all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise ValueError(f"{image}heatmap is {heatmap[row, column]} at ({row}, {column}); every pixel must be finite")
    if not mask.any():
        raise ValueError(f"{image}mask is empty; leave out images without the finding, as only positive ones count")
    return heatmap.astype(np.result_type(heatmap, np.float32), copy=False), mask


def _no_images() -> ValueError:
    return ValueError("no image to localise in: none of the images has the finding")
