"""The test of a fine-tuned U-Net: its overlap with the true masks beside what knows nothing of the image, and pictures.

The mean mask is that of the training images, cut at the threshold that is best on validation; nothing predicts nothing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mavl.data.segmentation import SegmentationDataset, resize_nearest
from mavl.metrics.intervals import Interval
from mavl.metrics.segmentation import METRICS, PixelCounts, SegmentationResult, best_threshold, summarize
from mavl.predict.segmenter import THRESHOLD, Segmenter
from mavl.progress import progress_bar
from mavl.report.page import REPORT
from mavl.train.finetune import RESULTS, SUMMARY_TABLE, mean_and_std, write_summary

if TYPE_CHECKING:
    from mavl.report.segmentation import Case

MODEL, MEAN_MASK, NOTHING = "U-Net", "mean mask", "nothing"
CASES, CURVES, TABLE = "cases.csv", "training.png", "results.csv"
PLOTS = {
    "loss (Dice + BCE)": {"training": "loss", "validation": "valid_loss"},
    "mean Dice on validation": {"all images": "valid_dice", "images with a mask": "valid_dice_positive"},
}


def baselines(datasets: Mapping[str, SegmentationDataset], size: int) -> tuple[dict[str, PixelCounts], str]:
    """The overlaps on test of MEAN_MASK and NOTHING at size × size pixels, and a line on the first."""
    mean_mask = np.zeros((size, size))
    for mask in _masks(datasets["train"], size):
        mean_mask += mask / len(datasets["train"])
    threshold = best_threshold(mean_mask, _masks(datasets["valid"], size))
    predicted = mean_mask > threshold
    both, true = np.array([((predicted & mask).sum(), mask.sum()) for mask in _masks(datasets["test"], size)]).T
    area = np.full(len(true), predicted.sum())
    note = (
        f"Mean mask: of the {len(datasets['train'])} training images, above {threshold:.3f}, the threshold with the "
        f"best mean Dice on the {len(datasets['valid'])} of validation."
    )
    return {MEAN_MASK: PixelCounts(area, true, both), NOTHING: PixelCounts(0 * area, true, 0 * area)}, note


def choose_cases(overlap: PixelCounts, most: int) -> dict[str, list[int]]:
    """{heading: positions}: of the images with a mask the best, median and worst by Dice; the largest false alarms."""
    positive, alarm = np.flatnonzero(overlap.true > 0), np.flatnonzero((overlap.true == 0) & (overlap.predicted > 0))
    ranked = positive[np.argsort(-overlap.dice[positive], kind="stable")]
    n = len(ranked)
    if n > 3 * most:
        parts = [ranked[:most], ranked[(n - most) // 2 :][:most], ranked[n - most :]]
    else:
        parts = np.array_split(ranked, 3)
    kinds = dict(zip(("Best", "Median", "Worst"), parts, strict=True))
    kinds["No mask, but one predicted (its share of the image)"] = alarm[
        np.argsort(-overlap.predicted[alarm], kind="stable")
    ][:most]
    return {kind: positions.tolist() for kind, positions in kinds.items()}


def write_results(
    folder: Path,
    overlaps: Mapping[str, PixelCounts],
    about: dict,
    dataset: SegmentationDataset,
    best: Segmenter,
    *,
    resamples: int,
    gallery: int,
) -> dict[str, SegmentationResult]:
    """Table, cases, curves and page into a run folder; RESULTS last, which says that the run is complete.

    overlaps: MODEL's and the baselines' on `dataset`, the test images; gallery: cases of each kind on the page.
    """
    from mavl.report import segmentation as report  # matplotlib and rich only where they are needed
    from mavl.report.training import plot_training

    groups, overlap = dataset.split.groups, overlaps[MODEL]
    results = {name: summarize(each, groups=groups, resamples=resamples) for name, each in overlaps.items()}
    _write_cases(folder / CASES, dataset, overlap)
    report.write_csv(results, folder / TABLE)
    plot_training(folder / "log.jsonl", folder / CURVES, about["best_step"], PLOTS)
    chosen = choose_cases(overlap, gallery)
    shown = {kind: [_case(dataset, best, i, overlap) for i in positions] for kind, positions in chosen.items()}
    report.write_page(folder, results, about, folder / CURVES, shown)
    draft = folder / f".{RESULTS}"
    report.write_json(results, draft, about)
    draft.replace(folder / RESULTS)
    return results


def read_results(folder: Path) -> tuple[dict, dict[str, SegmentationResult]]:
    """What `write_results` wrote: about, and the results by prediction."""
    told = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    results = {}
    for name, result in told["predictions"].items():
        means = {
            metric: Interval(*(np.nan if bound is None else bound for bound in mean.values()))
            for metric, mean in result.pop("means").items()
        }
        results[name] = SegmentationResult(means, **result)
    return told["about"], results


def tell(folders: Mapping[int, Path], output_dir: Path) -> None:
    """Print the results of {seed: run folder}, of several their means, which the output folder keeps in any case."""
    from rich.console import Console

    from mavl.report import segmentation as report

    console, told = Console(), {seed: read_results(folder) for seed, folder in folders.items()}
    for seed, (about, results) in told.items():
        title = f"{about['title']}: {about['finding']}" + (f", seed {seed}" if len(told) > 1 else "")
        console.print(report.table(results, title, [about["baseline"]]))
        print(f"page: {folders[seed] / REPORT}\n")
    means = summarize_seeds([results for _, results in told.values()])
    if len(told) > 1:
        title = f"{about['title']}: {about['finding']}, mean ± standard deviation of {len(told)} seeds"
        console.print(report.seeds_table(means, title))
    summary = {"title": about["title"], "finding": about["finding"], "seeds": list(told), "predictions": means}
    write_summary(summary, means, output_dir)
    print(f"summary: {output_dir / SUMMARY_TABLE}")


def summarize_seeds(results: Sequence[Mapping[str, SegmentationResult]]) -> dict[str, dict[str, dict]]:
    """Those of every seed -> {prediction: {metric: mean_and_std}}."""
    return {
        name: {metric: mean_and_std([of_seed[name].means[metric].value for of_seed in results]) for metric in METRICS}
        for name in results[0]
    }


def _masks(dataset: SegmentationDataset, size: int) -> Iterator[np.ndarray]:
    """bool [size, size] of every image."""
    indices = progress_bar(range(len(dataset)), description=f"masks of {dataset.split.name}", unit="mask")
    for index in indices:
        yield resize_nearest(dataset.mask(index), (size, size))[0].numpy() > 0


def _write_cases(path: Path, dataset: SegmentationDataset, overlap: PixelCounts) -> None:
    """A line an image: where it is, Dice, IoU and the pixel counts behind them."""
    split = dataset.split
    table = {"path": list(map(str, split.paths)), "row": split.rows}
    if split.groups is not None:
        table["group"] = split.groups
    pixels = {name: counts.astype(int) for name, counts in vars(overlap).items()}
    pd.DataFrame({**table, "dice": overlap.dice, "iou": overlap.iou, **pixels}).to_csv(
        path, index=False, float_format="%.9g"
    )


def _case(dataset: SegmentationDataset, best: Segmenter, index: int, overlap: PixelCounts) -> "Case":
    from mavl.report.segmentation import Case

    picture, true = dataset.image(index), dataset.mask(index)[0].numpy() > 0
    predicted = best.probability_shown(picture) > THRESHOLD
    value = overlap.dice[index] if overlap.true[index] else predicted.mean()
    return Case(dataset.split.paths[index].name, picture, true, predicted, float(value))
