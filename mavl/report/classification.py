"""Results of a classification: table, CSV, JSON, the summary of several seeds, and the table of scores."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.data.benchmarks.splits import Split
from mavl.metrics.classification import METRICS, ClassResult, Evaluation
from mavl.metrics.intervals import FEWEST_FOR_ESTIMATES, Interval
from mavl.metrics.metric import Metric, columns
from mavl.progress import plural
from mavl.report import tables

if TYPE_CHECKING:
    from rich.table import Table

SCORES = "scores.csv"
MEAN = "mean"
BASELINE = "prevalence"
"""Baseline of a fine-tuned classifier: every image gets the share of the finding in training as its score."""

_BOUNDED = ("auroc",)
"""Metrics whose interval has a column in the terminal; the files and the page have all intervals."""


def shown_metrics(evaluation: Evaluation) -> list[Metric]:
    """The metrics of the evaluation in the order of a table."""
    return columns(METRICS, evaluation.classes[0].metrics)


def table(evaluation: Evaluation, title: str, caption: str = "", new: Collection[str] = ()) -> Table:
    """A row for each class and, for several, one for the means; caption and notes are below.

    new: classes that the model was never trained on, which are marked.
    """
    metrics = shown_metrics(evaluation)
    headings = ["finding", "pos.", "n", *tables.metric_headings(metrics, _BOUNDED)]
    table = tables.new_table(title, headings, [caption, *notes(evaluation, new)])
    for result in evaluation.classes:
        cells = (str(result.positives), str(result.n), *tables.metric_cells(metrics, result.metrics, _BOUNDED))
        style = "dim" if result.name in evaluation.undefined else ""
        tables.add_row(table, marked(evaluation, result.name, new), *cells, style=style)
    if len(evaluation.classes) > 1:
        table.add_section()
        tables.add_row(table, MEAN, "", "", *tables.metric_cells(metrics, evaluation.means, _BOUNDED), style="bold")
    return table


def marked(evaluation: Evaluation, name: str, new: Collection[str] = ()) -> str:
    """The name of a class, with marks for one never trained on and for one of too few images for an interval."""
    too_few = evaluation.resamples and name in evaluation.too_few
    return f"{name}{f' {tables.NEW}' * (name in new)}{' *' * bool(too_few)}"


def notes(evaluation: Evaluation, new: Collection[str] = ()) -> Iterator[str]:
    """How the numbers were computed, one sentence each."""
    metrics = shown_metrics(evaluation)
    with_threshold = ", ".join(metric.heading for metric in metrics if metric.needs_threshold)
    classes, undefined, without = len(evaluation.classes), evaluation.undefined, evaluation.without_threshold
    yield tables.legend(metrics)
    if classes > 1:
        yield f"Mean over {classes - len(undefined)} of {plural(classes, 'class')}."
    if any(result.name in new for result in evaluation.classes):
        yield f"{tables.NEW} never trained on: the contrastive head is the one to read."
    if undefined:
        yield f"Undefined without both labels: {', '.join(undefined)}."
    if evaluation.resamples:
        units, unit = plural(evaluation.images, "image"), "image"
        if evaluation.groups is not None:
            units, unit = f"{plural(evaluation.groups, 'group')} of images", "group"
        methods: dict[str, list[str]] = {}
        for metric in metrics:
            if metric.estimate is not None:
                methods.setdefault(metric.estimate.method, []).append(metric.heading)
            elif metric.interval:
                resampled = f"the bias-corrected bootstrap ({evaluation.resamples} resamples of {units})"
                since = f"{metric.heading} from {metric.fewest} {unit}s of each label on"
                methods.setdefault(resampled, []).append(since)
        named = "; ".join(f"{', '.join(headings)} by {method}" for method, headings in methods.items())
        yield f"95 %: {named}."
        if evaluation.too_few:
            included = f"; the mean includes {len(evaluation.too_few)} such" if classes > 1 else ""
            yield f"* fewer than {FEWEST_FOR_ESTIMATES} {unit}s of one label: no interval{included}."
        bounds = {m.heading: m.bounds(evaluation.means[m.name]) for m in metrics if m.interval}
        if others := [f"{heading} {text}" for heading, text in [*bounds.items()][1:] if text]:
            yield f"95 % of the last row: {', '.join(others)}."
    for source in sorted({result.threshold_source for result in evaluation.classes if result.threshold_source}):
        sign, origin = ">" if evaluation.strict else "≥", tables.SOURCES[source]
        yield f"{with_threshold}: score {sign} a threshold chosen on {origin}."
    if without:
        names = "all classes" if len(without) == classes - len(undefined) else ", ".join(without)
        yield f"Without a threshold and therefore without {with_threshold}: {names}."


def write_csv(evaluation: Evaluation, path: Path | str) -> None:
    """A row for each class, then the means; an interval takes three columns, undefined values are empty cells."""
    tables.write_rows([*map(_entries, evaluation.classes), {"name": MEAN, **evaluation.means}], path)


def write_json(evaluation: Evaluation, path: Path | str, about: dict) -> None:
    """The whole evaluation after `about` (protocol, head, model, books, versions); NaN becomes null."""
    derived = {"without_threshold": evaluation.without_threshold, "too_few": evaluation.too_few}
    tables.dump_json({"about": about, **evaluation_content(evaluation), **derived}, path)


def evaluation_content(evaluation: Evaluation) -> dict:
    """The evaluation for JSON; each class is an object that has its metrics as keys."""
    return vars(evaluation) | {"classes": [_entries(result) for result in evaluation.classes]}


def _entries(result: ClassResult) -> dict:
    """The columns of a class in their order in the files: the threshold is before the metrics that need it."""
    metrics = {name: found if METRICS[name].interval else found.value for name, found in result.metrics.items()}
    return {
        **{"name": result.name, "n": result.n, "positives": result.positives},
        **{name: found for name, found in metrics.items() if not METRICS[name].needs_threshold},
        **{"threshold": result.threshold, "threshold_source": result.threshold_source},
        **metrics,
    }


def read_results(folder: Path) -> tuple[dict, Evaluation]:
    """`about` and the evaluation from the JSON file of a result folder; metrics that METRICS lacks are ignored."""
    content = tables.read_json(folder / tables.RESULTS)
    about = content.pop("about")
    for derived in ("without_threshold", "too_few"):
        content.pop(derived, None)
    content["means"] = {name: mean for name, mean in content["means"].items() if name in METRICS}
    content["classes"] = [
        ClassResult(
            **{key: entries[key] for key in ("name", "n", "positives", "threshold_source")},
            metrics={
                name: entries[name] if metric.interval else Interval(_number(entries[name]))
                for name, metric in METRICS.items()
                if name in entries
            },
            threshold=_number(entries["threshold"]),
        )
        for entries in content["classes"]
    ]
    return about, Evaluation(**content)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def write_scores(path: Path, split: Split, scores: np.ndarray) -> None:
    """A line for each image: path, row, group, then label and score [n, C] of each finding, with all its digits."""
    names = [f"{finding}_{kind}" for finding in split.findings for kind in ("label", "score")]
    columns = (column for pair in zip(split.labels.T, scores.T, strict=True) for column in pair)
    tables.write_images(split, dict(zip(names, columns, strict=True)), path, digits=None)


def print_summary(folders: Mapping[int, Path], output_dir: Path) -> None:
    """Print the results of {seed: run folder}, for several seeds their means, and write the means in any case.

    The rows of the means are the findings, MEAN over them, and BASELINE, the mean over the findings of that baseline.
    """
    from rich.console import Console

    results = [read_results(folder) for folder in folders.values()]
    (about, evaluation), abouts = results[0], [about for about, _ in results]
    if len(results) == 1:
        title = f"{about['title']} (test), fine-tuned on {about['train']['images']} images"
        caption = f"Thresholds: {about['thresholds']}. {baseline_line(about)}"
        Console().print(table(evaluation, title, caption))
    for folder in folders.values():
        print(f"table, scores, curves and page: {folder}")
    summary = {
        "title": about["title"],
        "seeds": [*folders],
        "train_images": [each["train"]["images"] for each in abouts],
        "test_images": evaluation.images,
        "started_from": about["started_from"],
        "data_pct": about["data_pct"],
        "rows": tables.over_seeds([_rows(*result) for result in results]),
    }
    tables.show_seeds(
        summary,
        summary["rows"],
        columns(METRICS, summary["rows"][MEAN]),
        output_dir,
        headings=(f"{about['title']} (test)", "finding"),
        styles={MEAN: "bold", BASELINE: "dim"},
        note=f"{BASELINE}: the score of every image is the share of the finding in training, positive from 0.5 on.",
    )


def _rows(about: dict, evaluation: Evaluation) -> dict[str, dict]:
    """{finding, MEAN or BASELINE: {metric: Interval or value}}"""
    rows = {result.name: {name: result.metrics[name] for name in evaluation.means} for result in evaluation.classes}
    return rows | {MEAN: evaluation.means, BASELINE: about["baseline"]}


def baseline_line(about: dict) -> str:
    """The mean metrics of BASELINE in a sentence; `about` of a fine-tuned classifier, as computed or from JSON."""
    metrics = columns(METRICS, about["baseline"])
    figures = (f"{metric.heading} {metric.format(_number(about['baseline'][metric.name]))}" for metric in metrics)
    return f"Baseline with the share of each finding in training as its score: {', '.join(figures)}."
