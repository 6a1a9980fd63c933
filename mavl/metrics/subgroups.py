"""Metrics by subgroups of patients, such as sex or age: AUROC, decisions at the threshold, and the largest gap.

Subgroups of one attribute are given as one name for each image; "" is unknown, and in no subgroup.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import t

from mavl.metrics.classification import METRICS, evaluate
from mavl.metrics.intervals import FEWEST, LEVEL, Interval, bootstrap, group_index
from mavl.metrics.ranking import Ranking, rank, ratio_of


@dataclass(frozen=True)
class Subgroup:
    """A finding in the images of a subgroup. missed: the share of present ones below the threshold; flagged: of absent
    ones from it on.
    """

    name: str
    n: int
    positives: int
    auroc: Interval
    missed: Interval
    flagged: Interval


@dataclass(frozen=True)
class Gap:
    """The two subgroups whose AUROC differ most: that of `higher` minus that of `lower`.

    The interval is widened by Bonferroni's rule for the number of pairs, so that it holds 0 as often as promised where
    no two differ.
    """

    higher: str
    lower: str
    difference: Interval


@dataclass(frozen=True)
class FindingBySubgroup:
    """gap: None without two subgroups of FEWEST patients of both labels."""

    finding: str
    attribute: str
    subgroups: list[Subgroup]
    gap: Gap | None


@dataclass(frozen=True)
class Diagnosis:
    """All findings together in a subgroup. ill, healthy: images with a finding, and without; underdiagnosed: the share
    of the ill with no score from its threshold on; overdiagnosed: of the healthy with one.
    """

    attribute: str
    subgroup: str
    ill: int
    healthy: int
    underdiagnosed: float
    overdiagnosed: float


def by_subgroup(
    labels: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    finding: str,
    attribute: str,
    names: Sequence[str],
    *,
    groups: Sequence | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> FindingBySubgroup:
    """labels, scores [n] of a finding, names [n] of the subgroups -> its metrics in each.

    Args:
        threshold: NaN for none.
        groups: [n], such as patients.
    """
    members = {name: np.array([each == name for each in names]) for name in sorted(set(names) - {""})}
    units = list(range(len(labels)) if groups is None else groups)
    found = []
    for name, inside in members.items():
        rows = np.flatnonzero(inside)
        column = evaluate(
            labels[rows, None],
            scores[rows, None],
            [finding],
            thresholds=[threshold],
            groups=[units[row] for row in rows],
            resamples=resamples,
            seed=seed,
        ).classes[0]
        missed, flagged = (_rest(column.metrics[metric]) for metric in ("sensitivity", "specificity"))
        found.append(Subgroup(name, column.n, column.positives, column.metrics["auroc"], missed, flagged))
    gap = _largest_gap(labels, scores, members, units, resamples, seed)
    return FindingBySubgroup(finding, attribute, found, gap)


def diagnosis(
    labels: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, attribute: str, names: Sequence[str]
) -> list[Diagnosis]:
    """labels, scores [n, C], thresholds [C] of which those that are NaN decide nothing -> a Diagnosis of each subgroup.

    Images with an unlabelled finding and none present are neither ill nor healthy.
    """
    known = ~np.isnan(thresholds)
    flagged = (scores[:, known] >= thresholds[known]).any(axis=1)
    ill, healthy = (labels == 1).any(axis=1), (labels == 0).all(axis=1)
    found = []
    for name in sorted(set(names) - {""}):
        inside = np.array([each == name for each in names])
        counts = [int((inside & of).sum()) for of in (ill, healthy)]
        under, over = ((inside & ill & ~flagged).sum(), (inside & healthy & flagged).sum())
        shares = ratio_of(np.array([under, over], float), np.array(counts, float)).tolist()
        found.append(Diagnosis(attribute, name, *counts, *shares))
    return found


def _rest(share: Interval) -> Interval:
    """One minus a share."""
    return Interval(1 - share.value, 1 - share.high, 1 - share.low)


def _largest_gap(
    labels: np.ndarray, scores: np.ndarray, members: dict[str, np.ndarray], groups: Sequence, resamples: int, seed: int
) -> Gap | None:
    units = group_index(groups, len(labels))
    fewest = {
        name: min(len(np.unique(units[inside & (labels == label)])) for label in (0, 1))
        for name, inside in members.items()
    }
    large = [name for name, number in fewest.items() if number >= FEWEST]
    if len(large) < 2 or not resamples:
        return None
    rankings = [rank(np.where(members[name], labels, -1), scores) for name in large]

    def statistics(weights: np.ndarray) -> np.ndarray:
        """[R, subgroups]"""
        return np.stack([_areas(ranking, weights) for ranking in rankings], axis=1)

    [values], samples = statistics(np.ones((1, len(labels)), int)), bootstrap(statistics, units, resamples, seed)
    pairs = list(combinations(range(len(large)), 2))
    a, b = max(pairs, key=lambda pair: abs(values[pair[0]] - values[pair[1]]))
    if values[a] < values[b]:
        a, b = b, a
    number = min(fewest[large[a]], fewest[large[b]])
    deviation = np.nanstd(samples[:, a] - samples[:, b], ddof=1) * np.sqrt(number / (number - 1))
    half = float(t.ppf(1 - (1 - LEVEL) / 2 / len(pairs), number - 1) * deviation)
    difference = float(values[a] - values[b])
    return Gap(large[a], large[b], Interval(difference, difference - half, difference + half))


def _areas(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """[R] AUROC; NaN where one label alone has weight."""
    return METRICS["auroc"].function(ranking.count([], strict=False, weights=weights.take(ranking.order, axis=1)))
