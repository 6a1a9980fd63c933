"""Paired differences of AUROC: two models, or two sets of trainings, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata, t

from mavl.metrics.classification import METRICS
from mavl.metrics.intervals import FEWEST, Interval, bootstrap, bootstrap_interval, group_index
from mavl.metrics.ranking import Ranking, rank


@dataclass(frozen=True)
class Difference:
    """AUROC of the first minus that of the second, by class and in the mean over the classes with both labels.

    first, second: their mean AUROC. p: by class, and p_mean in the mean, of no difference, two-sided, by the standard
    deviation of the resamples; NaN where there is no interval.
    """

    classes: dict[str, Interval]
    mean: Interval
    first: float
    second: float
    p: dict[str, float]
    p_mean: float


def compare_auroc(
    labels: np.ndarray,
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    groups: Sequence | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """The difference of two sets of trainings, each one's AUROC a mean over its trainings.

    The bootstrap resamples images, or whole groups, for all trainings at once: the interval is that of other patients,
    not of other trainings. It needs FEWEST groups of both labels, for the mean in one class at least.

    Args:
        labels: [n, C], 1, 0 or -1 for unlabelled.
        first, second: scores [n, C] of each training of a set.
        groups: [n], such as patients.
    """
    labels = np.asarray(labels)
    sides = [
        [[rank(labels[:, c], scores[:, c], name) for c, name in enumerate(names)] for scores in side]
        for side in (first, second)
    ]

    def statistics(weights: np.ndarray) -> np.ndarray:
        """[R, 2, C]"""
        return np.stack([np.mean([_areas(each, weights) for each in side], axis=0) for side in sides], axis=1)

    units = group_index(range(len(labels)) if groups is None else groups, len(labels))
    [values], samples = statistics(np.ones((1, len(labels)), int)), bootstrap(statistics, units, resamples, seed)
    fewest = [min(len(np.unique(units[labels[:, c] == label])) for label in (0, 1)) for c in range(len(names))]
    known = ~np.isnan(values[0])
    differences, sampled = values[0] - values[1], samples[:, 0] - samples[:, 1]
    classes = {name: _interval(differences[c], sampled[:, c], fewest[c]) for c, name in enumerate(names)}
    mean_sampled = np.ma.masked_invalid(sampled[:, known]).mean(axis=1).filled(np.nan)
    mean = _interval(differences[known].mean(), mean_sampled, max(fewest))
    p = {name: _p(differences[c], sampled[:, c], fewest[c]) for c, name in enumerate(names)}
    p_mean = _p(differences[known].mean(), mean_sampled, max(fewest))
    return Difference(classes, mean, float(values[0, known].mean()), float(values[1, known].mean()), p, p_mean)


def delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """labels [n], 1, 0 or -1 for unlabelled, scores [n] -> p of equal AUROC, two-sided (DeLong et al. 1988).

    It takes images for independent: with several of a patient it is too small. NaN without two images of each label.
    """
    present, absent = labels == 1, labels == 0
    m, n = int(present.sum()), int(absent.sum())
    if min(m, n) < 2:
        return np.nan
    of_present, of_absent = [], []
    for scores in (first, second):
        ranks = rankdata(np.concatenate([scores[present], scores[absent]]))
        of_present.append((ranks[:m] - rankdata(scores[present])) / n)
        of_absent.append(1 - (ranks[m:] - rankdata(scores[absent])) / m)
    difference = np.mean(of_present[0]) - np.mean(of_present[1])
    spreads = (np.var(each[0] - each[1], ddof=1) / len(each[0]) for each in (of_present, of_absent))
    deviation = np.sqrt(sum(spreads))
    return float(2 * norm.sf(abs(difference) / deviation)) if deviation > 0 else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for their number (Holm 1979): the smallest times their number, and so on; NaN stay."""
    values = np.asarray(p, float)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known])]
    adjusted = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    result = np.full(len(values), np.nan)
    result[order] = adjusted
    return result.tolist()


def _areas(rankings: Sequence[Ranking], weights: np.ndarray) -> np.ndarray:
    """[R, C] AUROC of weights [R, n] of the images; NaN where one label alone has weight."""
    areas = [
        np.full(len(weights), np.nan)
        if ranking.one_label
        else METRICS["auroc"].function(ranking.count([], strict=False, weights=weights.take(ranking.order, axis=1)))
        for ranking in rankings
    ]
    return np.stack(areas, axis=1)


def _interval(value: float, samples: np.ndarray, number: int) -> Interval:
    """The interval of a difference of classes of which the rarer label has so many groups; none below FEWEST."""
    return bootstrap_interval(value, samples if number >= FEWEST else samples[:0], number)


def _p(value: float, samples: np.ndarray, number: int) -> float:
    """Of a difference of 0, by Student's t with the deviation of the resamples of `number` groups."""
    counted = samples[~np.isnan(samples)]
    if number < FEWEST or len(counted) < 2:
        return np.nan
    deviation = counted.std(ddof=1) * np.sqrt(number / (number - 1))
    return float(2 * t.sf(abs(value) / deviation, number - 1)) if deviation > 0 else float(value == 0)
