"""What a classification chooses on validation images: thresholds, calibration, and operating points for predictions."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from mavl.checkpoint.about import ABOUT
from mavl.config.evaluation import ThresholdRule, ZeroShotSettings
from mavl.data.benchmarks.splits import Split
from mavl.evaluate.subject import EvaluationError, Thresholds
from mavl.metrics.calibration import (
    Calibration,
    CalibrationErrors,
    DecisionCurve,
    calibration_errors,
    decision_curve,
    fit_calibration,
    threshold_at,
)
from mavl.metrics.classification import ClassResult, Evaluation, best_f1
from mavl.progress import plural
from mavl.vocab import ABSENT, PRESENT


@dataclass(frozen=True)
class Scored:
    """The images of a split with their scores [n, C]."""

    split: Split
    scores: np.ndarray


@dataclass(frozen=True)
class Calibrated:
    """A finding's calibration, its errors on test before (None for scores that are no probabilities) and after.

    decisions: the net benefit of the calibrated probabilities.
    """

    calibration: Calibration
    before: CalibrationErrors | None
    after: CalibrationErrors
    decisions: DecisionCurve


@dataclass(frozen=True)
class Validated:
    """calibration: by finding, of those with both labels in validation; empty unless it was requested."""

    thresholds: Thresholds
    calibration: dict[str, Calibration] = field(default_factory=dict)


def refuse_impossible(settings: ZeroShotSettings) -> None:
    """EvaluationError for settings whose thresholds cannot be chosen on validation, or written into a model folder."""
    rule, released = settings.threshold.by != "f1", settings.protocol == "released"
    if released and (rule or settings.calibration):
        name = "threshold" if rule else "calibration"
        raise EvaluationError(
            f"{name}: the released protocol has thresholds of the best F1 alone: set protocol to sound"
        )
    if settings.save_operating_points and (released or settings.head != "supervised"):
        raise EvaluationError(
            "save_operating_points: thresholds of the supervised head from validation are kept: set protocol to sound "
            "and head to supervised"
        )
    if settings.save_operating_points and not (Path(settings.model_path or "") / ABOUT).is_file():
        raise EvaluationError(f"save_operating_points: {settings.model_path} is no model folder to write them into")


def choose(settings: ZeroShotSettings, valid: Scored | None, note: str, left_out: list[str]) -> Validated:
    """Thresholds by the rule of the settings, and the calibration that they wish.

    valid: None where there are no validation images, and on processes other than the main one. note: ends the sentence
    on the thresholds, or says why there is no validation.
    """
    if valid is None:
        return Validated(Thresholds({}, "validation", "", {"valid": left_out}))
    split, rule = valid.split, settings.threshold
    columns = [*zip(split.findings, split.labels.T, valid.scores.T, strict=True)]
    values = {finding: _threshold(rule, labels, scores) for finding, labels, scores in columns}
    chosen = f"{rule.text} on the {plural(len(split), 'image')} of the validation split{note}"
    thresholds = Thresholds(values, "validation", chosen, {"valid": left_out})
    if settings.calibration is None:
        return Validated(thresholds)
    both = [(name, labels, scores) for name, labels, scores in columns if {PRESENT, ABSENT} <= set(labels.tolist())]
    if not both:
        raise EvaluationError("calibration: no finding has images with and without it in the validation split")
    return Validated(thresholds, {name: fit_calibration(y, scores, settings.calibration) for name, y, scores in both})


def _threshold(rule: ThresholdRule, labels: np.ndarray, scores: np.ndarray) -> float:
    if rule.by == "f1":
        return best_f1(labels, scores).threshold
    return threshold_at(labels, scores, **{rule.by: rule.at})


def measure(settings: ZeroShotSettings, tested: Scored, validated: Validated) -> dict[str, Calibrated]:
    """The errors on test of each calibrated finding, before and after."""
    found = {}
    options = {"groups": tested.split.groups, "resamples": settings.resamples, "seed": settings.seed}
    for finding, labels, scores in zip(tested.split.findings, tested.split.labels.T, tested.scores.T, strict=True):
        if (calibration := validated.calibration.get(finding)) is not None:
            before = calibration_errors(labels, scores, **options) if calibration.of_logits else None
            after = calibration_errors(labels, probabilities := calibration(scores), **options)
            found[finding] = Calibrated(calibration, before, after, decision_curve(labels, probabilities))
    return found


def operating_points(evaluation: Evaluation, validated: Validated, about: dict) -> dict:
    """As mavl.checkpoint.about.OperatingPoints, of the classes with a threshold."""

    def point(result: ClassResult) -> dict:
        shares = {name: result.metrics[name].value for name in ("sensitivity", "specificity")}
        known = {name: None if np.isnan(value) else value for name, value in shares.items()}
        calibration = validated.calibration.get(result.name)
        counts = {"positives": result.positives, "images": result.n}
        return {"threshold": result.threshold, **known, **counts, "calibration": calibration and asdict(calibration)}

    points = {result.name: point(result) for result in evaluation.classes if not np.isnan(result.threshold)}
    return {"benchmark": about["title"], "chosen": about["thresholds"], "findings": points}
