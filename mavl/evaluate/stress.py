"""Stress tests of a classification: changes of films that change no finding, and prompts that deny the finding.

Each gives the AUROC of the changed scores beside that of the plain ones, paired by patient, and how far scores and
decisions move. `negation` asks for "no NAME" in place of each finding's words: where that scores as high as the finding
itself in films that have it, the model does not read "no".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from mavl.config.evaluation import NEGATION, StressName, ZeroShotSettings
from mavl.data.benchmarks.splits import Split
from mavl.evaluate.subject import EvaluationError, Subject, Thresholds, prepare
from mavl.metrics.comparison import Difference, compare_auroc
from mavl.report.analyses import stress as report
from mavl.scorers import ListedScorer, TextScorer
from mavl.text.books import Books
from mavl.vocab import DESCRIPTION, PRESENT


@dataclass(frozen=True)
class Stressed:
    """A test. difference: AUROC of the changed scores minus that of the plain ones.

    moved: mean distance of the two scores; order: Spearman's rank correlation of them, the mean over findings. denied:
    of `negation`, the share of films with a finding in which "no NAME" scores at least as high; None for other tests.
    """

    name: str
    difference: Difference
    moved: float
    order: float
    denied: float | None = None


@dataclass(frozen=True)
class StressResult:
    """The tests that a run wrote into `folder`."""

    tests: list[Stressed]
    findings: tuple[str, ...]
    about: dict
    folder: Path


def run(settings: ZeroShotSettings) -> StressResult | None:
    """Evaluate as the settings say; the main process writes and returns the result, the others return None."""
    subject = prepare(settings, f"{settings.head}_stress")
    if isinstance(subject.scorer, ListedScorer):
        raise EvaluationError(f"{settings.model_path}: a table of scores cannot be put under stress")
    split, left_out = subject.usable(subject.split(settings.split))
    plain = _scores(subject, split)
    changed: dict[StressName, np.ndarray | None] = {name: _changed(subject, split, name) for name in settings.stress}
    if plain is None:
        return None
    about = subject.describe(Thresholds({}, None, "none: a comparison of AUROCs"), left_out, head=settings.head)
    tests = [_compare(settings, split, name, plain, scores) for name, scores in changed.items() if scores is not None]
    result = StressResult(tests, split.findings, about, subject.folder)
    with subject.result_folder(about) as folder:
        report.write(replace(result, folder=folder))
    return result


def _changed(subject: Subject, split: Split, name: StressName) -> np.ndarray | None:
    if name != NEGATION:
        return _scores(replace(subject, perturbation=name), split)
    if not isinstance(subject.scorer, TextScorer):
        raise EvaluationError(f"stress {NEGATION}: the findings of this model have no text that could deny them")
    denied = replace(subject, scorer=subject.scorer.with_books(denials(split.findings, subject.scorer.aspects)))
    return _scores(denied, split)


def denials(findings: Sequence[str], aspects: Sequence[str]) -> Books:
    """Books that deny each finding: "no NAME" in each aspect."""

    def line(finding: str, aspect: str) -> str:
        return f"no {finding}" if aspect == DESCRIPTION else f"{aspect}: no {finding}"

    return Books({finding: {aspect: line(finding, aspect) for aspect in aspects} for finding in findings}, {})


def _scores(subject: Subject, split: Split) -> np.ndarray | None:
    """[n, C] on the main process."""

    def scores(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": subject.scorer.scores(images, split.findings)}

    computed = subject.compute(split, scores)
    return None if computed is None else computed["scores"]


def _compare(
    settings: ZeroShotSettings, split: Split, name: StressName, plain: np.ndarray, changed: np.ndarray
) -> Stressed:
    options = {"groups": split.groups, "resamples": settings.resamples, "seed": settings.seed}
    difference = compare_auroc(split.labels, [changed], [plain], split.findings, **options)
    with np.errstate(invalid="ignore"):
        ranked: list[Any] = [spearmanr(a, b) for a, b in zip(plain.T, changed.T, strict=True)]
        orders = [each.statistic for each in ranked]
    present = split.labels == PRESENT
    denied = float((changed[present] >= plain[present]).mean()) if name == NEGATION and present.any() else None
    return Stressed(name, difference, float(np.abs(changed - plain).mean()), float(np.nanmean(orders)), denied)
