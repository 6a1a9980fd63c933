"""How good scores are: AUROC, average precision, F1 and the operating point of each class, with intervals. NumPy only.

Everything is read off one ranking per class: its labelled images by falling score. The value of a metric and its
bootstrap resamples are the same computation, with weights of one and with the number of times an image was drawn.

Labels are 1 (present), 0 (absent) and -1 (unlabelled; the image is left out of that class). A class whose labelled
images all agree has no metrics: they are NaN, it is named as undefined, and no mean contains it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mavl.metrics.intervals import (
    Interval,
    Ranking,
    bootstrap,
    group_index,
    mean_over_classes,
    percentile_intervals,
    rank,
)

METRICS = ("auroc", "average_precision", "best_f1", "accuracy", "sensitivity", "specificity")
"""The metrics that have an interval and a mean over classes; the names of ClassResult's fields."""


def _ratio(counts: np.ndarray, of: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """counts / of, and `empty` where there is nothing to count; scalars give a scalar."""
    counts, of = np.broadcast_arrays(counts, of)
    return np.divide(counts, of, out=np.full(of.shape, empty), where=of > 0)[()]


@dataclass(frozen=True)
class Confusion:
    """Counts of one decision, or arrays of them, and what follows; rates with nothing to count are NaN."""

    true_positives: int | np.ndarray
    false_positives: int | np.ndarray
    positives: int | np.ndarray
    negatives: int | np.ndarray

    @property
    def accuracy(self) -> float | np.ndarray:
        correct = self.true_positives + self.negatives - self.false_positives
        return _ratio(correct, self.positives + self.negatives)

    @property
    def sensitivity(self) -> float | np.ndarray:
        return _ratio(self.true_positives, self.positives)

    @property
    def specificity(self) -> float | np.ndarray:
        return _ratio(self.negatives - self.false_positives, self.negatives)

    @property
    def precision(self) -> float | np.ndarray:
        """0 where nothing is predicted positive, as in scikit-learn."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives, empty=0.0)

    @property
    def f1(self) -> float | np.ndarray:
        return _ratio(2 * self.true_positives, self.positives + self.true_positives + self.false_positives)


@dataclass(frozen=True)
class BestF1:
    """The largest F1 over all thresholds (positive is score >= threshold), all NaN when one label only."""

    f1: float
    precision: float
    recall: float
    threshold: float


@dataclass(frozen=True)
class ClassResult:
    """One class: `n` labelled images, `positives` of them present.

    `precision` and `recall` are those at the best F1. Accuracy, sensitivity and specificity are those at `threshold`,
    and NaN where there is none; `threshold_source` says on which data it was chosen.
    """

    name: str
    n: int
    positives: int
    auroc: Interval
    average_precision: Interval
    best_f1: Interval
    precision: float
    recall: float
    threshold: float
    threshold_source: str | None
    accuracy: Interval
    sensitivity: Interval
    specificity: Interval


@dataclass(frozen=True)
class Evaluation:
    """All classes, the plain means over the defined ones (keys METRICS), and how the intervals came about."""

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
        """Defined classes that the means of accuracy, sensitivity and specificity leave out."""
        return [c.name for c in self.classes if np.isnan(c.threshold) and c.name not in self.undefined]


def _tally(ranking: Ranking, weights: np.ndarray | None = None) -> Callable[[np.ndarray], Confusion]:
    """weights [R, m] -> a function from places [K] in the ranking to the Confusion [R, K] of predicting so many."""
    count = ranking.tally(weights)
    return lambda places: Confusion(*count(places))


def _best_f1(ranking: Ranking) -> BestF1:
    if ranking.one_label:
        return BestF1(np.nan, np.nan, np.nan, np.nan)
    at = _tally(ranking)(ranking.ends)
    best = at.f1.shape[1] - 1 - int(at.f1[0, ::-1].argmax())
    f1, precision, recall = (float(rate[0, best]) for rate in (at.f1, at.precision, at.sensitivity))
    return BestF1(f1, precision, recall, float(ranking.scores[ranking.ends[best] - 1]))


def _statistics(
    ranking: Ranking, threshold: float = np.nan, strict: bool = False, weights: np.ndarray | None = None
) -> np.ndarray:
    """weights [R, m] in the ranking's order -> METRICS [R, 6]; NaN where only one label has weight.

    A tied pair counts half: each positive meets the negatives from its run's start on and those after its end.
    """
    at = _tally(ranking, weights)
    start, end, cut = at(ranking.starts), at(ranking.ends), at(ranking.place(threshold, strict))
    gained = end.true_positives - start.true_positives
    below = 2 * end.negatives - start.false_positives - end.false_positives
    positives, negatives = end.positives[:, 0], end.negatives[:, 0]
    decision = np.column_stack([cut.accuracy, cut.sensitivity, cut.specificity])
    statistics = np.column_stack(
        [
            _ratio((gained * below).sum(axis=1), 2 * positives * negatives),
            _ratio((gained * end.precision).sum(axis=1), positives),
            end.f1.max(axis=1, initial=0.0),
            np.full_like(decision, np.nan) if np.isnan(threshold) else decision,
        ]
    )
    statistics[(positives == 0) | (negatives == 0)] = np.nan
    return statistics


def auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """labels [n], scores [n] -> share of present-absent pairs in the right order, a tie counting half; NaN if none."""
    return float(_statistics(rank(labels, scores))[0, METRICS.index("auroc")])


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """labels [n], scores [n] -> sum of precision times gain in recall over thresholds; NaN when one label only."""
    return float(_statistics(rank(labels, scores))[0, METRICS.index("average_precision")])


def best_f1(labels: np.ndarray, scores: np.ndarray) -> BestF1:
    """labels [n], scores [n] -> the largest F1; of several thresholds that reach it, the lowest."""
    return _best_f1(rank(labels, scores))


def confusion(labels: np.ndarray, scores: np.ndarray, threshold: float, strict: bool = False) -> Confusion:
    """labels [n], scores [n] -> counts where positive is score >= threshold, or score > threshold if `strict`."""
    ranking = rank(labels, scores)
    at = _tally(ranking)(ranking.place(threshold, strict))
    return Confusion(*(count.item() for count in vars(at).values()))


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """labels [n], scores [n] -> (false, true positive rate), from (0, 0) to (1, 1), without points between corners."""
    ranking = rank(labels, scores)
    corners = np.column_stack([ranking.starts, ranking.ends]).ravel()
    at = _tally(ranking)(np.r_[0, corners, len(ranking.order)])
    return _ratio(at.false_positives, at.negatives)[0], at.sensitivity[0]


def precision_recall_curve(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """labels [n], scores [n] -> (precision, recall) from (1, 0), with a point for each threshold that adds recall.

    The area under steps that hold the precision of their right end is the average precision.
    """
    ranking = rank(labels, scores)
    at = _tally(ranking)(ranking.ends)
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
    """labels [n, C] in {1, 0, -1}, scores [n, C], names [C] -> every metric with its 95 % bootstrap interval.

    `thresholds` [C], NaN for none, were chosen on `threshold_source`. Without them, the source "test" takes, for each
    class, the threshold of the best F1 on these very scores (the released way), and no source leaves accuracy,
    sensitivity and specificity NaN. Positive is score >= threshold, or score > threshold if `strict` (released, too).

    The bootstrap draws images, or whole groups [n] such as patients, jointly for all classes; thresholds stay. A
    resample where a class has one label only does not count for it. ValueError names class and row of a bad entry.
    """
    labels, scores, names = np.asarray(labels), np.asarray(scores), list(names)
    _check_table(labels, scores, names)
    rankings = [rank(labels[:, c], scores[:, c], name) for c, name in enumerate(names)]
    thresholds = _choose_thresholds(thresholds, threshold_source, rankings)

    def statistics(weights: np.ndarray) -> np.ndarray:
        classes = zip(rankings, thresholds, strict=True)
        return np.stack([_statistics(r, t, strict, weights.take(r.order, axis=1)) for r, t in classes], axis=1)

    units = group_index(range(len(labels)) if groups is None else groups, len(labels))
    values, samples = statistics(np.ones((1, len(labels)), int)), bootstrap(statistics, units, resamples, seed)
    classes = zip(names, rankings, thresholds, percentile_intervals(values, samples, METRICS), strict=True)
    return Evaluation(
        classes=[_class_result(*of_class, threshold_source) for of_class in classes],
        means=percentile_intervals(mean_over_classes(values), mean_over_classes(samples), METRICS)[0],
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


def _class_result(
    name: str, ranking: Ranking, threshold: float, intervals: dict[str, Interval], source: str | None
) -> ClassResult:
    best = _best_f1(ranking)
    return ClassResult(
        name=name,
        n=len(ranking.order),
        positives=len(ranking.positive),
        precision=best.precision,
        recall=best.recall,
        threshold=float(threshold),
        threshold_source=None if np.isnan(threshold) else source,
        **intervals,
    )
