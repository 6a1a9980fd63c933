"""The page of a zero-shot classification: table, curves, and of each finding the scores and the surest images."""

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
from mavl.report.tables import notes
from mavl.vocab import ABSENT, PRESENT

if TYPE_CHECKING:
    from torch import Tensor

    from mavl.backbones.build import PatchGrid

GALLERY = 4
"""Images of each kind that the page shows of a finding."""

PLOTS = {"ROC": "roc.png", "Precision and recall": "pr.png"}

Gallery = dict[str, dict[str, list[int]]]
"""{finding: {kind: images of the split}}"""


def surest_images(evaluation: Evaluation, split: Split, scores: np.ndarray) -> Gallery:
    """The surest hits and misses of each finding that the page shows; scores [n, C] of its images and findings."""
    defined = [
        (result, column) for column, result in enumerate(evaluation.classes) if result.name not in evaluation.undefined
    ]
    return {
        result.name: _surest(split.labels[:, column], scores[:, column], result.threshold)
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
    looked_at: str = "",
    plots: Mapping[str, str] = PLOTS,
    template: str = "classification.html",
) -> Path:
    """The page into a result folder, with the plots and the config that lie there already.

    scores [n, C] of the split's images and findings; equalize as the benchmark has it; heatmaps: attention mass [h, w]
    by (image, finding), for the gallery, with patches at these patch_grid; looked_at: whose attention that is; plots: the
    folder's, by title.
    """
    gallery = surest_images(evaluation, split, scores)
    picture = cache(lambda image: _thumbnail(split.paths[image], equalize))

    def shown(image: int, column: int) -> dict:
        heatmap = (heatmaps or {}).get((image, split.findings[column]))
        named = {"name": split.paths[image].name, "value": float(scores[image, column])}
        return page.film(picture(image), heatmap, patch_grid=patch_grid) | named

    return page.write_report(
        folder,
        template,
        about=about,
        evaluation=evaluation,
        notes=list(notes(evaluation)),
        plots={title: page.figure_uri(folder / file) for title, file in plots.items() if (folder / file).exists()},
        findings=list(_sections(evaluation, split, scores, gallery, shown)),
        not_shown=[
            result.name for result in evaluation.classes if result.name not in {*gallery, *evaluation.undefined}
        ],
        looked_at=looked_at if heatmaps else "",
    )


def _sections(
    evaluation: Evaluation, split: Split, scores: np.ndarray, gallery: Gallery, shown: Callable[[int, int], dict]
) -> Iterator[dict]:
    """What the template needs of each finding in the gallery; shown(image, column) is a film of it."""
    for column, result in enumerate(evaluation.classes):
        if result.name in gallery:
            yield {
                "result": result,
                "histogram": _histogram(split.labels[:, column], scores[:, column], result.threshold),
                "gallery": {
                    kind: [shown(each, column) for each in kept] for kind, kept in gallery[result.name].items()
                },
            }


def _histogram(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict:
    series = {"absent": scores[labels == ABSENT], "present": scores[labels == PRESENT]}
    return page.histogram(series, float(scores.min()), float(scores.max()), threshold)


def _surest(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, list[int]]:
    """{kind: images}; high: from the threshold on or, where there is none (NaN), above the median of the labelled."""
    falling = np.argsort(-scores, kind="stable")
    if np.isnan(threshold):
        high = scores[falling] > np.median(scores[(labels == PRESENT) | (labels == ABSENT)])
    else:
        high = scores[falling] >= threshold
    present, absent = labels[falling] == PRESENT, labels[falling] == ABSENT
    kinds = {
        "present and scored high": falling[present & high],
        "present but scored low": falling[present & ~high][::-1],
        "absent but scored high": falling[absent & high],
    }
    return {kind: images[:GALLERY].tolist() for kind, images in kinds.items()}


def _thumbnail(path: Path, equalize: bool) -> Image.Image:
    picture = read_image(path, equalize=equalize)
    picture.thumbnail((page.THUMBNAIL, page.THUMBNAIL), reducing_gap=2.0)
    return picture
