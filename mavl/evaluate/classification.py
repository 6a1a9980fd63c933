"""Zero-shot classification of a benchmark: settings -> scores, table, curves and a page in a result folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from mavl.checkpoint.folder import add_operating_points
from mavl.config.evaluation import ZeroShotSettings
from mavl.data.benchmarks.splits import Split
from mavl.evaluate.subgroups import split_up
from mavl.evaluate.subject import EvaluationError, Subject, Thresholds, prepare
from mavl.evaluate.validated import Scored, Validated, choose, measure, operating_points, refuse_impossible
from mavl.metrics.classification import Evaluation, evaluate
from mavl.progress import plural, progress_bar
from mavl.report import classification as report
from mavl.report.analyses.calibration import write_calibration
from mavl.report.analyses.subgroups import write_subgroups
from mavl.report.classification_page import most_confident, write_classification_page
from mavl.report.pictures.figures import plot_curves
from mavl.scorers import ListedScorer


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
        means = [f"{np.mean(x):.3f} over {plural(len(x), 'finding')} {kind}" for kind, x in areas.items() if x]
        return f"mean AUROC {'; '.join(means)}" if means else "no finding has both labels"


def run(settings: ZeroShotSettings) -> Result | None:
    """Evaluate as the settings say; the main process writes and returns the result, the others return None."""
    refuse_impossible(settings)
    subject = prepare(settings, settings.head)
    listed = subject.split(settings.split)
    split, scores, left_out = score_split(subject, listed)
    validated = _validate(subject, listed)
    if scores is None:
        return None
    thresholds, calibrated = validated.thresholds, measure(settings, Scored(split, scores), validated)
    about = subject.describe(thresholds, left_out, head=settings.head)
    evaluation = evaluate(
        split.labels,
        scores,
        split.findings,
        thresholds=[*thresholds.values.values()] or None,
        threshold_source=thresholds.source,
        strict=settings.protocol == "released",
        resamples=settings.resamples,
        groups=split.groups,
        seed=settings.seed,
    )
    subgroups = split_up(settings, Scored(split, scores), thresholds.values)
    with subject.result_folder(about) as folder:
        report.write_scores(folder / report.SCORES, split, scores)
        report.write_csv(evaluation, folder / "results.csv")
        report.write_json(
            evaluation, folder / "results.json", about | ({"calibration": calibrated} if calibrated else {})
        )
        write_calibration(calibrated, folder)
        write_subgroups(subgroups.findings, subgroups.diagnoses, folder)
        plot_curves(split.labels, scores, evaluation, folder, about["new_findings"])
        if settings.html:
            gallery = most_confident(evaluation, split, scores)
            shown = {image for kinds in gallery.values() for images in kinds.values() for image in images}
            write_classification_page(
                folder,
                evaluation,
                about,
                split,
                scores,
                equalize=subject.benchmark.equalize,
                heatmaps=heatmaps(subject, split, shown),
                patch_grid=subject.scorer.patch_grid,
                heatmap_note=about["map"],
                subgroups=subgroups,
            )
    if settings.save_operating_points:
        add_operating_points(Path(str(settings.model_path)), operating_points(evaluation, validated, about))
    return Result(evaluation, about, subject.folder)


def score_split(subject: Subject, split: Split) -> tuple[Split, np.ndarray | None, list[str]]:
    """The split without its bad images, the scores [n, C] of its images and findings, a line for each bad image.

    The scores are None but on the main process.
    """
    split, left_out = subject.usable(split)
    if isinstance(subject.scorer, ListedScorer):
        return split, subject.listed_scores(subject.scorer, split), left_out
    computed = subject.compute(split, lambda images: {"scores": subject.scorer.scores(images, split.findings)})
    return split, None if computed is None else computed["scores"], left_out


def heatmaps(subject: Subject, split: Split, images: set[int]) -> dict[tuple[int, str], Tensor]:
    """{(image, finding): heatmap [h, w]} of these images; empty for a model without heatmaps."""
    maps: dict[tuple[int, str], Tensor] = {}
    for image in progress_bar(sorted(images), description="heatmaps for the page", unit="image"):
        if (computed := subject.heatmaps(split, image)) is not None:
            maps |= {(image, finding): of_finding for finding, of_finding in zip(split.findings, computed, strict=True)}
    return maps


def _validate(subject: Subject, tested: Split) -> Validated:
    """Thresholds and calibration from validation (sound), or thresholds from test (released).

    EvaluationError where a calibration was requested and there is no validation.
    """
    settings = subject.settings
    assert isinstance(settings, ZeroShotSettings)
    if settings.protocol == "released":
        note = "best F1 on the test images themselves, positive is score > threshold (released protocol)"
        return Validated(Thresholds({}, "test", note))
    valid, clause = subject.validation(tested)
    listed = subject.scorer if isinstance(subject.scorer, ListedScorer) else None
    if valid is not None and listed is not None and not listed.lists_any(subject.names(valid)):
        valid, clause = None, "the table of scores has no image of the validation split"
    if valid is None:
        if settings.calibration or settings.save_operating_points:
            key = "calibration" if settings.calibration else "save_operating_points"
            fix = "add a valid split to the benchmark, or leave the setting out: nothing is fitted to test images"
            raise EvaluationError(f"{key}: {clause}; {fix}")
        return Validated(Thresholds({}, None, f"none: {clause}"))
    split, scores, left_out = score_split(subject, valid)
    return choose(settings, None if scores is None else Scored(split, scores), clause, left_out)
