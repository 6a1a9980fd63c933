"""How much zero-shot numbers hang on words: one benchmark scored under several wordings of the same findings.

    result = run(load(ZeroShotSettings, path, ["sensitivity={}"]))
    result.spreads["nodule"].low, result.spreads["nodule"].high      # AUROC under the least and the most lucky wording
    result.ablated["nodule"].low                                      # and with the most harmful of the ablations

Every image is read, and goes through the backbone, once for all wordings.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau
from torch import Tensor

from mavl.config.loader import dump
from mavl.config.settings import SensitivitySettings, ZeroShotSettings
from mavl.data.benchmarks.splits import Split
from mavl.evaluate.subject import (
    EvaluationError,
    Thresholds,
    describe,
    open_split,
    prepare,
    result_folder,
    without_bad_images,
)
from mavl.metrics.classification import Evaluation, evaluate
from mavl.scorers import TextScorer
from mavl.text.books import Books, read_books
from mavl.text.wordings import ABLATION, OWN, REFERENCE, Wording, built_in_wordings, write_books
from mavl.vocab import ABSENT, DESCRIPTION, PRESENT, UNKNOWN


@dataclass(frozen=True)
class WordingResult:
    """A benchmark under one wording.

    flips [C]: of each finding the share of pairs of images that stand in another order than under the reference, as
    (1 - Kendall's tau) / 2; changed: of how many findings the text is another one.
    """

    name: str
    kind: str
    evaluation: Evaluation
    flips: np.ndarray
    changed: int


@dataclass(frozen=True)
class Spread:
    """AUROC over some wordings; std is theirs, not an estimate for others.

    flips: the largest share of pairs of images that any of them puts in another order.
    """

    low: float
    mean: float
    high: float
    std: float
    lowest: str
    highest: str
    flips: float


@dataclass(frozen=True)
class Sensitivity:
    """Wordings, the reference first; `about` says how they came about, `folder` is where it is written.

    Those that say as much as the books, in other words, are in `spreads`; ablations, which say less, are in `ablated`.
    Either is empty where no such wording was asked for.
    """

    wordings: list[WordingResult]
    about: dict
    folder: Path

    @property
    def reference(self) -> Evaluation:
        return self.wordings[0].evaluation

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """{"trained" or "new": findings with both labels, met in the pre-training or not}; no empty one."""
        defined = [found.name for found in self.reference.classes if found.name not in self.reference.undefined]
        new = self.about["new_findings"]
        groups = {
            "trained": [name for name in defined if name not in new],
            "new": [name for name in defined if name in new],
        }
        return {kind: names for kind, names in groups.items() if names}

    def areas(self, findings: Sequence[str]) -> np.ndarray:
        """AUROC [wordings, findings]."""
        of = [{found.name: found.auroc.value for found in wording.evaluation.classes} for wording in self.wordings]
        return np.array([[areas[name] for name in findings] for areas in of])

    @cached_property
    def findings(self) -> list[str]:
        """Those with both labels, group by group."""
        return [name for names in self.groups.values() for name in names]

    @cached_property
    def spreads(self) -> dict[str, Spread]:
        """Of each finding, and as "mean trained" and "mean new" of the groups' means: over the books and all wordings
        that say as much.
        """
        rows = [i for i, wording in enumerate(self.wordings) if wording.kind != ABLATION]
        return self._spreads(rows) if len(rows) > 1 else {}

    @cached_property
    def ablated(self) -> dict[str, Spread]:
        """As `spreads`, over the ablations alone."""
        rows = [i for i, wording in enumerate(self.wordings) if wording.kind == ABLATION]
        return self._spreads(rows) if rows else {}

    def _spreads(self, rows: list[int]) -> dict[str, Spread]:
        columns = [found.name for found in self.reference.classes]
        flips = np.array([self.wordings[i].flips for i in rows])
        areas = self.areas(self.findings)[rows]
        spreads = {
            name: self._spread(rows, of, float(np.nanmax(flips[:, columns.index(name)], initial=0)))
            for name, of in zip(self.findings, areas.T, strict=True)
        }
        for kind, names in self.groups.items():
            spreads[f"mean {kind}"] = self._spread(rows, self.areas(names)[rows].mean(axis=1), np.nan)
        return spreads

    def _spread(self, rows: list[int], areas: np.ndarray, flips: float) -> Spread:
        """areas [rows]."""
        lowest, highest = (self.wordings[rows[i]].name for i in (areas.argmin(), areas.argmax()))
        low, mean, high, std = map(float, (areas.min(), areas.mean(), areas.max(), areas.std()))
        return Spread(low, mean, high, std, lowest, highest, flips)


def run(settings: ZeroShotSettings) -> Sensitivity | None:
    """Score and write as the settings say; the main process returns the result, the others return None."""
    plan = settings.sensitivity or SensitivitySettings()
    subject = prepare(settings)
    scorer = subject.scorer
    if not isinstance(scorer, TextScorer):
        raise EvaluationError(f"{settings.model_path}: this model's findings have no text whose wording could change")
    varied = _varied(plan, scorer)
    wordings = _wordings(settings, plan, scorer, varied)
    with subject.accelerator.main_process_first():
        scorers = {wording.name: scorer.with_books(wording.books) for wording in wordings}
    split = open_split(settings, subject.benchmark, settings.split)
    split, left_out = without_bad_images(settings, split, subject.accelerator.is_main_process)
    if not any({PRESENT, ABSENT} <= set(labels) for labels in split.labels.T.tolist()):
        raise EvaluationError(f"{subject.benchmark.name} {split.name}: no finding has both labels, nothing to compare")

    def compute(images: Tensor) -> dict[str, Tensor]:
        features = scorer.encode(images)
        return {name: other.score_features(features, split.findings) for name, other in scorers.items()}

    scores = subject.compute(settings, split, compute)
    if not subject.accelerator.is_main_process:
        return None
    none = Thresholds(None, None, "none: a comparison of AUROCs")
    about = describe(settings, subject, none, left_out, head=settings.head, varied=list(varied))
    about["as_trained"] = scorers[REFERENCE].same_text(scorer)
    kind = f"{settings.head}_sensitivity" + ("_new" if plan.vary == "new" else "")
    folder = result_folder(settings, subject.benchmark, kind)
    dump(settings, folder / "config.yaml")
    shutil.rmtree(folder / "books", ignore_errors=True)  # of a former run, with other wordings
    for wording in wordings:
        write_books(folder / "books" / wording.name.replace(" ", "_"), wording.books)
    results = [_compare(settings, split, scores, wording, wordings[0]) for wording in wordings]
    result = Sensitivity(results, about, folder)
    from mavl.report import wordings as report  # matplotlib and rich only where they are needed

    report.write(result)
    return result


def _wordings(
    settings: ZeroShotSettings, plan: SensitivitySettings, scorer: TextScorer, varied: Sequence[str]
) -> list[Wording]:
    """The books as they are, their built-in wordings, then the user's; each with the text of the varied findings."""

    def read(**more: Sequence[str]) -> Books:
        descriptions = [*settings.descriptions, *more.get("descriptions", ())]
        lines = [*settings.aspects, *more.get("aspects", ())] if scorer.aspects != (DESCRIPTION,) else []
        books = read_books(descriptions, lines)
        books.require(varied, scorer.aspects)
        chosen = {name: {aspect: books.sentences[name][aspect] for aspect in scorer.aspects} for name in varied}
        return Books(chosen, books.hashes)

    books = read()
    wordings = [
        Wording(REFERENCE, REFERENCE, books),
        *built_in_wordings(books, varied, scorer.aspects, plan.built_in),
    ]
    for name, files in plan.wordings.items():
        if name in [wording.name for wording in wordings]:
            raise EvaluationError(f"sensitivity.wordings: {name!r} is a built-in wording; give it another name")
        wordings.append(Wording(name, OWN, read(**files.model_dump())))
    return wordings


def _varied(plan: SensitivitySettings, scorer: TextScorer) -> tuple[str, ...]:
    """The findings whose text changes."""
    if plan.vary == "all":
        return scorer.vocabulary
    new = tuple(name for name in scorer.vocabulary if name not in scorer.trained_findings)
    if not new:
        raise EvaluationError("sensitivity.vary is new, but the model was trained with all findings; use vary: all")
    return new


def _compare(
    settings: ZeroShotSettings, split: Split, scores: dict[str, np.ndarray], wording: Wording, reference: Wording
) -> WordingResult:
    ours, theirs = scores[wording.name], scores[reference.name]
    evaluation = evaluate(
        split.labels,
        ours,
        split.findings,
        resamples=settings.resamples,
        groups=split.groups,
        seed=settings.seed,
    )
    flips = [_flips(label, *pair) for label, *pair in zip(split.labels.T, ours.T, theirs.T, strict=True)]
    text = wording.books.sentences
    changed = sum(text[name] != sentences for name, sentences in reference.books.sentences.items())
    return WordingResult(wording.name, wording.kind, evaluation, np.array(flips), changed)


def _flips(labels: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    known = labels != UNKNOWN
    return float((1 - kendalltau(ours[known], theirs[known]).statistic) / 2)
