"""Calibration: maps of scores to probabilities, how far probabilities are from frequencies, and what decisions gain.

Labels are 1, 0, or -1 for unlabelled, which are ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from mavl.metrics.intervals import FEWEST, Interval, bootstrap, bootstrap_interval, group_index
from mavl.metrics.ranking import ratio_of

Kind = Literal["temperature", "platt"]
"""temperature: p = σ(s / T), Guo et al. 2017; platt: p = σ(a s + b), Platt 1999. s: the logit of a probability."""

BINS = 10
EDGE = 1e-7
"""Probabilities are kept this far from 0 and 1, where their logit is infinite."""


@dataclass(frozen=True)
class Calibration:
    """p = σ(slope · s + offset). of_logits: whether s is the logit of the score, a probability, or the score itself."""

    kind: Kind
    slope: float
    offset: float
    of_logits: bool

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """Scores -> probabilities, of the same shape."""
        return expit(self.slope * _inputs(scores, self.of_logits) + self.offset)


def fit_calibration(labels: np.ndarray, scores: np.ndarray, kind: Kind) -> Calibration:
    """labels, scores [n] -> the calibration with the largest likelihood; ValueError without both labels.

    Platt's targets, (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2), keep it finite where scores separate the labels. The slope is
    not negative: a calibration never turns an order around.
    """
    known = labels != -1
    present, s = labels[known] == 1, np.asarray(scores, float)[known]
    positives, negatives = int(present.sum()), int((~present).sum())
    if not positives or not negatives:
        raise ValueError("a calibration needs images with and without the finding")
    of_logits = bool(((s >= 0) & (s <= 1)).all())
    s = _inputs(s, of_logits)
    targets = np.where(present, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(parameters: np.ndarray) -> float:
        z = np.exp(parameters[0]) * s + (parameters[1] if kind == "platt" else 0.0)
        return float(np.mean(np.logaddexp(0, z) - targets * z))

    start = np.array([0.0, logit(targets.mean()) - s.mean()]) if kind == "platt" else np.zeros(1)
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(-12, 12), (None, None)][: len(start)])
    return Calibration(kind, float(np.exp(found.x[0])), float(found.x[1]) if kind == "platt" else 0.0, of_logits)


@dataclass(frozen=True)
class Reliability:
    """Of images in bins of equal numbers by falling probability: mean probability, share with the finding, number."""

    probability: np.ndarray
    frequency: np.ndarray
    number: np.ndarray


@dataclass(frozen=True)
class CalibrationErrors:
    """brier: mean squared distance of probability and label. ece: expected calibration error, the mean distance of
    probability and frequency over bins of equal numbers; chance alone makes it larger than 0.
    """

    brier: Interval
    ece: Interval
    reliability: Reliability


def calibration_errors(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    groups: Sequence | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> CalibrationErrors:
    """labels, probabilities [n] -> both errors with intervals by groups, from FEWEST groups on."""
    known = labels != -1
    y, p = (labels[known] == 1).astype(float), np.asarray(probabilities, float)[known]
    units = group_index(range(len(labels)) if groups is None else groups, len(labels))[known]
    units = np.unique(units, return_inverse=True)[1]
    order = np.argsort(p, kind="stable")
    bins = np.empty(len(p), int)
    bins[order] = np.arange(len(p)) * BINS // max(1, len(p))
    members = np.eye(BINS)[bins]  # [n, BINS]
    squared = (p - y) ** 2

    def statistics(weights: np.ndarray) -> np.ndarray:
        """[R, 2]"""
        total = weights.sum(axis=1)
        gaps = np.abs((weights * (p - y)) @ members).sum(axis=1)
        return np.stack([ratio_of(weights @ squared, total), ratio_of(gaps, total)], axis=1)

    [values] = statistics(np.ones((1, len(p)), int)) if len(p) else [np.full(2, np.nan)]
    number = int(units.max()) + 1 if len(p) else 0
    samples = bootstrap(statistics, units, resamples if number >= FEWEST else 0, seed) if len(p) else np.empty((0, 2))
    brier, ece = (bootstrap_interval(value, column, number) for value, column in zip(values, samples.T, strict=True))
    counts = members.sum(axis=0)
    reliability = Reliability(ratio_of(p @ members, counts), ratio_of(y @ members, counts), counts.astype(int))
    return CalibrationErrors(brier, ece, reliability)


def net_benefit(labels: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """[K] of acting on probabilities from each threshold t on: (TP - FP · t / (1 - t)) / n (Vickers and Elkin 2006)."""
    known = labels != -1
    present, p = labels[known] == 1, np.asarray(probabilities, float)[known]
    acted = p[:, None] >= thresholds
    true, false = (acted & present[:, None]).sum(axis=0), (acted & ~present[:, None]).sum(axis=0)
    return (true - false * thresholds / (1 - thresholds)) / max(1, len(p))


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit [K] at probabilities [K] from which one would act: by the model, and of acting on all images.

    Acting on none has 0.
    """

    thresholds: np.ndarray
    model: np.ndarray
    everyone: np.ndarray


def decision_curve(labels: np.ndarray, probabilities: np.ndarray) -> DecisionCurve:
    """labels, probabilities [n] -> the net benefit from 1 % to 99 %."""
    thresholds = np.linspace(0.01, 0.99, 99)
    curves = (net_benefit(labels, each, thresholds) for each in (probabilities, np.ones(len(labels))))
    return DecisionCurve(thresholds, *curves)


def threshold_at(
    labels: np.ndarray, scores: np.ndarray, *, sensitivity: float | None = None, specificity: float | None = None
) -> float:
    """The threshold with at least this sensitivity and as few positives as possible, or with at least this specificity.

    A score from the threshold on is positive. NaN without an image of the label that it depends on; ValueError unless
    one of the two is given.
    """
    if (sensitivity is None) == (specificity is None):
        raise ValueError("give one of sensitivity and specificity")
    scores = np.asarray(scores, float)
    if sensitivity is not None:
        present = np.sort(scores[labels == 1])[::-1]
        return float(present[max(0, int(np.ceil(sensitivity * len(present) - 1e-9)) - 1)]) if len(present) else np.nan
    absent = np.sort(scores[labels == 0])
    if not len(absent):
        return np.nan
    assert specificity is not None
    allowed = int(np.floor((1 - specificity) * len(absent) + 1e-9))  # absent images that may be positive
    if allowed == len(absent):
        return float(absent[0])
    limit = absent[len(absent) - allowed - 1]  # the highest absent score that must stay below the threshold
    above = scores[scores > limit]
    return float(above.min()) if len(above) else float(np.nextafter(limit, np.inf))


def _inputs(scores: np.ndarray, of_logits: bool) -> np.ndarray:
    scores = np.asarray(scores, float)
    return logit(np.clip(scores, EDGE, 1 - EDGE)) if of_logits else scores
