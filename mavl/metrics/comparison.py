"""Paired differences of AUROC: two models, or two sets of trainings, on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mavl.metrics.classification import METRICS
from mavl.metrics.intervals import FEWEST, Interval, bootstrap, bootstrap_interval, group_index
from mavl.metrics.ranking import Ranking, rank


@dataclass(frozen=True)
class Difference:
    """AUROC of the first minus that of the second, by class and in the mean over the classes with both labels.

    first, second: their mean AUROC.
    """

    classes: dict[str, Interval]
    mean: Interval
    first: float
    second: float


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
    return Difference(classes, mean, float(values[0, known].mean()), float(values[1, known].mean()))


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
