"""Classification metrics of each class, with intervals.

All metrics of a class are computed from one ranking: its labelled images by falling score. The value of a metric and
its resampled values are the same computation, with weights of one and with the number of times that an image occurs.

Labels are 1 (present), 0 (absent) and -1 (unlabelled; ignored for that class). A class whose labelled images all have
the same label has no metrics: they are NaN, `Evaluation.undefined` lists it, and no mean includes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mavl.metrics.intervals import (
    FEWEST_FOR_ESTIMATES,
    FEWEST_FOR_VARIANCE,
    Interval,
    bootstrap,
    bootstrap_interval,
    group_index,
)
from mavl.metrics.metric import Metric, by_name
from mavl.metrics.ranking import Confusion, Counts, Ranking, rank, ratio_of
from mavl.metrics.score_intervals import Area, Share, Size, mean_interval


def _auroc(counts: Counts) -> np.ndarray:
    """A tied pair counts half: the negatives from the start of a run and those after its end count once each."""
    start, end = counts.start, counts.end
    below = 2 * end.negatives - start.false_positives - end.false_positives
    return ratio_of((counts.gained * below).sum(axis=1), 2 * (end.positives * end.negatives)[:, 0])


def _share(name: str, heading: str, of_cut: Callable[[Confusion], np.ndarray], of: Callable[[Size], float]) -> Metric:
    """A share of images at the threshold."""
    return Metric(
        name, heading, name, lambda counts: of_cut(counts.cut)[:, 0], needs_threshold=True, estimate=Share(of)
    )


METRICS = by_name(
    Metric("auroc", "AUROC", "area under the ROC curve", _auroc, estimate=Area()),
    Metric("average_precision", "AP", "average precision", lambda counts: counts.average_precision),
    Metric(
        *("best_f1", "F1", "largest F1 over all thresholds", lambda counts: counts.end.f1.max(axis=1)),
        fewest=100,  # with fewer positives even the corrected interval of a maximum is too high
    ),
    Metric("precision", "P", "precision at the largest F1", lambda counts: counts.best.precision[:, 0], interval=False),
    Metric("recall", "R", "recall at the largest F1", lambda counts: counts.best.sensitivity[:, 0], interval=False),
    _share("accuracy", "acc.", lambda cut: cut.accuracy, lambda size: size.positives + size.negatives),
    _share("sensitivity", "Se", lambda cut: cut.sensitivity, lambda size: size.positives),
    _share("specificity", "Sp", lambda cut: cut.specificity, lambda size: size.negatives),
)
"""The function of a metric maps `Counts` of R weightings to its values [R]; `cut` is [R, 1]."""


@dataclass(frozen=True)
class ClassResult:
    """The metrics of one class with `n` labelled images, `positives` of them present.

    threshold: the one of the metrics that need it, NaN if there is none; threshold_source: the data on which it was
    chosen.
    """

    name: str
    n: int
    positives: int
    metrics: dict[str, Interval]
    threshold: float
    threshold_source: str | None


@dataclass(frozen=True)
class Evaluation:
    """All classes, and the means over the defined ones of the metrics with an interval.

    images, groups: the number of images, and that of the groups which the bootstrap resampled (None for images);
    strict: positive is score > threshold.
    """

    classes: list[ClassResult]
    means: dict[str, Interval]
    undefined: list[str]
    resamples: int
    seed: int
    strict: bool
    images: int
    groups: int | None

    @property
    def too_few(self) -> list[str]:
        """Defined classes without an interval of AUROC, for too few groups of one label; the means include them."""
        return [c.name for c in self.classes if c.name not in self.undefined and np.isnan(c.metrics["auroc"].low)]

    @property
    def without_threshold(self) -> list[str]:
        """Defined classes without a threshold, which the means of metrics that need one do not include."""
        return [c.name for c in self.classes if np.isnan(c.threshold) and c.name not in self.undefined]


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    *,
    thresholds: Sequence[float] | np.ndarray | None = None,
    threshold_source: Literal["validation", "test"] | None = None,
    strict: bool = False,
    resamples: int = 1000,
    groups: Sequence | None = None,
    seed: int = 0,
) -> Evaluation:
    """Every metric of every class, with 95 % intervals.

    An interval is by the estimate of its metric from FEWEST_FOR_ESTIMATES groups of each label on, by the bootstrap
    from its `fewest` on. The bootstrap resamples images, or whole groups, jointly for all classes; the thresholds stay
    the same. A resample in which a class has one label only is ignored for that class. ValueError names class and row
    of a bad entry.

    Args:
        labels, scores: [n, C]; names and thresholds are [C], a threshold is NaN for none.
        threshold_source: data on which the thresholds were chosen. Without thresholds, "test" uses those of the best
            F1 on these scores (the released protocol); None leaves the metrics that need a threshold NaN.
        strict: positive is score > threshold (released protocol), not score >= threshold.
        groups: [n], such as patients.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    columns = _ranked(labels, scores, names, thresholds, best_of_test=threshold_source == "test")

    def statistics(weights: np.ndarray | None = None) -> np.ndarray:
        """[R, C, METRICS]"""
        return np.stack([_statistics(ranking, threshold, strict, weights) for ranking, threshold in columns], axis=1)

    units = group_index(range(len(labels)) if groups is None else groups, len(labels))
    [values], samples = statistics(), bootstrap(statistics, units, resamples, seed)
    inflation = np.ones(values.shape)
    if groups is not None and resamples:  # how much the correlation within groups adds to the variance
        independent = bootstrap(statistics, np.arange(len(labels)), resamples, seed)
        inflation = ratio_of(_variance(samples), _variance(independent), empty=np.inf)
    sizes = [_Class.of(labels[:, c], units, inflation[c]) for c in range(len(names))]
    metrics, means = _intervals(sizes, values, samples)
    return Evaluation(
        classes=_results(names, columns, metrics, threshold_source),
        means=means,
        undefined=[name for name, (ranking, _) in zip(names, columns, strict=True) if ranking.one_label],
        resamples=resamples,
        seed=seed,
        strict=strict,
        images=len(labels),
        groups=None if groups is None else int(units.max()) + 1,
    )


