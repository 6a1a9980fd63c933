"""Results of a segmentation: table, CSV, JSON, page with outlined images, and the summary of several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from PIL import Image

from mavl.data.benchmarks.splits import Split
from mavl.files import whole_file
from mavl.metrics.intervals import Interval, mean_and_std
from mavl.metrics.metric import Metric, columns
from mavl.metrics.segmentation import METRICS, PixelCounts, SegmentationResult
from mavl.report import page
from mavl.report.tables import (
    RESULTS,
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

Results = Mapping[str, SegmentationResult]
"""{prediction: its result}, the model first, then the baselines."""

CASES = "cases.csv"


@dataclass(frozen=True)
class Case:
    """An image of the gallery: picture (mode "L"), masks bool [h, w] of any size over it, the share below it."""

    name: str
    picture: Image.Image
    true: np.ndarray
    predicted: np.ndarray
    value: float


def shown_metrics(results: Results) -> list[Metric]:
    """The metrics of the results in the order of a table."""
    return columns(METRICS, next(iter(results.values())).means)


def table(results: Results, title: str, caption: Sequence[str] = ()) -> Table:
    """A row for each prediction; caption and notes are below."""
    metrics = shown_metrics(results)
    table = new_table(title, ["prediction", *metric_headings(metrics, METRICS)], [*caption, *notes(results)])
    for row, (name, result) in enumerate(results.items()):
        add_row(table, name, metric_cells(metrics, result.means, METRICS), "dim" if row else "")
    return table


def notes(results: Results, titles: bool = False) -> list[str]:
    """How the numbers were computed, one sentence each; titles: the columns have titles, not short headings."""
    result = next(iter(results.values()))
    lines = [f"{result.images} images, {result.positives} with a mask.", legend(shown_metrics(results), titles)]
    if result.resamples:
        units = "images" if result.groups is None else f"{result.groups} patients"
        lines.append(f"95 %: bootstrap, {result.resamples} resamples of {units}.")
    return lines


def write_csv(results: Results, path: Path) -> None:
    """A row for each prediction; an interval takes three columns, undefined values are empty cells."""
    write_rows(
        [
            {"prediction": name, "images": result.images, "positives": result.positives, **result.means}
            for name, result in results.items()
        ],
        path,
    )


def write_json(results: Results, path: Path, about: dict) -> None:
    """The results after `about`; NaN becomes null."""
    dump_json({"about": about, "predictions": dict(results)}, path)


def read_results(folder: Path) -> tuple[dict, dict[str, SegmentationResult]]:
    """`about` and {prediction: its result} from the JSON file of a run folder; unknown metrics are ignored."""
    content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    results = {}
    for name, result in content["predictions"].items():
        means = {
            metric: Interval(*(np.nan if bound is None else bound for bound in mean.values()))
            for metric, mean in result.pop("means").items()
            if metric in METRICS
        }
        results[name] = SegmentationResult(means, **result)
    return content["about"], results


def write_cases(path: Path, split: Split, counts: PixelCounts) -> None:
    """A line for each image of the split: path, row, group, Dice, IoU and the pixel counts."""
    table = {"path": [str(path) for path in split.paths], "row": split.rows}
    if split.groups is not None:
        table["group"] = split.groups
    pixels = {name: count.astype(int) for name, count in vars(counts).items()}
    with whole_file(path) as file:
        lines = pd.DataFrame({**table, "dice": counts.dice, "iou": counts.iou, **pixels})
        lines.to_csv(file, index=False, float_format="%.9g")


def choose_cases(counts: PixelCounts, most: int) -> dict[str, list[int]]:
    """{heading: images}: of those with a mask the best, median and worst by Dice, and the largest false positives."""
    positive, alarm = np.flatnonzero(counts.true > 0), np.flatnonzero((counts.true == 0) & (counts.predicted > 0))
    ranked = positive[np.argsort(-counts.dice[positive], kind="stable")]
    n = len(ranked)
    if n > 3 * most:
        parts = [ranked[:most], ranked[(n - most) // 2 :][:most], ranked[n - most :]]
    else:
        parts = np.array_split(ranked, 3)
    kinds = dict(zip(("Best", "Median", "Worst"), parts, strict=True))
    kinds["Empty mask, but pixels predicted (their share of the image)"] = alarm[
        np.argsort(-counts.predicted[alarm], kind="stable")
    ][:most]
    return {kind: images.tolist() for kind, images in kinds.items()}


def write_page(
    folder: Path, results: Results, about: dict, curves: Path, gallery: Mapping[str, Sequence[Case]]
) -> Path:
    """Write the page into a run folder: table, training curves, cases by heading, and the origin of the model."""
    shown = {
        kind: [
            page.film(case.picture, None, {"true": case.true, "predicted": case.predicted})
            | {"name": case.name, "value": case.value}
            for case in cases
        ]
        for kind, cases in gallery.items()
    }
    return page.write_report(
        folder,
        "segmentation.html",
        about=about,
        results=results,
        metrics=shown_metrics(results),
        notes=notes(results, titles=True),
        curves=page.figure_uri(curves),
        gallery=shown,
    )


def summarize_seeds(results: Sequence[Results]) -> dict[str, dict[str, dict]]:
    """The results of every seed -> {prediction: {metric: mean_and_std}}."""
    first = results[0]
    return {
        name: {metric: mean_and_std([seed[name].means[metric].value for seed in results]) for metric in of.means}
        for name, of in first.items()
    }


def print_summary(folders: Mapping[int, Path], output_dir: Path) -> None:
    """Print the results of {seed: run folder}, for several seeds their means, and write the means in any case."""
    from rich.console import Console

    console, read = Console(), {seed: read_results(folder) for seed, folder in folders.items()}
    for seed, (about, results) in read.items():
        title = f"{about['title']}: {about['finding']}" + (f", seed {seed}" if len(read) > 1 else "")
        console.print(table(results, title, [about["baseline"]]))
        print(f"page: {folders[seed] / page.REPORT}\n")
    about, results = next(iter(read.values()))
    means = summarize_seeds([results for _, results in read.values()])
    if len(read) > 1:
        title = f"{about['title']}: {about['finding']}, mean ± standard deviation of {len(read)} seeds"
        styles = dict.fromkeys([*means][1:], "dim")
        console.print(seeds_table(means, shown_metrics(results), title, "prediction", styles=styles))
    summary = {"title": about["title"], "finding": about["finding"], "seeds": [*read], "predictions": means}
    write_summary(summary, means, output_dir)
    print(f"summary: {output_dir / SUMMARY_TABLE}")
