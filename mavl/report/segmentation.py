"""Results of a segmentation: table, CSV, JSON, page with outlined images, and the summary of several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.data.benchmarks.splits import Split
from mavl.metrics.intervals import FEWEST
from mavl.metrics.metric import Metric, columns
from mavl.metrics.segmentation import METRICS, PixelCounts, SegmentationResult
from mavl.progress import plural
from mavl.report import page, tables

if TYPE_CHECKING:
    from rich.table import Table

Results = Mapping[str, SegmentationResult]
"""{prediction: its result}, the model first, then the baselines."""

CASES = "cases.csv"


def shown_metrics(results: Results) -> list[Metric]:
    """The metrics of the results in the order of a table."""
    return columns(METRICS, next(iter(results.values())).means)


def table(results: Results, title: str, caption: Sequence[str] = ()) -> Table:
    """A row for each prediction; caption and notes are below."""
    metrics = shown_metrics(results)
    headings = ["prediction", *tables.metric_headings(metrics, METRICS)]
    table = tables.new_table(title, headings, [*caption, *notes(results)])
    for row, (name, result) in enumerate(results.items()):
        tables.add_row(table, name, *tables.metric_cells(metrics, result.means, METRICS), style="dim" if row else "")
    return table


def notes(results: Results, titles: bool = False) -> list[str]:
    """How the numbers were computed, one sentence each; titles: the columns have titles, not short headings."""
    result = next(iter(results.values()))
    lines = [
        f"{plural(result.images, 'image')}, {result.positives} with a mask.",
        tables.legend(shown_metrics(results), titles),
    ]
    if result.resamples:
        units = "images" if result.groups is None else plural(result.groups, "patient")
        lines.append(f"95 %: bias-corrected bootstrap, {result.resamples} resamples of {units}, from {FEWEST} on.")
    return lines


def write_csv(results: Results, path: Path) -> None:
    """A row for each prediction; an interval takes three columns, undefined values are empty cells."""
    counts = ("images", "positives")
    rows = {name: {key: getattr(result, key) for key in counts} | result.means for name, result in results.items()}
    tables.write_rows([{"prediction": name, **row} for name, row in rows.items()], path)


def write_json(results: Results, path: Path, about: dict) -> None:
    """The results after `about`; NaN becomes null."""
    tables.dump_json({"about": about, "predictions": dict(results)}, path)


def read_results(folder: Path) -> tuple[dict, dict[str, SegmentationResult]]:
    """`about` and {prediction: its result} from the JSON file of a run folder; unknown metrics are ignored."""
    content = tables.read_json(folder / tables.RESULTS)
    for result in content["predictions"].values():
        result["means"] = {name: mean for name, mean in result["means"].items() if name in METRICS}
    return content["about"], {name: SegmentationResult(**result) for name, result in content["predictions"].items()}


def write_cases(path: Path, split: Split, counts: PixelCounts) -> None:
    """A line for each image of the split: path, row, group, Dice, IoU and the pixel counts."""
    tables.write_images(split, {"dice": counts.dice, "iou": counts.iou, **vars(counts)}, path)


def choose_cases(counts: PixelCounts, most: int) -> dict[str, list[int]]:
    """{heading: images}: of those with a mask the best, median and worst by Dice, and the largest false positives."""

    def falling(images: np.ndarray, values: np.ndarray) -> np.ndarray:
        images = np.flatnonzero(images)
        return images[np.argsort(-values[images], kind="stable")]

    ranked = falling(counts.true > 0, counts.dice)
    alarms = falling((counts.true == 0) & (counts.predicted > 0), counts.predicted)
    n = len(ranked)
    if n > 3 * most:
        best, median, worst = ranked[:most], ranked[(n - most) // 2 :][:most], ranked[n - most :]
    else:
        best, median, worst = np.array_split(ranked, 3)
    return {
        "Best": best.tolist(),
        "Median": median.tolist(),
        "Worst": worst.tolist(),
        "Empty mask, but pixels predicted (their share of the image)": alarms[:most].tolist(),
    }


def write_page(
    folder: Path, results: Results, about: dict, curves: Path, gallery: Mapping[str, Sequence[dict]]
) -> Path:
    """Write the page into a run folder: table, training curves, films (`page.film`) by heading, origin of the model."""
    return page.write_report(
        folder,
        "segmentation.html",
        about=about,
        results=results,
        metrics=shown_metrics(results),
        notes=notes(results, titles=True),
        curves=page.figure_uri(curves),
        gallery=gallery,
    )


def print_summary(folders: Mapping[int, Path], output_dir: Path) -> None:
    """Print the results of {seed: run folder}, for several seeds their means, and write the means in any case."""
    from rich.console import Console

    read = {seed: read_results(folder) for seed, folder in folders.items()}
    for seed, (about, results) in read.items():
        title = f"{about['title']}: {about['finding']}" + (f", seed {seed}" if len(read) > 1 else "")
        Console().print(table(results, title, [about["baseline"]]))
        print(f"page: {folders[seed] / page.REPORT}\n")
    about, results = next(iter(read.values()))
    means = tables.over_seeds([{name: result.means for name, result in each.items()} for _, each in read.values()])
    summary = {"title": about["title"], "finding": about["finding"], "seeds": [*read], "predictions": means}
    headings = (f"{about['title']}: {about['finding']}", "prediction")
    styles = dict.fromkeys([*results][1:], "dim")
    tables.show_seeds(summary, means, shown_metrics(results), output_dir, headings=headings, styles=styles)