def _results(names: Sequence[str], columns: Sequence, metrics: Sequence, threshold_source: Any) -> list[ClassResult]:
    """Those of each class; columns: its ranking and threshold, metrics: its intervals."""
    classes = []
    for name, (ranking, threshold), intervals in zip(names, columns, metrics, strict=True):
        source, positives = None if np.isnan(threshold) else threshold_source, len(ranking.positive)
        classes.append(ClassResult(name, len(ranking.order), positives, intervals, float(threshold), source))
    return classes


def _ranked(
    labels: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    thresholds: Sequence[float] | np.ndarray | None,
    best_of_test: bool,
) -> list[tuple[Ranking, float]]:
    """The ranking and threshold of each class; ValueError for arrays and thresholds that do not fit."""
    if labels.ndim != 2 or labels.shape != scores.shape or labels.shape[1] != len(names) or not labels.size:
        shapes = f"labels {labels.shape} and scores {scores.shape}"
        raise ValueError(f"{shapes} must be [images, classes], not empty, with the {len(names)} classes of the names")
    rankings = [rank(labels[:, c], scores[:, c], name) for c, name in enumerate(names)]
    if thresholds is None:
        thresholds = [_best_threshold(ranking) if best_of_test else np.nan for ranking in rankings]
    if infinite := [name for name, threshold in zip(names, thresholds, strict=True) if np.isinf(threshold)]:
        raise ValueError(f"the threshold of {infinite[0]!r} is infinite: give a finite one, or NaN for none")
    return list(zip(rankings, thresholds, strict=True))


def _intervals(
    classes: "Sequence[_Class]", values: np.ndarray, samples: np.ndarray
) -> tuple[list[dict[str, Interval]], dict[str, Interval]]:
    """values [C, METRICS], samples [R, C, METRICS] -> {metric: interval} of each class, and of the means."""
    found, means = [{} for _ in classes], {}
    for column, metric in enumerate(METRICS.values()):
        for c, of_class in enumerate(classes):
            found[c][metric.name] = of_class.interval(metric, values[c, column], samples[:, c, column])
        if metric.interval:
            means[metric.name] = _mean(metric, classes, values[:, column], samples[:, :, column])
    return found, means


