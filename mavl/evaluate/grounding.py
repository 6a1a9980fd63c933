"""Zero-shot grounding of a benchmark: settings -> heatmaps measured against masks, in a result folder.

A case is a finding that is present in an image and has a mask there; only such count (mavl.evaluate.cases).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from torch import Tensor

from mavl.config.loader import dump
from mavl.config.settings import GroundingSettings
from mavl.data.benchmarks.masks import resize_mask
from mavl.data.benchmarks.splits import Split
from mavl.data.images.read import read_image
from mavl.data.pretraining import write_left_out
from mavl.evaluate.cases import (
    ALL,
    MAPS,
    Grounded,
    Measured,
    choose_thresholds,
    localize_findings,
    measure_cases,
)
from mavl.evaluate.subject import (
    EvaluationError,
    Subject,
    describe,
    open_split,
    prepare,
    result_folder,
    why_no_validation,
    without_bad_images,
)
from mavl.metrics.grounding import Localization
from mavl.metrics.margins import Margins, compare_to_baselines, margins
from mavl.report import grounding as report
from mavl.report.gallery import PIXELS, Shown, best_and_worst, plot_gallery, ranking_metric
from mavl.vocab import PRESENT

NO_GRIDS = np.empty((0, 0, 0, 0), np.float32)


@dataclass(frozen=True)
class Result:
    """What a run wrote into `folder`, by finding or ALL.

    localizations: {finding: {one of MAPS: Localization}}; margins: {finding: how far the model's maps are above the
    others}.
    """

    localizations: dict[str, dict[str, Localization]]
    margins: dict[str, Margins]
    about: dict
    folder: Path

    @property
    def summary(self) -> str:
        """How the model's maps do against those that know nothing of the image, over all cases."""
        return f"the model's maps, over all cases: {compare_to_baselines(self.margins[ALL]).sentence}"


def run(settings: GroundingSettings) -> Result | None:
    """Evaluate as the settings say; the main process writes and returns the result, the others return None."""
    subject = prepare(settings)
    if subject.benchmark.masks is None:
        raise EvaluationError(f"{settings.benchmark}: names no masks, so there is nothing to compare heatmaps with")
    tested = ground_split(settings, subject, settings.split)
    if not tested.cases:
        findings = ", ".join(tested.split.findings)
        raise EvaluationError(
            f"{subject.benchmark.name}: no image of its {settings.split} split has a mask of {findings}; only positive "
            "images count. " + "; ".join(tested.left_out[:3])
        )
    reason = why_no_validation(settings, subject.benchmark)
    use_validation = settings.protocol == "sound" and reason is None
    validation = ground_split(settings, subject, "valid") if use_validation else None
    if not subject.accelerator.is_main_process:
        return None
    thresholds = choose_thresholds(settings, tested, validation, reason)
    measured = measure_cases(settings, tested, thresholds)
    localizations = localize_findings(settings, tested.split.findings, measured, thresholds)
    compared = {
        finding: margins({name: measured.of(finding, name) for name in MAPS}, settings.resamples, settings.seed)
        for finding in localizations
    }
    about = describe(
        settings,
        subject,
        thresholds,
        tested.left_out,
        map_size=settings.map_size,
        alignment=settings.aligned,
        grid=tested.grids.shape[-2:],
        without_cases=[finding for finding in tested.split.findings if finding not in localizations],
    )
    result = Result(localizations, compared, about, result_folder(settings, subject.benchmark, settings.aggregation))
    _write(result, settings, measured)
    _show(result, settings, tested, measured, subject.benchmark.equalize)
    return result


def ground_split(settings: GroundingSettings, subject: Subject, name: str) -> Grounded:
    """Find the cases of a split and compute the maps of their images; bad images as `max_bad_share` says."""
    split = open_split(settings, subject.benchmark, name)
    positive = {image for image, _ in _present(split)}
    split = split.without(set(range(len(split))) - positive)
    if not positive:
        return Grounded(split, [], NO_GRIDS, [])
    split, left_out = without_bad_images(settings, split, subject.accelerator.is_main_process)
    cases, unseen = _find_cases(split, settings.map_size)

    def compute(images: Tensor) -> dict[str, Tensor]:
        maps = subject.scorer.heatmaps(images, split.findings)
        if maps is None:
            raise EvaluationError(f"{settings.model_path}: this model has no heatmaps, so it cannot be grounded")
        return {"maps": maps}

    grids = subject.compute(settings, split, compute)["maps"] if cases else NO_GRIDS
    patch_grid = subject.scorer.patch_grid if settings.aligned == "patches" else None
    return Grounded(split, cases, grids, left_out + unseen, patch_grid)


def _present(split: Split) -> Iterator[tuple[int, str]]:
    """(image, finding) of each finding that is present in an image and may have a mask there."""
    for image, labels in enumerate(split.labels == PRESENT):
        for finding, present in zip(split.findings, labels, strict=True):
            if present and split.masks[finding][image] is not None:
                yield image, finding


def _find_cases(split: Split, size: int) -> tuple[list[tuple[int, str]], list[str]]:
    """The cases whose mask has a pixel at this size, and a line for each of the others."""
    cases, unseen = [], []
    for image, finding in _present(split):
        mask = split.mask(image, finding)
        if resize_mask(mask, size).any():
            cases.append((image, finding))
        else:
            why = f"between the pixels of {size} × {size}: raise map_size" if mask.any() else "empty"
            unseen.append(f"{split.rows[image]}: the mask of {finding} is {why}")
    return cases, unseen


def _write(result: Result, settings: GroundingSettings, measured: Measured) -> None:
    """The files that programs read."""
    dump(settings, result.folder / "config.yaml")
    measured.table.to_csv(result.folder / "cases.csv", index=False, float_format="%.9g")
    report.write_csv(result.localizations, result.folder / "results.csv")
    report.write_json(result.localizations, result.margins, result.folder / "results.json", result.about)
    write_left_out(result.folder / "left_out.json", result.about["left_out"])


def _show(result: Result, settings: GroundingSettings, tested: Grounded, measured: Measured, equalize: bool) -> None:
    """The files that people look at: the gallery of all cases and, with one of each finding, the page."""
    show = cache(partial(_case_to_show, settings, tested, measured, equalize))

    def gallery(finding: str) -> dict[str, list[Shown]]:
        return best_and_worst(measured.of(finding, MAPS[0]), settings.gallery, show)

    if settings.gallery:
        plot_gallery(gallery(ALL), result.folder / "gallery.png")
    if settings.html:
        report.write_page(result.folder, result.localizations, result.margins, result.about, measured, gallery)


def _case_to_show(
    settings: GroundingSettings, tested: Grounded, measured: Measured, equalize: bool, case: int
) -> Shown:
    image, finding = tested.cases[case]
    picture = read_image(tested.split.paths[image], equalize=equalize)
    picture.thumbnail(PIXELS)
    row = measured.of(ALL, MAPS[0]).loc[case]
    _, maps = tested.compare(case, settings)
    metric = ranking_metric(measured.of(finding, MAPS[0]))
    return Shown(
        picture=picture,
        mask=tested.split.mask(image, finding),
        grid=tested.grids[image, tested.split.findings.index(finding)],
        patch_grid=tested.patch_grid,
        predicted=None if np.isnan(row["threshold"]) else maps[MAPS[0]] > np.float32(row["threshold"]),
        finding=finding,
        name=tested.split.paths[image].name,
        metric=metric,
        value=row[metric.name],
    )
