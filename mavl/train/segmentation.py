"""Fine-tuning a U-Net: the network, its data, and the test of the best model beside two baselines.

The mean mask is that of the training images, cut at the threshold that is best on validation; nothing is the prediction
of no pixel.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from accelerate import Accelerator
from torch import Tensor

from mavl.checkpoint.finetuned import Finetuned
from mavl.checkpoint.transfer import Transfer, initialise
from mavl.config.finetune import FinetuneSegSettings
from mavl.data.benchmarks.masks import resize_mask
from mavl.data.checks import Share
from mavl.data.classification import counts
from mavl.data.images.transforms import eval_transform
from mavl.data.segmentation import JointTransform, MaskedData, SegmentationDataset, open_data
from mavl.metrics.segmentation import PixelCounts, SegmentationResult, best_threshold, summarize
from mavl.model.losses import dice_bce_loss
from mavl.model.unet import THRESHOLD, UNet, mask_probability
from mavl.progress import progress_bar
from mavl.report import segmentation as report
from mavl.report.page import film
from mavl.report.tables import RESULTS, TABLE
from mavl.report.training import TRAINING
from mavl.train.finetune import Finetuning, run_seeds
from mavl.vocab import PRESENT

MODEL, MEAN_MASK, NOTHING = "U-Net", "mean mask", "nothing"


class Segmentation(Finetuning):
    """A UNet, trained on the masks of one finding."""

    kind = "segmenter"
    curves: ClassVar = {
        "loss (Dice + BCE)": {"training": "loss", "validation": "valid_loss"},
        "mean Dice on validation": {"all images": "valid_dice", "images with a mask": "valid_dice_positive"},
    }
    settings: FinetuneSegSettings

    def build_model(self) -> tuple[UNet, dict, list[Transfer]]:
        model = self.settings.model
        unet = UNet(model.backbone, model.image_size)
        transfers = initialise(unet.backbone, model.backbone, self.settings.init, self.accelerator)
        return unet, {"backbone": model.backbone, "image_size": model.image_size}, transfers

    @staticmethod
    def open_data(settings: FinetuneSegSettings, accelerator: Accelerator, share: Share | None = None) -> MaskedData:
        data = open_data(settings.data, settings.seed, accelerator.is_main_process, share)
        accelerator.print("\n".join([f"{data.title}, {data.finding}, {_sizes(data)}", *data.notes]))
        return data

    def images(self, split: str, augment: bool = False) -> SegmentationDataset:
        transform = JointTransform(self.preprocessing)
        if augment and self.settings.data.augment != "none":
            transform = JointTransform(self.preprocessing, self.settings.data.min_crop)
        return self.data.dataset(split, transform, self.settings.seed)

    def losses(self, model: Any, batch: dict) -> dict[str, Tensor]:
        return {"loss": dice_bce_loss(model(batch["image"]), batch["mask"])}

    def validate(self, model: Any, accelerator: Accelerator) -> dict[str, float]:
        """The loss (mean over images, each batch by its size) and the mean of every metric that is defined."""
        measured = self.measure(model, "valid")
        if measured is None:
            return {}
        loss, overlap = measured
        means = summarize(overlap, resamples=0).means
        figures = {f"valid_{name}": mean.value for name, mean in means.items() if not np.isnan(mean.value)}
        return {"valid_loss": float(loss.mean()), **figures}

    def measure(self, model: Any, split: str) -> tuple[np.ndarray, PixelCounts] | None:
        """Of each image the loss [n] of its batch and the pixel counts at the model's size; None but on the main one.

        The main process has those of every image.
        """

        def compute(batch: dict) -> dict[str, Tensor]:
            logits, true = model(batch["image"]), batch["mask"] > 0
            predicted = logits.float().sigmoid() > THRESHOLD
            pixels = {"predicted": predicted, "true": true, "both": predicted & true}
            sums = {name: mask.flatten(1).sum(dim=1) for name, mask in pixels.items()}
            return {"loss": dice_bce_loss(logits, batch["mask"]).expand(len(logits)), **sums}

        rows = self.compute(split, compute)
        return None if rows is None else (rows.pop("loss"), PixelCounts(**rows))

    def test(self, best: Finetuned, model: Any, about: dict, folder: Path) -> None:
        measured = self.measure(model, "test")
        if measured is None:
            return
        _, overlap = measured
        settings, progress = self.settings, self.progress
        datasets = {name: self.images(name) for name in self.data.splits}
        simple, note = baselines(datasets, settings.model.image_size)
        size = f"{settings.model.image_size} × {settings.model.image_size} pixels"
        kept = f"{settings.train.monitor} {progress.best:.4f} at step {progress.best_step} of {progress.step}"
        about |= {
            "finding": self.data.finding,
            "network": f"U-Net on {settings.model.backbone}, {size}, seed {settings.seed}",
            "training": f"{_sizes(self.data).capitalize()}. The model kept is the best on validation: {kept}.",
            "best": progress.best,
            "counts": {name: counts(split) for name, split in self.data.splits.items()},
            "baseline": note,
        }
        overlaps = {MODEL: overlap, **simple}
        write_results(folder, overlaps, about, datasets["test"], best, settings.resamples, settings.gallery)


run = partial(run_seeds, Segmentation)
"""run(settings, resume) -> {seed: its run folder} on the main process, None on the others."""


def baselines(datasets: Mapping[str, SegmentationDataset], size: int) -> tuple[dict[str, PixelCounts], str]:
    """The pixel counts of MEAN_MASK and NOTHING on test at size × size pixels, and a sentence about the first."""
    train, valid = len(datasets["train"]), len(datasets["valid"])
    mean_mask = sum((mask / train for mask in _masks(datasets["train"], size)), np.zeros((size, size)))
    threshold = best_threshold(mean_mask, _masks(datasets["valid"], size))
    predicted = mean_mask > threshold
    both, true = np.array([((predicted & mask).sum(), mask.sum()) for mask in _masks(datasets["test"], size)]).T
    area = np.full(len(true), predicted.sum())
    note = (
        f"Mean mask: of the {train} training images, above {threshold:.3f}, the threshold with the best mean Dice on "
        f"the {valid} validation images."
    )
    return {MEAN_MASK: PixelCounts(area, true, both), NOTHING: PixelCounts(0 * area, true, 0 * area)}, note


def write_results(
    folder: Path,
    overlaps: Mapping[str, PixelCounts],
    about: dict,
    dataset: SegmentationDataset,
    best: Finetuned,
    resamples: int,
    gallery: int,
) -> dict[str, SegmentationResult]:
    """Write table, cases and page into a run folder; RESULTS last, since its presence marks a complete run.

    Args:
        overlaps: of MODEL and the baselines on the images of `dataset`, those of test.
        best: the model, for the masks on the page.
        gallery: number of cases of each kind on the page.
    """
    groups, model = dataset.split.groups, overlaps[MODEL]
    results = {name: summarize(each, groups=groups, resamples=resamples) for name, each in overlaps.items()}
    report.write_cases(folder / report.CASES, dataset.split, model)
    report.write_csv(results, folder / TABLE)
    chosen = report.choose_cases(model, gallery)
    shown = {kind: [_film(dataset, best, i, model) for i in images] for kind, images in chosen.items()}
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


def _sizes(data: MaskedData) -> str:
    """Such as: images (with a mask): train 18 (17), valid 6 (6), test 6 (6)."""
    sizes = [f"{name} {len(split)} ({(split.labels == PRESENT).sum()})" for name, split in data.splits.items()]
    return f"images (with a mask): {', '.join(sizes)}"
