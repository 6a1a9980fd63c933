"""Classification metrics of each class, with bootstrap intervals. NumPy only.

All metrics of a class are computed from one ranking: its labelled images by falling score. The value of a metric and
its resampled values are the same computation, with weights of one and with the number of times that an image occurs.

Labels are 1 (present), 0 (absent) and -1 (unlabelled; ignored for that class). A class whose labelled images all have
the same label has no metrics: they are NaN, `Evaluation.undefined` lists it, and no mean includes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mavl.metrics.confusion import Confusion, Counts, ratio_of
from mavl.metrics.intervals import (
    Interval,
    Ranking,
    bootstrap,
    group_index,
    mean_over_classes,
    percentile_intervals,
    rank,
)
from mavl.metrics.metric import Metric, by_name


def _auroc(counts: Counts) -> np.ndarray:
    """A tied pair counts half: the negatives from the start of a run and those after its end count once each."""
    start, end = counts.start, counts.end
    below = 2 * end.negatives - start.false_positives - end.false_positives
    return ratio_of((counts.gained * below).sum(axis=1), 2 * (end.positives * end.negatives)[:, 0])


METRICS = by_name(
    Metric("auroc", "AUROC", "area under the ROC curve", _auroc),
    Metric(
        "average_precision",
        "AP",
        "average precision",
        lambda counts: ratio_of((counts.gained * counts.end.precision).sum(axis=1), counts.end.positives[:, 0]),
    ),
    Metric("best_f1", "F1", "largest F1 over all thresholds", lambda counts: counts.end.f1.max(axis=1, initial=0.0)),
    Metric("precision", "P", "precision at the largest F1", lambda counts: counts.best.precision, interval=False),
    Metric("recall", "R", "recall at the largest F1", lambda counts: counts.best.sensitivity, interval=False),
    Metric("accuracy", "acc.", "accuracy", lambda counts: counts.cut.accuracy[:, 0], needs_threshold=True),
    Metric("sensitivity", "Se", "sensitivity", lambda counts: counts.cut.sensitivity[:, 0], needs_threshold=True),
    Metric("specificity", "Sp", "specificity", lambda counts: counts.cut.specificity[:, 0], needs_threshold=True),
)
"""The function of a metric maps `Counts` of R weightings to its values [R]."""


@dataclass(frozen=True)
class BestF1:
    """The largest F1 over all thresholds (positive is score >= threshold); all NaN for a class with one label."""

    f1: float
    precision: float
    recall: float
    threshold: float


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
    def without_threshold(self) -> list[str]:
        """Defined classes without a threshold, which the means of metrics that need one do not include."""
        return [c.name for c in self.classes if np.isnan(c.threshold) and c.name not in self.undefined]


def _confusion(ranking: Ranking, places: np.ndarray) -> Confusion:
    """[1, K] of predicting the first `places` [K] images of the ranking positive."""
    return Confusion(*ranking.tally()(places))


def _counts(
    ranking: Ranking, threshold: float = np.nan, strict: bool = False, weights: np.ndarray | None = None
) -> Counts:
    count = ranking.tally(weights)
    places = (ranking.starts, ranking.ends, ranking.place(threshold, strict))
    return Counts(*(Confusion(*count(place)) for place in places))


def _statistics(ranking: Ranking, threshold: float, strict: bool, weights: np.ndarray | None = None) -> np.ndarray:
    """The values [R, METRICS] for weights [R, m] in the order of the ranking, or [1, METRICS] for weights of one.

    NaN where only one label has weight and, of given weights, for metrics without an interval.
    """
    values = np.full((1 if weights is None else len(weights), len(METRICS)), np.nan)
    if ranking.one_label:
        return values
    counts = _counts(ranking, threshold, strict, weights)
    for column, metric in enumerate(METRICS.values()):
        if (metric.interval or weights is None) and not (metric.needs_threshold and np.isnan(threshold)):
            values[:, column] = metric.function(counts)
    values[((counts.end.positives == 0) | (counts.end.negatives == 0))[:, 0]] = np.nan
    return values


def _value(name: str, labels: np.ndarray, scores: np.ndarray) -> float:
    ranking = rank(labels, scores)
    return np.nan if ranking.one_label else float(METRICS[name].function(_counts(ranking))[0])


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """labels [n], scores [n] -> share of present-absent pairs in the right order, a tie counts half; NaN if no pair."""
    return _value("auroc", labels, scores)


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """labels [n], scores [n] -> sum of precision times gain in recall over thresholds; NaN for one label."""
    return _value("average_precision", labels, scores)


def best_f1(labels: np.ndarray, scores: np.ndarray) -> BestF1:
    """labels [n], scores [n] -> the largest F1; of several thresholds that reach it, the lowest."""
    return _best_f1(rank(labels, scores))


def _best_f1(ranking: Ranking) -> BestF1:
    if ranking.one_label:
        return BestF1(np.nan, np.nan, np.nan, np.nan)
    best = _counts(ranking).best
    last = int((best.true_positives + best.false_positives)[0]) - 1
    f1, precision, recall = (float(rate[0]) for rate in (best.f1, best.precision, best.sensitivity))
    return BestF1(f1, precision, recall, float(ranking.scores[last]))


def confusion(labels: np.ndarray, scores: np.ndarray, threshold: float, strict: bool = False) -> Confusion:
    """labels [n], scores [n] -> counts where positive is score >= threshold, or score > threshold if `strict`."""
    ranking = rank(labels, scores)
    at = _confusion(ranking, ranking.place(threshold, strict))
    return Confusion(*(count.item() for count in vars(at).values()))


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """labels [n], scores [n] -> (false, true positive rate), from (0, 0) to (1, 1), without points between corners."""
    ranking = rank(labels, scores)
    corners = np.column_stack([ranking.starts, ranking.ends]).ravel()
    at = _confusion(ranking, np.r_[0, corners, len(ranking.order)])
    return ratio_of(at.false_positives, at.negatives)[0], at.sensitivity[0]


def precision_recall_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """labels [n], scores [n] -> (precision, recall) from (1, 0), with a point for each threshold that adds recall.

    The area under steps with the precision of their right end is the average precision.
    """
    ranking = rank(labels, scores)
    at = _confusion(ranking, ranking.ends)
    return np.r_[1.0, at.precision[0]], np.r_[0.0, at.sensitivity[0]]


def evaluate(
    labels: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    *,
    thresholds: Sequence[float] | None = None,
    threshold_source: Literal["validation", "test"] | None = None,
    strict: bool = False,
    resamples: int = 1000,
    groups: Sequence | None = None,
    seed: int = 0,
) -> Evaluation:
    """Every metric of every class, with 95 % bootstrap intervals.

    The bootstrap resamples images, or whole groups, jointly for all classes; the thresholds stay the same. A resample
    in which a class has one label only is ignored for that class. ValueError names class and row of a bad entry.

    Args:
        labels: [n, C] in {1, 0, -1}.
        scores: [n, C].
        names: [C] of the classes.
        thresholds: [C], NaN for none.
        threshold_source: data on which the thresholds were chosen. Without thresholds, "test" uses those of the best
            F1 on these scores (the released protocol); None leaves the metrics that need a threshold NaN.
        strict: positive is score > threshold (released protocol), not score >= threshold.
        groups: [n], such as patients.
    """
    labels, scores, names = np.asarray(labels), np.asarray(scores), list(names)
    _check_table(labels, scores, names)
    rankings = [rank(labels[:, c], scores[:, c], name) for c, name in enumerate(names)]
    thresholds = _choose_thresholds(thresholds, threshold_source, rankings)

    def statistics(weights: np.ndarray | None = None) -> np.ndarray:
        return np.stack(
            [
                _statistics(r, t, strict, None if weights is None else weights.take(r.order, axis=1))
                for r, t in zip(rankings, thresholds, strict=True)
            ],
            axis=1,
        )

    units = group_index(range(len(labels)) if groups is None else groups, len(labels))
    values, samples = statistics(), bootstrap(statistics, units, resamples, seed)
    [means] = percentile_intervals(mean_over_classes(values), mean_over_classes(samples), [*METRICS])
    columns = zip(names, rankings, thresholds, percentile_intervals(values, samples, [*METRICS]), strict=True)
    return Evaluation(
        classes=[
            ClassResult(
                name=name,
                n=len(ranking.order),
                positives=len(ranking.positive),
                metrics=intervals,
                threshold=float(threshold),
                threshold_source=None if np.isnan(threshold) else threshold_source,
            )
            for name, ranking, threshold, intervals in columns
        ],
        means={name: mean for name, mean in means.items() if METRICS[name].interval},
        undefined=[name for name, ranking in zip(names, rankings, strict=True) if ranking.one_label],
        resamples=resamples,
        seed=seed,
        strict=strict,
        images=len(labels),
        groups=None if groups is None else int(units.max()) + 1,
    )


def _check_table(labels: np.ndarray, scores: np.ndarray, names: list[str]) -> None:
    """Raise ValueError unless labels and scores are [n, C] with n > 0 and there are C different names."""
    if labels.ndim != 2 or labels.shape != scores.shape or labels.shape[1] != len(names) or not labels.size:
        raise ValueError(
            f"labels {labels.shape} and scores {scores.shape} must both be [images, classes], not empty, "
            f"with one column for each of the {len(names)} names"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names must differ; given more than once: {', '.join(twice)}")


def _choose_thresholds(given: Sequence[float] | None, source: str | None, rankings: list[Ranking]) -> np.ndarray:
    """The threshold of each class [C], NaN where it has none."""
    sources, how = (("test", None), "without") if given is None else (("validation", "test"), "with")
    if source not in sources:
        raise ValueError(f"threshold_source {how} thresholds is {sources[0]!r} or {sources[1]!r}, not {source!r}")
    if given is None:
        return np.array([_best_f1(r).threshold if source == "test" else np.nan for r in rankings])
    given = np.asarray(given, dtype=float)
    if given.shape != (len(rankings),) or np.isinf(given).any():
        raise ValueError(f"thresholds must be {len(rankings)} numbers, NaN for none, not {given.tolist()}")
    return given
