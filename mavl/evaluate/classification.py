"""Zero-shot classification of a benchmark: settings -> scores, table, curves in a result folder."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mavl.config.loader import dump
from mavl.config.settings import ZeroShotSettings
from mavl.data.benchmarks.benchmark import Split
from mavl.data.loading import build_loader, to_device
from mavl.data.pretraining import write_left_out
from mavl.evaluate.subject import (
    Subject,
    Thresholds,
    describe,
    open_split,
    prepare,
    result_folder,
    why_no_validation,
    without_bad_images,
)
from mavl.metrics.classification import Evaluation, best_f1, evaluate
from mavl.progress import progress_bar
from mavl.report import classification as report
from mavl.report.classification_page import most_confident, write_classification_page
from mavl.report.figures import plot_curves


@dataclass(frozen=True)
class Scored:
    """A split and the model's scores [n, C] in the order of `split.findings`; left_out: a line for each bad image."""

    split: Split
    scores: np.ndarray
    left_out: list[str]


@dataclass(frozen=True)
class Result:
    """The result that a run wrote into `folder`."""

    evaluation: Evaluation
    about: dict
    folder: Path

    @property
    def summary(self) -> str:
        """The mean AUROC over the findings of the pre-training and, apart from them, over the new ones."""
        areas = {"of the pre-training": [], "never trained on": []}
        for result in self.evaluation.classes:
            if result.name not in self.evaluation.undefined:
                kind = "never trained on" if result.name in self.about["new_findings"] else "of the pre-training"
                areas[kind].append(result.metrics["auroc"].value)
        means = [f"{np.mean(x):.3f} over {len(x)} findings {kind}" for kind, x in areas.items() if x]
        return f"mean AUROC {'; '.join(means)}" if means else "no finding has both labels"


def run(settings: ZeroShotSettings) -> Result | None:
    """Evaluate as the settings say; the main process writes and returns the result, the others return None."""
    subject = prepare(settings)
    scored = score_split(settings, subject, settings.split)
    thresholds = _thresholds(settings, subject)
    if not subject.accelerator.is_main_process:
        return None
    about = describe(settings, subject, thresholds, scored.left_out, head=settings.head)
    folder = result_folder(settings, subject.benchmark, settings.head)
    dump(settings, folder / "config.yaml")
    report.write_scores(folder / report.SCORES, scored.split, scored.scores)
    evaluation = evaluate(
        scored.split.labels,
        scored.scores,
        scored.split.findings,
        thresholds=thresholds.values,
        threshold_source=thresholds.source,
        strict=settings.protocol == "released",
        resamples=settings.resamples,
        groups=scored.split.groups,
        seed=settings.seed,
    )
    _write(folder, scored, evaluation, about)
    if settings.html:
        _write_page(folder, settings, subject, scored, evaluation, about)
    return Result(evaluation, about, folder)


def score_split(settings: ZeroShotSettings, subject: Subject, name: str) -> Scored:
    """Scores of every image of a split; bad images are an error, or left out and listed (`max_bad_share`)."""
    split = open_split(settings, subject.benchmark, name)
    split, left_out = without_bad_images(settings, split, subject.accelerator.is_main_process)
    computed = subject.compute(
        settings, split, lambda images: {"scores": subject.scorer.scores(images, split.findings)}
    )
    return Scored(split, computed["scores"], left_out)


@torch.no_grad()
def attention_maps(
    settings: ZeroShotSettings, subject: Subject, split: Split, shown: Iterable[tuple[int, str]]
) -> dict[tuple[int, str], Tensor]:
    """(image, finding) pairs -> heatmap [h, w] of the finding in that image; empty for a model without heatmaps.

    Only these images are computed, by the calling process alone.
    """
    pairs = defaultdict(list)
    for image, finding in shown:
        pairs[image].append(finding)
    images, maps = list(pairs), {}
    dataset = subject.images(split, images)
    size = settings.batch_size
    batches = [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]
    device, preprocessing = subject.accelerator.device, subject.scorer.preprocessing
    loader = build_loader(dataset, batches, min(settings.workers, len(batches)), pin_memory=device.type == "cuda")
    for batch in progress_bar(loader, description="heatmaps for the page", unit="batch"):
        with subject.accelerator.autocast():
            computed = subject.scorer.heatmaps(to_device(batch, device, preprocessing)["image"], split.findings)
        if computed is None:
            return {}
        for of_image, place in zip(computed.cpu(), batch["index"].tolist(), strict=True):
            image = images[place]
            maps |= {(image, finding): of_image[split.findings.index(finding)] for finding in pairs[image]}
    return maps


def _write_page(
    folder: Path, settings: ZeroShotSettings, subject: Subject, scored: Scored, evaluation: Evaluation, about: dict
) -> None:
    gallery = most_confident(evaluation, scored.split, scored.scores)
    shown = [(image, finding) for finding, kinds in gallery.items() for images in kinds.values() for image in images]
    write_classification_page(
        folder,
        evaluation,
        about,
        scored.split,
        scored.scores,
        equalize=subject.benchmark.equalize,
        heatmaps=attention_maps(settings, subject, scored.split, shown),
        patch_grid=subject.scorer.patch_grid,
        heatmap_note=about.get("map", ""),
    )


def _thresholds(settings: ZeroShotSettings, subject: Subject) -> Thresholds:
    if settings.protocol == "released":
        note = "best F1 on the test images themselves, positive is score > threshold (released protocol)"
        return Thresholds(None, "test", note)
    if reason := why_no_validation(settings, subject.benchmark):
        return Thresholds(None, None, f"none: {reason}")
    valid = score_split(settings, subject, "valid")
    columns = zip(valid.split.labels.T, valid.scores.T, strict=True)
    values = np.array([best_f1(labels, scores).threshold for labels, scores in columns])
    note = f"best F1 on the {len(valid.scores)} images of the validation split"
    return Thresholds(values, "validation", note, {"valid": valid.left_out})


def _write(folder: Path, scored: Scored, evaluation: Evaluation, about: dict) -> None:
    report.write_csv(evaluation, folder / "results.csv")
    report.write_json(evaluation, folder / "results.json", about)
    write_left_out(folder / "left_out.json", about["left_out"])
    split = scored.split
    plot_curves(split.labels, scored.scores, evaluation, folder)
