"""How much zero-shot results depend on words: one benchmark scored with several wordings of the same findings.

    result = run(load(ZeroShotSettings, path, ["sensitivity={}"]))
    result.spreads["nodule"].low, result.spreads["nodule"].high      # smallest and largest AUROC over the wordings
    result.ablated["nodule"].low                                      # and with the most harmful of the ablations

Every image is read and encoded once for all wordings.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import kendalltau
from torch import Tensor

from mavl.config.evaluation import BookFiles, SensitivitySettings, ZeroShotSettings
from mavl.data.benchmarks.splits import Split
from mavl.data.launch import main_process_first
from mavl.evaluate.subject import EvaluationError, Thresholds, prepare, slug
from mavl.metrics.classification import evaluate
from mavl.metrics.wordings import Sensitivity, WordingResult
from mavl.report.analyses import wordings as report
from mavl.scorers import TextScorer
from mavl.text.books import Books, read_books
from mavl.text.wordings import ABLATION, OWN, REFERENCE, Wording, built_in_wordings, write_books
from mavl.vocab import ABSENT, DESCRIPTION, PRESENT, UNKNOWN


def run(settings: ZeroShotSettings) -> Sensitivity | None:
    """Score and write as the settings say; the main process returns the result, the others return None."""
    plan = settings.sensitivity or SensitivitySettings()
    subject = prepare(settings, f"{settings.head}_sensitivity{'_new' * (plan.vary == 'new')}")
    scorer = subject.scorer
    if not isinstance(scorer, TextScorer):
        raise EvaluationError(f"{settings.model_path}: this model's findings have no text whose wording could change")
    varied = scorer.vocabulary
    if plan.vary == "new":
        varied = tuple(name for name in scorer.vocabulary if name not in scorer.trained_findings)
    if not varied:
        raise EvaluationError("sensitivity.vary is new, but the model was trained with all findings; use vary: all")
    wordings = _wordings(settings, plan, scorer, varied)
    with main_process_first(subject.accelerator):
        scorers = {wording.name: scorer.with_books(wording.books) for wording in wordings}
    split, left_out = subject.usable(subject.split(settings.split))
    if not any({PRESENT, ABSENT} <= set(labels) for labels in split.labels.T.tolist()):
        raise EvaluationError(f"{subject.benchmark.name} {split.name}: no finding has both labels, nothing to compare")

    def compute(images: Tensor) -> dict[str, Tensor]:
        features = scorer.encode(images)
        return {name: other.score_features(features, split.findings) for name, other in scorers.items()}

    scores = subject.compute(split, compute)
    if scores is None:
        return None
    none = Thresholds({}, None, "none: a comparison of AUROCs")
    about = subject.describe(none, left_out, head=settings.head, varied=list(varied))
    about["as_trained"] = scorers[REFERENCE].same_text(scorer)
    results = [_compare(settings, split, scores, wording, wordings[0]) for wording in wordings]
    result = Sensitivity(results, about, subject.folder)
    with subject.result_folder(about) as folder:
        for wording in wordings:
            write_books(folder / "books" / slug(wording.name.replace(" ", "_")), wording.books)
        report.write(replace(result, folder=folder))
    return result


def _wordings(
    settings: ZeroShotSettings, plan: SensitivitySettings, scorer: TextScorer, varied: Sequence[str]
) -> list[Wording]:
    """The books as they are, their built-in wordings, then those of the plan; each with the text of `varied` alone."""

    def read(more: BookFiles) -> Books:
        lines = [*settings.aspects, *more.aspects] if scorer.aspects != (DESCRIPTION,) else []
        books = read_books([*settings.descriptions, *more.descriptions], lines)
        books.require(varied, scorer.aspects)
        chosen = {name: {aspect: books.sentences[name][aspect] for aspect in scorer.aspects} for name in varied}
        return Books(chosen, books.hashes)

    books = read(BookFiles())
    built_in = built_in_wordings(books, varied, scorer.aspects, plan.built_in)
    wordings = [Wording(REFERENCE, REFERENCE, books), *built_in]
    for name, files in plan.wordings.items():
        if name in [wording.name for wording in wordings]:
            raise EvaluationError(f"sensitivity.wordings: {name!r} is a built-in wording; give it another name")
        wordings.append(Wording(name, OWN, read(files)))
    return wordings


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
    columns = zip(split.labels.T != UNKNOWN, ours.T, theirs.T, strict=True)
    taus: list[Any] = [kendalltau(column[known], other[known]) for known, column, other in columns]
    text = wording.books.sentences
    changed = sum(text[name] != sentences for name, sentences in reference.books.sentences.items())
    flips = np.array([(1 - tau.statistic) / 2 for tau in taus])
    return WordingResult(wording.name, wording.kind, wording.kind == ABLATION, evaluation, flips, changed)