@dataclass(frozen=True)
class _Class:
    """The labelled images of a class. groups: the numbers of groups with a positive, and with a negative one.

    inflation: {metric: variance of its resamples by group, divided by that of its resamples by image}.
    """

    images: Size
    groups: Size
    inflation: dict[str, float]

    @classmethod
    def of(cls, labels: np.ndarray, units: np.ndarray, inflation: np.ndarray) -> "_Class":
        images = [units[labels == label] for label in (1, 0)]
        groups = (len(np.unique(of_label)) for of_label in images)
        return cls(Size(*map(len, images)), Size(*groups), dict(zip(METRICS, inflation.tolist(), strict=True)))

    def size(self, metric: str) -> Size:
        """The size whose independent images give as much variance as the images of groups do.

        Few groups show their variance badly: they count as one image each, as if its images were equal.
        """
        if min(self.groups) < FEWEST_FOR_VARIANCE:
            return self.groups
        inflation = max(1.0, self.inflation[metric])
        return Size(*(max(groups, images / inflation) for groups, images in zip(self.groups, self.images, strict=True)))

    def interval(self, metric: Metric, value: float, sampled: np.ndarray) -> Interval:
        needed = metric.fewest if metric.estimate is None else FEWEST_FOR_ESTIMATES
        if np.isnan(value) or not len(sampled) or min(self.groups) < needed:
            return Interval(float(value))
        if metric.estimate is None:
            return bootstrap_interval(value, sampled, int(min(self.groups)))
        return metric.estimate.interval(float(value), self.size(metric.name))


def _mean(metric: Metric, classes: Sequence[_Class], values: np.ndarray, samples: np.ndarray) -> Interval:
    """values [C], samples [R, C] -> the mean over the classes with a value."""
    known = np.flatnonzero(~np.isnan(values)).tolist()
    values, samples, classes = values[known], samples[:, known], [classes[c] for c in known]
    if not len(known) or not len(samples):
        return Interval(float(values.mean()) if len(known) else np.nan)
    if metric.estimate is not None:
        return mean_interval(metric.estimate, values, [of_class.size(metric.name) for of_class in classes], samples)
    fewest = int(min(min(of_class.groups) for of_class in classes))
    if fewest < metric.fewest:
        return Interval(float(values.mean()))
    return bootstrap_interval(values.mean(), np.ma.masked_invalid(samples).mean(axis=1).filled(np.nan), fewest)


def _variance(samples: np.ndarray) -> np.ndarray:
    """[R, ...] with NaN -> [...], 0 where all are NaN."""
    return np.ma.masked_invalid(samples).var(axis=0).filled(0.0)


def best_f1(labels: np.ndarray, scores: np.ndarray) -> ClassResult:
    """labels [n], scores [n] -> the metrics at the lowest threshold with the largest F1."""
    columns = np.asarray(labels)[:, None], np.asarray(scores)[:, None]
    return evaluate(*columns, [""], threshold_source="test", resamples=0).classes[0]


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """labels [n], scores [n] -> share of present-absent pairs in the right order, a tie counts half; NaN if no pair."""
    return best_f1(labels, scores).metrics["auroc"].value


def _statistics(ranking: Ranking, threshold: float, strict: bool, weights: np.ndarray | None = None) -> np.ndarray:
    """The values [R, METRICS] for weights [R, n] of the images, or [1, METRICS] for weights of one.

    NaN where only one label has weight and, of given weights, for metrics without an interval.
    """
    values = np.full((1 if weights is None else len(weights), len(METRICS)), np.nan)
    if ranking.one_label:
        return values
    counts = ranking.count([threshold], strict, None if weights is None else weights.take(ranking.order, axis=1))
    for column, metric in enumerate(METRICS.values()):
        if (metric.interval or weights is None) and not (metric.needs_threshold and np.isnan(threshold)):
            values[:, column] = metric.function(counts)
    values[((counts.end.positives == 0) | (counts.end.negatives == 0))[:, 0]] = np.nan
    return values


def _best_threshold(ranking: Ranking) -> float:
    """The lowest threshold with the largest F1, NaN for one label."""
    if ranking.one_label:
        return np.nan
    return float(ranking.scores[ranking.count([], strict=False).best.predicted.item() - 1])
