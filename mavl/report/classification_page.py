"""The page of a classification: table, curves, and for each finding the scores and the most confident images."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mavl.data.benchmarks.splits import Split
from mavl.data.images.read import read_image
from mavl.metrics.classification import Evaluation
from mavl.metrics.intervals import FEWEST
from mavl.report import page
from mavl.report.analyses.calibration import DECISIONS
from mavl.report.analyses.calibration import PLOT as RELIABILITY
from mavl.report.classification import marked, notes, shown_metrics
from mavl.report.pictures.figures import PRECISION_RECALL, ROC
from mavl.vocab import ABSENT, PRESENT

if TYPE_CHECKING:
    from torch import Tensor

    from mavl.backbones import PatchGrid

GALLERY = 4
"""Images of each kind that the page shows for a finding."""

PLOTS = {"ROC": ROC, "Precision and recall": PRECISION_RECALL, "Calibration": RELIABILITY, "Net benefit": DECISIONS}

Gallery = dict[str, dict[str, list[int]]]
"""{finding: {kind: images of the split}}"""


def most_confident(evaluation: Evaluation, split: Split, scores: np.ndarray) -> Gallery:
    """The most confident hits and errors of each finding that the page shows; scores [n, C] of images and findings.

    A score is high from the threshold on or, without one, above the median of the labelled.
    """
    gallery = {}
    for column, result in enumerate(evaluation.classes):
        if result.name in evaluation.undefined or len(gallery) == page.FINDINGS_SHOWN:
            continue
        falling = np.argsort(-scores[:, column], kind="stable")
        labels, ranked = split.labels[falling, column], scores[falling, column]
        present, absent = labels == PRESENT, labels == ABSENT
        median = np.median(ranked[present | absent])
        high = ranked > median if np.isnan(result.threshold) else ranked >= result.threshold
        kinds = {
            "present with a high score": falling[present & high],
            "present with a low score": falling[present & ~high][::-1],
            "absent with a high score": falling[absent & high],
        }
        gallery[result.name] = {kind: images[:GALLERY].tolist() for kind, images in kinds.items()}
    return gallery


def write_classification_page(
    folder: Path,
    evaluation: Evaluation,
    about: dict,
    split: Split,
    scores: np.ndarray,
    *,
    equalize: bool = False,
    heatmaps: "Mapping[tuple[int, str], Tensor] | None" = None,
    patch_grid: "PatchGrid | None" = None,
    heatmap_note: str = "",
    plots: Mapping[str, str] = PLOTS,
    subgroups: Any = None,
    template: str = "classification.html",
) -> Path:
    """Write the page into a result folder, with the config and the plots {title: file} of the folder, if they exist.

    Args:
        scores: [n, C] of the images and findings of the split.
        equalize: whether the benchmark equalizes its images.
        heatmaps: {(image, finding): attention mass [h, w]}, for the gallery; patch_grid: position of their patches.
        heatmap_note: what the heatmaps are, for the reader.
        subgroups: as of mavl.evaluate.subgroups, if results are split up.
    """
    gallery, new = most_confident(evaluation, split, scores), about.get("new_findings", ())
    film = partial(_film, split, scores, equalize, heatmaps or {}, patch_grid)
    shown = {*gallery, *evaluation.undefined}
    return page.write_report(
        folder,
        template,
        about=about,
        evaluation=evaluation,
        metrics=shown_metrics(evaluation),
        notes=list(notes(evaluation, new)),
        plots={title: page.figure_uri(folder / file) for title, file in plots.items() if (folder / file).exists()},
        findings=_findings(evaluation, split, scores, gallery, film),
        marked=partial(marked, evaluation, new=new),
        not_shown=[result.name for result in evaluation.classes if result.name not in shown],
        heatmap_note=heatmap_note if heatmaps else "",
        subgroups=subgroups if subgroups and subgroups.findings else None,
        fewest=FEWEST,
    )


def _findings(
    evaluation: Evaluation, split: Split, scores: np.ndarray, gallery: Gallery, film: Callable[[int, int], dict]
) -> list[dict]:
    """What the page shows of each finding of the gallery."""
    return [
        {
            "result": result,
            "histogram": _histogram(split.labels[:, column], scores[:, column], result.threshold),
            "gallery": {kind: [film(x, column) for x in images] for kind, images in gallery[result.name].items()},
        }
        for column, result in enumerate(evaluation.classes)
        if result.name in gallery
    ]


def _film(
    split: Split,
    scores: np.ndarray,
    equalize: bool,
    heatmaps: "Mapping[tuple[int, str], Tensor]",
    patch_grid: "PatchGrid | None",
    image: int,
    column: int,
) -> dict:
    """An image of the gallery with the heatmap of a finding, faint for a low probability."""
    picture = read_image(split.paths[image], equalize=equalize)
    heatmap = heatmaps.get((image, split.findings[column]))
    value = float(scores[image, column])
    probable = scores.min() >= 0 and scores.max() <= 1  # not of every kind of scorer
    shown = {"probability": value if probable else 1.0, "name": split.paths[image].name, "value": value}
    return page.film(picture, heatmap, patch_grid=patch_grid, **shown)


def _histogram(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict:
    series = {"absent": scores[labels == ABSENT], "present": scores[labels == PRESENT]}
    return page.histogram(series, float(scores.min()), float(scores.max()), threshold)
