"""The test of a fine-tuned classifier, with a baseline made without the images, written to the run folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.data.benchmarks.splits import Split
from mavl.metrics.classification import Evaluation, evaluate
from mavl.report import classification as report
from mavl.report.classification_page import PLOTS, most_confident, write_classification_page
from mavl.report.figures import plot_curves
from mavl.report.tables import RESULTS, TABLE
from mavl.report.training import TRAINING, plot_training

if TYPE_CHECKING:
    from torch import Tensor

    from mavl.backbones import PatchGrid

TRAINING_PLOTS = {
    "binary cross-entropy": {"training": "loss", "validation": "valid_loss"},
    "mean AUROC on validation": {"AUROC": "valid_auroc"},
}

HEATMAP_NOTE = (
    "Colour shows the patches with evidence for the finding, by what each adds to the logit; up to 1×, the value of a "
    "uniform map, it is transparent. Evidence against the finding is not drawn. The features of a patch depend on a "
    "large part of the image: the map is a hint to the place, not an outline of a lesion."
)

Evidence = Callable[[list[tuple[int, str]]], tuple[dict[tuple[int, str], "Tensor"], "PatchGrid"]]
"""(image, finding) pairs -> the evidence [h, w] for the finding in the image, which sums to 1, and its patch_grid"""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A test split with the scores [n, C] in 0..1 of the best model.

    thresholds [C]: chosen on validation; prevalence [C]: share of each finding in the labelled training images.
    """

    split: Split
    scores: np.ndarray
    thresholds: np.ndarray
    prevalence: np.ndarray

    def evaluation(self, resamples: int) -> Evaluation:
        """The metrics of the model."""
        return self._evaluate(self.scores, self.thresholds, resamples)

    def baseline(self) -> Evaluation:
        """The metrics of the prevalence as the score of every image, positive from 0.5 on."""
        scores = np.broadcast_to(self.prevalence, self.split.labels.shape)
        return self._evaluate(scores, np.full(len(self.split.findings), 0.5), resamples=0)

    def _evaluate(self, scores: np.ndarray, thresholds: np.ndarray, resamples: int) -> Evaluation:
        split = self.split
        return evaluate(
            split.labels,
            scores,
            split.findings,
            thresholds=thresholds,
            threshold_source="validation",
            resamples=resamples,
            groups=split.groups,
        )


def write_results(
    folder: Path, outcome: Outcome, about: dict, resamples: int, evidence: Evidence | None, equalize: bool = False
) -> Evaluation:
    """Write scores, table, curves and page into a run folder; RESULTS last, since its presence marks a complete run.

    evidence: computes the maps of the images on the page; without it there is no page.
    """
    split, evaluation, baseline = outcome.split, outcome.evaluation(resamples), outcome.baseline()
    report.write_scores(folder / report.SCORES, split, outcome.scores)
    report.write_csv(evaluation, folder / TABLE)
    plot_curves(split.labels, outcome.scores, evaluation, folder)
    plot_training(folder / "log.jsonl", folder / TRAINING, about["best_step"], TRAINING_PLOTS)
    about = about | {"baseline": {name: mean.value for name, mean in baseline.means.items()}}
    if evidence is not None:
        _write_page(folder, outcome, evaluation, about, evidence, equalize)
    report.write_json(evaluation, folder / RESULTS, about)
    return evaluation


def _write_page(
    folder: Path, outcome: Outcome, evaluation: Evaluation, about: dict, evidence: Evidence, equalize: bool
) -> None:
    gallery = most_confident(evaluation, outcome.split, outcome.scores)
    shown = [(image, finding) for finding, kinds in gallery.items() for images in kinds.values() for image in images]
    heatmaps, patch_grid = evidence(shown)
    write_classification_page(
        folder,
        evaluation,
        about | {"bank": None, "baseline_line": report.baseline_line(about)},
        outcome.split,
        outcome.scores,
        equalize=equalize,
        heatmaps=heatmaps,
        patch_grid=patch_grid,
        heatmap_note=HEATMAP_NOTE,
        plots={"Training": TRAINING, **PLOTS},
        template="finetuned.html",
    )
