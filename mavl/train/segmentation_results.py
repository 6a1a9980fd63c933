"""The test of a fine-tuned U-Net: its overlap with the true masks and that of two baselines, written to the run folder.

The mean mask is that of the training images, cut at the threshold that is best on validation; nothing predicts no
pixel.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from mavl.checkpoint.finetuned import Finetuned
from mavl.data.benchmarks.masks import resize_mask
from mavl.data.images.transforms import eval_transform
from mavl.data.segmentation import SegmentationDataset
from mavl.metrics.segmentation import PixelCounts, SegmentationResult, best_threshold, summarize
from mavl.model.unet import THRESHOLD, mask_probability
from mavl.progress import progress_bar
from mavl.report import segmentation as report
from mavl.report.page import film
from mavl.report.tables import RESULTS, TABLE
from mavl.report.training import TRAINING, plot_training

MODEL, MEAN_MASK, NOTHING = "U-Net", "mean mask", "nothing"
PLOTS = {
    "loss (Dice + BCE)": {"training": "loss", "validation": "valid_loss"},
    "mean Dice on validation": {"all images": "valid_dice", "images with a mask": "valid_dice_positive"},
}


def baselines(datasets: Mapping[str, SegmentationDataset], size: int) -> tuple[dict[str, PixelCounts], str]:
    """The pixel counts of MEAN_MASK and NOTHING on test at size × size pixels, and a sentence about the first."""
    mean_mask = np.zeros((size, size))
    for mask in _masks(datasets["train"], size):
        mean_mask += mask / len(datasets["train"])
    threshold = best_threshold(mean_mask, _masks(datasets["valid"], size))
    predicted = mean_mask > threshold
    both, true = np.array([((predicted & mask).sum(), mask.sum()) for mask in _masks(datasets["test"], size)]).T
    area = np.full(len(true), predicted.sum())
    note = (
        f"Mean mask: of the {len(datasets['train'])} training images, above {threshold:.3f}, the threshold with the "
        f"best mean Dice on the {len(datasets['valid'])} validation images."
    )
    return {MEAN_MASK: PixelCounts(area, true, both), NOTHING: PixelCounts(0 * area, true, 0 * area)}, note


def write_results(
    folder: Path,
    counts: Mapping[str, PixelCounts],
    about: dict,
    dataset: SegmentationDataset,
    best: Finetuned,
    *,
    resamples: int,
    gallery: int,
) -> dict[str, SegmentationResult]:
    """Write table, cases, curves and page into a run folder; RESULTS last, since its presence marks a complete run.

    Args:
        counts: of MODEL and the baselines on the images of `dataset`, those of test.
        best: the model, for the masks on the page.
        gallery: number of cases of each kind on the page.
    """
    groups = dataset.split.groups
    results = {name: summarize(each, groups=groups, resamples=resamples) for name, each in counts.items()}
    report.write_cases(folder / report.CASES, dataset.split, counts[MODEL])
    report.write_csv(results, folder / TABLE)
    plot_training(folder / "log.jsonl", folder / TRAINING, about["best_step"], PLOTS)
    chosen = report.choose_cases(counts[MODEL], gallery)
    shown = {kind: [_film(dataset, best, i, counts[MODEL]) for i in images] for kind, images in chosen.items()}
    report.write_page(folder, results, about, folder / TRAINING, shown)
    report.write_json(results, folder / RESULTS, about)
    return results


def _masks(dataset: SegmentationDataset, size: int) -> Iterator[np.ndarray]:
    """bool [size, size] of every image."""
    indices = progress_bar(range(len(dataset)), description=f"masks of {dataset.split.name}", unit="mask")
    for index in indices:
        yield resize_mask(dataset.mask(index), size)


def _film(dataset: SegmentationDataset, best: Finetuned, index: int, counts: PixelCounts) -> dict:
    picture, true = dataset.image(index), dataset.mask(index)
    pixels = eval_transform(best.model.preprocessing)(picture)
    predicted = mask_probability(best.model, pixels, (picture.height, picture.width)) > THRESHOLD
    value = counts.dice[index] if counts.true[index] else predicted.mean()
    masks = {"true": true, "predicted": predicted}
    return film(picture, masks=masks, name=dataset.split.paths[index].name, value=float(value))
