"""Results of a classification: table, CSV, JSON, the summary of several seeds, and the table of scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mavl.data.benchmarks.splits import Split
from mavl.files import whole_file
from mavl.metrics.classification import METRICS, ClassResult, Evaluation
from mavl.metrics.intervals import Interval, mean_and_std
from mavl.metrics.metric import Metric, columns
from mavl.report.tables import (
    RESULTS,
    SOURCES,
    SUMMARY_TABLE,
    add_row,
    dump_json,
    legend,
    metric_cells,
    metric_headings,
    new_table,
    seeds_table,
    write_rows,
    write_summary,
)

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


def table(evaluation: Evaluation, title: str, caption: str = "") -> Table:
    """A row for each class and, for several, one for the means; caption and notes are below."""
    metrics = shown_metrics(evaluation)
    headings = ["finding", "pos.", "n", *metric_headings(metrics, _BOUNDED)]
    table = new_table(title, headings, [*([caption] if caption else []), *notes(evaluation)])
    for result in evaluation.classes:
        counts = (str(result.positives), str(result.n))
        cells = metric_cells(metrics, result.metrics, _BOUNDED)
        add_row(table, result.name, [*counts, *cells], "dim" if result.name in evaluation.undefined else "")
    if len(evaluation.classes) > 1:
        table.add_section()
        add_row(table, MEAN, ["", "", *metric_cells(metrics, evaluation.means, _BOUNDED)], "bold")
    return table


def notes(evaluation: Evaluation) -> Iterator[str]:
    """How the numbers were computed, one sentence each."""
    metrics = shown_metrics(evaluation)
    with_threshold = ", ".join(metric.heading for metric in metrics if metric.needs_threshold)
    classes, undefined, without = len(evaluation.classes), evaluation.undefined, evaluation.without_threshold
    yield legend(metrics)
    if classes > 1:
        yield f"Mean over {classes - len(undefined)} of {classes} classes."
    if undefined:
        yield f"Undefined without both labels: {', '.join(undefined)}."
    if evaluation.resamples:
        units = f"{evaluation.images} images" if evaluation.groups is None else f"{evaluation.groups} groups of images"
        yield f"95 %: bootstrap, {evaluation.resamples} resamples of {units}."
        bounds = {m.heading: m.bounds(evaluation.means[m.name]) for m in metrics if m.interval}
        if others := [f"{heading} {text}" for heading, text in [*bounds.items()][1:] if text]:
            yield f"95 % of the last row: {', '.join(others)}."
    for source in sorted({result.threshold_source for result in evaluation.classes} - {None}):
        yield f"{with_threshold}: score {'>' if evaluation.strict else '≥'} a threshold chosen on {SOURCES[source]}."
    if without:
        names = "all classes" if len(without) == classes - len(undefined) else ", ".join(without)
        yield f"Without a threshold and therefore without {with_threshold}: {names}."


def write_csv(evaluation: Evaluation, path: Path | str) -> None:
    """A row for each class, then the means; an interval takes three columns, undefined values are empty cells."""
    write_rows([*map(_entries, evaluation.classes), {"name": MEAN, **evaluation.means}], path)


def write_json(evaluation: Evaluation, path: Path | str, about: dict) -> None:
    """The whole evaluation after `about` (protocol, head, model, books, versions); NaN becomes null."""
    content = {"about": about, **evaluation_content(evaluation), "without_threshold": evaluation.without_threshold}
    dump_json(content, path)


def evaluation_content(evaluation: Evaluation) -> dict:
    """The evaluation for JSON; each class is an object that has its metrics as keys."""
    return vars(evaluation) | {"classes": [_entries(result) for result in evaluation.classes]}


def _entries(result: ClassResult) -> dict:
    """The columns of a class in their order in the files: the threshold is before the metrics that need it."""
    shown = {name: found if METRICS[name].interval else found.value for name, found in result.metrics.items()}
    needing = {name: shown.pop(name) for name in [*shown] if METRICS[name].needs_threshold}
    counts = {"name": result.name, "n": result.n, "positives": result.positives}
    return counts | shown | {"threshold": result.threshold, "threshold_source": result.threshold_source} | needing


def read_results(folder: Path) -> tuple[dict, Evaluation]:
    """`about` and the evaluation from the JSON file of a result folder; metrics that METRICS lacks are ignored."""
    content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    about = content.pop("about")
    del content["without_threshold"]
    content["means"] = {name: _interval(mean) for name, mean in content["means"].items() if name in METRICS}
    content["classes"] = [
        ClassResult(
            **{key: entries[key] for key in ("name", "n", "positives", "threshold_source")},
            metrics={name: _interval(entries[name]) for name in METRICS if name in entries},
            threshold=_number(entries["threshold"]),
        )
        for entries in content["classes"]
    ]
    return about, Evaluation(**content)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _interval(value: dict | float | None) -> Interval:
    bounds = value if isinstance(value, dict) else {"value": value, "low": None, "high": None}
    return Interval(**{key: _number(bound) for key, bound in bounds.items()})


def write_scores(path: Path, split: Split, scores: np.ndarray) -> None:
    """A line for each image: path, row, group, then label and score [n, C] of each finding."""
    columns = {"path": [str(path) for path in split.paths], "row": split.rows}
    if split.groups is not None:
        columns["group"] = split.groups
    for column, finding in enumerate(split.findings):
        columns[f"{finding}_label"] = split.labels[:, column]
        columns[f"{finding}_score"] = scores[:, column]
    with whole_file(path) as file:
        pd.DataFrame(columns).to_csv(file, index=False, float_format="%.9g")


def summarize(folders: Mapping[int, Path]) -> dict:
    """{seed: run folder} -> title, images, and mean and standard deviation over the seeds of every metric.

    The rows are the findings, MEAN over them, and BASELINE, the mean over the findings of that baseline.
    """
    results = [read_results(folder) for folder in folders.values()]
    (about, first), abouts = results[0], [about for about, _ in results]
    metrics = [name for name in first.means if all(name in each.means for _, each in results)]
    by_row = {
        result.name: [[each.classes[i].metrics[name].value for name in metrics] for _, each in results]
        for i, result in enumerate(first.classes)
    }
    by_row[MEAN] = [[each.means[name].value for name in metrics] for _, each in results]
    by_row[BASELINE] = [[each["baseline"][name] for name in metrics] for each in abouts]
    return {
        "title": about["title"],
        "seeds": [*folders],
        "train_images": [each["train"]["images"] for each in abouts],
        "test_images": first.images,
        "started_from": about["started_from"],
        "data_pct": about["data_pct"],
        "rows": {
            row: {name: mean_and_std(values) for name, values in zip(metrics, zip(*seeds, strict=True), strict=True)}
            for row, seeds in by_row.items()
        },
    }


def print_summary(folders: Mapping[int, Path], output_dir: Path) -> None:
    """Print the results of {seed: run folder}, for several seeds their means, and write the means in any case."""
    from rich.console import Console

    console, summary = Console(), summarize(folders)
    write_summary(summary, summary["rows"], output_dir)
    if len(folders) > 1:
        metrics = columns(METRICS, summary["rows"][MEAN])
        title = f"{summary['title']} (test): mean ± standard deviation of {len(folders)} seeds"
        note = f"{BASELINE}: the score of every image is the share of the finding in training, positive from 0.5 on."
        styles = {MEAN: "bold", BASELINE: "dim"}
        console.print(seeds_table(summary["rows"], metrics, title, "finding", styles=styles, notes=[note]))
    for folder in folders.values():
        if len(folders) == 1:
            about, evaluation = read_results(folder)
            title = f"{about['title']} (test), fine-tuned on {about['train']['images']} images"
            console.print(table(evaluation, title, f"Thresholds: {about['thresholds']}. {baseline_line(about)}"))
        print(f"table, scores, curves and page: {folder}")
    print(f"summary: {output_dir / SUMMARY_TABLE}")


def baseline_line(about: dict) -> str:
    """The mean metrics of BASELINE in a sentence; `about` of a fine-tuned classifier, as computed or from JSON."""
    metrics = columns(METRICS, about["baseline"])
    figures = (f"{metric.heading} {metric.format(_number(about['baseline'][metric.name]))}" for metric in metrics)
    return f"Baseline with the share of each finding in training as its score: {', '.join(figures)}."
