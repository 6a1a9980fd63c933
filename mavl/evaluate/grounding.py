"""Zero-shot grounding of a benchmark: settings -> heatmaps measured against masks, in a result folder.

A case is a finding that is present in an image and has a mask there; only such count (mavl.evaluate.cases).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from mavl.config.evaluation import GroundingSettings
from mavl.data.benchmarks.masks import resize_mask
from mavl.data.benchmarks.splits import Split
from mavl.data.images.read import read_image
from mavl.evaluate.cases import ALL, MAPS, Grounded, Measured, choose_thresholds, localize_findings, measure_cases
from mavl.evaluate.subject import EvaluationError, Subject, prepare
from mavl.metrics.grounding import Localization
from mavl.metrics.margins import Margins, compare_to_baselines, margins
from mavl.report import grounding as report
from mavl.report.pictures.gallery import PIXELS, Shown, best_and_worst, plot_gallery, ranking_metric
from mavl.report.pictures.overlay import reduced
from mavl.report.tables import write_frame
from mavl.scorers import ListedScorer
from mavl.vocab import PRESENT

NO_GRIDS = np.empty((0, 0, 0, 0), np.float32)


@dataclass(frozen=True)
class Result:
    """The result that a run wrote into `folder`, by finding or ALL.

    localizations: {finding: {one of MAPS: Localization}}. margins: {finding: differences of the model's maps from the
    others}.
    """

    localizations: dict[str, dict[str, Localization]]
    margins: dict[str, Margins]
    about: dict
    folder: Path

    @property
    def summary(self) -> str:
        """The comparison of the model's maps with the maps made without the image, over all cases."""
        return f"the model's maps, over all cases: {compare_to_baselines(self.margins[ALL]).sentence}"


def run(settings: GroundingSettings) -> Result | None:
    """Evaluate as the settings say; the main process writes and returns the result, the others return None."""
    subject = prepare(settings, settings.aggregation)
    if subject.benchmark.masks is None:
        raise EvaluationError(f"{settings.benchmark}: names no masks, so there is nothing to compare heatmaps with")
    listed = subject.split(settings.split)
    tested = ground_split(settings, subject, listed)
    if not tested.cases:
        findings = ", ".join(tested.split.findings)
        raise EvaluationError(
            f"{subject.benchmark.name}: no image of its {settings.split} split has a mask of {findings}; only positive "
            "images count. " + "; ".join(tested.left_out[:3])
        )
    validation, clause = None, ""
    if settings.protocol == "sound":
        valid, clause = subject.validation(listed)
        validation = None if valid is None else ground_split(settings, subject, valid)
    if not subject.accelerator.is_main_process:
        return None
    thresholds = choose_thresholds(settings, tested, validation, clause)
    measured = measure_cases(settings, tested, thresholds)
    localizations = localize_findings(settings, tested.split.findings, measured, thresholds)
    compared = {
        finding: margins({name: measured.of(finding, name) for name in MAPS}, settings.resamples, settings.seed)
        for finding in localizations
    }
    about = subject.describe(
        thresholds,
        tested.left_out,
        map_size=settings.map_size,
        alignment=settings.aligned,
        grid=tested.grids.shape[-2:],
        without_cases=[finding for finding in tested.split.findings if finding not in localizations],
    )
    show = cache(lambda case: _case_to_show(settings, tested, measured, subject.benchmark.equalize, case))

    def gallery(finding: str) -> dict[str, list[Shown]]:
        return best_and_worst(measured.of(finding, MAPS[0]), settings.gallery, show)

    with subject.result_folder(about) as folder:
        write_frame(measured.table, folder / "cases.csv")
        report.write_csv(localizations, folder / "results.csv")
        report.write_json(localizations, compared, folder / "results.json", about)
        if settings.gallery:
            plot_gallery({**gallery(ALL)}, folder / "gallery.png")
        if settings.html:
            report.write_page(folder, localizations, compared, about, measured, gallery)
    return Result(localizations, compared, about, subject.folder)


def ground_split(settings: GroundingSettings, subject: Subject, split: Split) -> Grounded:
    """The cases of a split and the maps of their images; bad images as `max_bad_share` says.

    The maps are those of no image but on the main process.
    """
    split = split.without(set(range(len(split))) - {image for image, _ in _present(split)})
    if not len(split):
        return Grounded(split, [], NO_GRIDS, [])
    split, left_out = subject.usable(split)
    cases = []
    for image, finding in _present(split):
        mask = split.mask(image, finding)
        if resize_mask(mask, settings.map_size, centred=settings.protocol != "released").any():
            cases.append((image, finding))
        else:
            pixels = f"{settings.map_size} × {settings.map_size}"
            why = f"between the pixels of {pixels}: raise map_size" if mask.any() else "empty"
            left_out.append(f"{split.rows[image]}: the mask of {finding} is {why}")

    def compute(images: Tensor) -> dict[str, Tensor]:
        maps = subject.scorer.heatmaps(images, split.findings)
        if maps is None:
            raise EvaluationError(f"{settings.model_path}: this model has no heatmaps, so it cannot be grounded")
        return {"maps": maps}

    if isinstance(subject.scorer, ListedScorer):
        grids = subject.listed_heatmaps(subject.scorer, split, cases) if cases else NO_GRIDS
    else:
        computed = subject.compute(split, compute) if cases else None
        grids = NO_GRIDS if computed is None else computed["maps"]
    patch_grid = subject.scorer.patch_grid if settings.aligned == "patches" else None
    return Grounded(split, cases, grids, left_out, patch_grid)


def _present(split: Split) -> Iterator[tuple[int, str]]:
    """(image, finding) of each finding that is present in an image and may have a mask there."""
    masks = split.masks or {}
    for image, labels in enumerate(split.labels == PRESENT):
        for finding, present in zip(split.findings, labels, strict=True):
            if present and masks[finding][image] is not None:
                yield image, finding


def _case_to_show(
    settings: GroundingSettings, tested: Grounded, measured: Measured, equalize: bool, case: int
) -> Shown:
    image, finding = tested.cases[case]
    picture = reduced(read_image(tested.split.paths[image], equalize=equalize), PIXELS)
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
