"""The test of a fine-tuned classifier beside what knows nothing of the image, and the mean over seeds."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mavl.data.benchmarks.splits import Split
from mavl.metrics.classification import METRICS, ClassResult, Evaluation, Interval, evaluate
from mavl.train.finetune import RESULTS, SUMMARY_TABLE, mean_and_std, plus_minus, write_summary

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from mavl.backbones import PatchGrid

SCORES, TABLE, CURVES = "scores.csv", "results.csv", "training.png"
BASELINE = "prevalence"
MEAN = "mean"
PLOTS = {
    "binary cross-entropy": {"training": "loss", "validation": "valid_loss"},
    "mean AUROC on validation": {"AUROC": "valid_auroc"},
}
SHORT = {"auroc": "AUROC", "average_precision": "AP", "best_f1": "F1", "accuracy": "acc."}


LOOKED_AT = (
    "Colour shows how the patches that speak for the finding are spread, by what each adds to the logit; 1× is an even "
    "spread and stays clear. What speaks against it is not drawn. A patch has seen far beyond its own place: the map "
    "is a hint to the place, not an outline of a lesion."
)

Look = Callable[[list[tuple[int, str]]], tuple[dict[tuple[int, str], "Tensor"], "PatchGrid"]]
"""(image, finding) pairs -> the evidence [h, w] for the finding in the image, each summing to 1, and its patch_grid"""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A test split and what the best model says of it: scores [n, C] in 0..1.

    thresholds [C]: chosen on validation; prevalence [C]: of the training images that are labelled.
    """

    split: Split
    scores: np.ndarray
    thresholds: np.ndarray
    prevalence: np.ndarray

    def evaluation(self, resamples: int) -> Evaluation:
        split, thresholds = self.split, self.thresholds
        return evaluate(
            split.labels,
            self.scores,
            split.findings,
            thresholds=thresholds,
            threshold_source="validation",
            resamples=resamples,
            groups=split.groups,
        )

    def baseline(self) -> Evaluation:
        """Of giving every image the prevalence in training, and calling it present above one half."""
        split = self.split
        scores = np.broadcast_to(self.prevalence, split.labels.shape)
        halves = [0.5] * len(split.findings)
        source = "validation"  # nothing of it comes from the test images
        return evaluate(split.labels, scores, split.findings, thresholds=halves, threshold_source=source, resamples=0)


def write_results(
    folder: Path, outcome: Outcome, about: dict, resamples: int, look: Look | None, equalize: bool = False
) -> Evaluation:
    """Scores, table, curves and page into a run folder; RESULTS last, which says that the run is complete.

    look: what shows the evidence in the images of the page's gallery; without it there is no page.
    """
    from mavl.report import tables as report  # matplotlib and rich only where they are needed
    from mavl.report.training import plot_training

    split, evaluation, baseline = outcome.split, outcome.evaluation(resamples), outcome.baseline()
    _write_scores(folder / SCORES, outcome)
    report.write_csv(evaluation, folder / TABLE)
    report.plot_curves(split.labels, outcome.scores, split.findings, evaluation, folder / "roc.png", folder / "pr.png")
    plot_training(folder / "log.jsonl", folder / CURVES, about["best_step"], PLOTS)
    about = about | {"baseline": {metric: baseline.means[metric].value for metric in METRICS}}
    if look is not None:
        _write_page(folder, outcome, evaluation, about, look, equalize)
    draft = folder / f".{RESULTS}"
    report.write_json(evaluation, draft, about)
    draft.replace(folder / RESULTS)
    return evaluation


def summarize(folders: Mapping[int, Path]) -> dict:
    """{seed: run folder} -> title, images, and mean and deviation over seeds of every metric.

    The rows are the findings, MEAN over them, and BASELINE, the mean over findings of what knows no image.
    """
    told = {seed: json.loads((folder / RESULTS).read_text(encoding="utf-8")) for seed, folder in folders.items()}
    first = next(iter(told.values()))
    rows: dict[str, dict[str, dict]] = {}
    for number, result in enumerate(first["classes"]):
        found = [each["classes"][number] for each in told.values()]
        rows[result["name"]] = {metric: mean_and_std([each[metric]["value"] for each in found]) for metric in METRICS}
    means = [each["means"] for each in told.values()]
    rows[MEAN] = {metric: mean_and_std([each[metric]["value"] for each in means]) for metric in METRICS}
    constant = [each["about"]["baseline"] for each in told.values()]
    rows[BASELINE] = {metric: mean_and_std([each[metric] for each in constant]) for metric in METRICS}
    return {
        "title": first["about"]["title"],
        "seeds": list(told),
        "train_images": [each["about"]["train"]["images"] for each in told.values()],
        "test_images": first["images"],
        "started_from": first["about"]["started_from"],
        "data_pct": first["about"]["data_pct"],
        "rows": rows,
    }


