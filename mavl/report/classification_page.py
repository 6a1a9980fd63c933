"""The page of a classification: table, curves, and for each finding the scores and the most confident images."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mavl.data.benchmarks.splits import Split
from mavl.data.images.read import read_image
from mavl.metrics.classification import Evaluation
from mavl.report import page
from mavl.report.classification import notes, shown_metrics
from mavl.report.figures import PRECISION_RECALL, ROC
from mavl.vocab import ABSENT, PRESENT

if TYPE_CHECKING:
    from torch import Tensor

    from mavl.backbones import PatchGrid

GALLERY = 4
"""Images of each kind that the page shows for a finding."""

PLOTS = {"ROC": ROC, "Precision and recall": PRECISION_RECALL}

Gallery = dict[str, dict[str, list[int]]]
"""{finding: {kind: images of the split}}"""


def most_confident(evaluation: Evaluation, split: Split, scores: np.ndarray) -> Gallery:
    """The most confident hits and errors of each finding that the page shows; scores [n, C] of images and findings."""
    defined = [
        (result, column) for column, result in enumerate(evaluation.classes) if result.name not in evaluation.undefined
    ]
    return {
        result.name: _most_confident(split.labels[:, column], scores[:, column], result.threshold)
        for result, column in defined[: page.FINDINGS_SHOWN]
    }


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
    template: str = "classification.html",
) -> Path:
    """Write the page into a result folder, with the plots and the config of the folder.

    Args:
        scores: [n, C] of the images and findings of the split.
        equalize: whether the benchmark equalizes its images.
        heatmaps: {(image, finding): attention mass [h, w]}, for the gallery.
        patch_grid: position of the patches of the heatmaps.
        heatmap_note: what the heatmaps are, for the reader.
        plots: {title: file in the folder}; a plot without a file is omitted.
    """
    gallery = most_confident(evaluation, split, scores)
    picture = cache(lambda image: _thumbnail(split.paths[image], equalize))

    def shown(image: int, column: int) -> dict:
        heatmap = (heatmaps or {}).get((image, split.findings[column]))
        caption = {"name": split.paths[image].name, "value": float(scores[image, column])}
        return page.film(picture(image), heatmap, patch_grid=patch_grid) | caption

    return page.write_report(
        folder,
        template,
        about=about,
        evaluation=evaluation,
        metrics=shown_metrics(evaluation),
        notes=list(notes(evaluation)),
        plots={title: page.figure_uri(folder / file) for title, file in plots.items() if (folder / file).exists()},
        findings=list(_sections(evaluation, split, scores, gallery, shown)),
        not_shown=[
            result.name for result in evaluation.classes if result.name not in {*gallery, *evaluation.undefined}
        ],
        heatmap_note=heatmap_note if heatmaps else "",
    )


def _sections(
    evaluation: Evaluation, split: Split, scores: np.ndarray, gallery: Gallery, shown: Callable[[int, int], dict]
) -> Iterator[dict]:
    """The section of each finding in the gallery for the template; shown(image, column): a film of the page."""
    for column, result in enumerate(evaluation.classes):
        if result.name in gallery:
            yield {
                "result": result,
                "histogram": _histogram(split.labels[:, column], scores[:, column], result.threshold),
                "gallery": {
                    kind: [shown(image, column) for image in images] for kind, images in gallery[result.name].items()
                },
            }


def _histogram(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict:
    series = {"absent": scores[labels == ABSENT], "present": scores[labels == PRESENT]}
    return page.histogram(series, float(scores.min()), float(scores.max()), threshold)


def _most_confident(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, list[int]]:
    """{kind: images}; a score is high from the threshold on or, without one (NaN), above the median of the labelled."""
    falling = np.argsort(-scores, kind="stable")
    if np.isnan(threshold):
        high = scores[falling] > np.median(scores[(labels == PRESENT) | (labels == ABSENT)])
    else:
        high = scores[falling] >= threshold
    present, absent = labels[falling] == PRESENT, labels[falling] == ABSENT
    kinds = {
        "present with a high score": falling[present & high],
        "present with a low score": falling[present & ~high][::-1],
        "absent with a high score": falling[absent & high],
    }
    return {kind: images[:GALLERY].tolist() for kind, images in kinds.items()}


def _thumbnail(path: Path, equalize: bool) -> Image.Image:
    picture = read_image(path, equalize=equalize)
    picture.thumbnail((page.THUMBNAIL, page.THUMBNAIL), reducing_gap=2.0)
    return picture