def seeds_table(summary: dict) -> "Table":
    """A row for each finding, their mean and the baseline: mean ± standard deviation over seeds, in percent."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = f"{summary['title']} (test): mean ± standard deviation of {len(summary['seeds'])} seeds"
    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("finding")
    for heading in SHORT.values():
        table.add_column(heading, justify="right", no_wrap=True)
    styles = {MEAN: "bold", BASELINE: "dim"}
    for name, figures in summary["rows"].items():
        if name == MEAN:
            table.add_section()
        cells = [plus_minus(figures[metric]) for metric in SHORT]
        table.add_row(Text(name), *cells, style=styles.get(name, ""))
    note = f"{BASELINE}: every image gets each finding's share in training, present above one half; mean over findings."
    table.caption, table.caption_justify = Text(f"\n{note}", "dim not italic"), "left"
    return table


def tell(folders: Mapping[int, Path], output_dir: Path) -> None:
    """Print the results of {seed: run folder}, of several their means, which the output folder keeps in any case."""
    from rich.console import Console

    from mavl.report.tables import table

    console, summary = Console(), summarize(folders)
    write_summary(summary, summary["rows"], output_dir)
    if len(folders) > 1:
        console.print(seeds_table(summary))
    for folder in folders.values():
        about, evaluation = read_results(folder)
        if len(folders) == 1:
            title = f"{about['title']} (test), fine-tuned on {about['train']['images']} images"
            console.print(table(evaluation, title, f"Thresholds: {about['thresholds']}. {baseline_line(about)}"))
        print(f"table, scores, curves and page: {folder}")
    print(f"summary: {output_dir / SUMMARY_TABLE}")


def baseline_line(about: dict) -> str:
    """What `Outcome.baseline` reaches, in a sentence."""
    from mavl.report.tables import percent

    figures = ", ".join(f"{name} {percent(_read(about['baseline'][metric]))}" for metric, name in SHORT.items())
    return f"Without looking, by each finding's share in training: {figures}."


def read_results(folder: Path) -> tuple[dict, Evaluation]:
    """What `write_results` wrote: about, and the evaluation."""
    told = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    classes = [
        ClassResult(
            **{key: _read(each[key]) for key in each if key != "threshold_source"},
            threshold_source=each["threshold_source"],
        )
        for each in told["classes"]
    ]
    means = {metric: _read(mean) for metric, mean in told["means"].items()}
    rest = {key: told[key] for key in ("undefined", "resamples", "seed", "strict", "images", "groups")}
    return told["about"], Evaluation(classes=classes, means=means, **rest)


def _read(value):
    """An Interval, a name or a number from JSON, which has null for NaN."""
    if isinstance(value, dict):
        return Interval(**{key: _read(bound) for key, bound in value.items()})
    return float("nan") if value is None else value


def _write_page(
    folder: Path, outcome: Outcome, evaluation: Evaluation, about: dict, look: Look, equalize: bool
) -> None:
    from mavl.report import classification as page

    gallery = page.surest_images(evaluation, outcome.split, outcome.scores)
    shown = [(image, finding) for finding, kinds in gallery.items() for images in kinds.values() for image in images]
    heatmaps, patch_grid = look(shown)
    page.write_classification_page(
        folder,
        evaluation,
        about | {"bank": None, "without_looking": baseline_line(about)},
        outcome.split,
        outcome.scores,
        equalize=equalize,
        heatmaps=heatmaps,
        patch_grid=patch_grid,
        looked_at=LOOKED_AT,
        plots={"Training": CURVES, **page.PLOTS},
        template="finetuned.html",
    )


def _write_scores(path: Path, outcome: Outcome) -> None:
    """A line an image: path, row, patient, then label and score of each finding."""
    split = outcome.split
    table: dict[str, Sequence] = {"path": [str(path) for path in split.paths], "row": split.rows}
    if split.groups is not None:
        table["group"] = split.groups
    for column, finding in enumerate(split.findings):
        table[f"{finding}_label"] = split.labels[:, column]
        table[f"{finding}_score"] = outcome.scores[:, column]
    pd.DataFrame(table).to_csv(path, index=False, float_format="%.9g")
