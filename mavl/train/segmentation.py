"""Fine-tuning a U-Net: settings -> for every seed a run folder with the best model, its test and a page. SPEC §12."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn

from mavl.backbones import Preprocessing
from mavl.checkpoint import finetuned
from mavl.checkpoint.folder import BEST
from mavl.checkpoint.transfer import initialise, write_transfers
from mavl.config.finetune import FinetuneSegSettings
from mavl.data.classification import counts, write_images
from mavl.data.images.transforms import with_interpolation
from mavl.data.loading import compute_all
from mavl.data.pretraining import write_left_out
from mavl.data.segmentation import JointTransform, MaskedData, SegmentationDataset, open_data
from mavl.metrics.segmentation import PixelCounts, summarize
from mavl.model.losses import dice_bce_loss
from mavl.model.unet import THRESHOLD, UNet
from mavl.provenance import provenance
from mavl.train.finetune import FinetuneError, assemble, run_seeds
from mavl.train.resume import Progress
from mavl.train.run_folder import scalars
from mavl.train.segmentation_results import MODEL, baselines, write_results
from mavl.vocab import PRESENT

KIND = "segmenter"
IMAGES, LEFT_OUT = "images.csv", "left_out.json"


@dataclass
class Segmentation:
    """The task for the engine. arguments: of UNet; equalize: whether the images' histograms are equalized."""

    model: UNet
    arguments: dict
    equalize: bool
    valid: SegmentationDataset
    settings: FinetuneSegSettings

    @property
    def preprocessing(self) -> Preprocessing:
        return self.model.preprocessing

    def losses(self, model: nn.Module, batch: dict) -> dict[str, Tensor]:
        return {"loss": dice_bce_loss(model(batch["image"]), batch["mask"])}

    def validate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """The loss (mean over images, each batch by its size) and the mean of every metric that is defined."""
        loss, overlap = measure(model, self.valid, self.settings, accelerator, "validating")
        means = summarize(overlap, resamples=0).means
        figures = {f"valid_{name}": mean.value for name, mean in means.items() if not np.isnan(mean.value)}
        return {"valid_loss": float(loss.mean()), **figures}

    def save(self, folder: Path, model: nn.Module, state: dict) -> None:
        config = self.settings.model_dump(mode="json")
        finetuned.save(folder, KIND, model, self.arguments, self.valid.split.findings, self.equalize, state, config)


def run(settings: FinetuneSegSettings, resume: bool = False) -> dict[int, Path] | None:
    """Train, choose and test with every seed; the main process returns {seed: its run folder}, the others None.

    A folder holds what a pre-training's does, and besides IMAGES and what mavl.train.segmentation_results writes.
    """
    folders = run_seeds(settings, resume, _run_seed)
    return folders if PartialState().is_main_process else None


def _run_seed(settings: FinetuneSegSettings, accelerator: Accelerator, folder: Path, resume: bool) -> None:
    arguments = {"backbone": settings.model.backbone, "image_size": settings.model.image_size}
    unet = UNet(**arguments)
    transfers = initialise(unet.backbone, settings.model.backbone, settings.init, accelerator)  # before data are read
    data = open_data(settings.data, settings.seed, accelerator.is_main_process)
    if accelerator.is_main_process:
        write_transfers(folder, transfers)
        write_images(folder / IMAGES, data.splits, data.root)
        write_left_out(folder / LEFT_OUT, data.left_out)
    accelerator.print("\n".join([f"{data.title}, {data.finding}, {_sizes(data)}", *data.notes]))
    unet.backbone.preprocessing = with_interpolation(unet.preprocessing, data.interpolation)
    plain = JointTransform(unet.preprocessing)
    datasets = {name: data.dataset(name, plain) for name in data.splits}
    if settings.train.channels_last:
        unet = unet.to(memory_format=torch.channels_last)
    task = Segmentation(unet, arguments, data.equalize, datasets["valid"], settings)
    augmented = JointTransform(unet.preprocessing, settings.data.min_crop)
    train = data.dataset("train", plain if settings.data.augment == "none" else augmented, settings.seed)
    fit = assemble(task, train, settings, accelerator, folder)
    accelerator.init_trackers("mavl", config=scalars(settings))
    progress = fit.run(resume)
    if progress.best is None:
        raise FinetuneError(f"{folder}: {settings.train.monitor} was never a number; see its log.jsonl")
    about = _describe(settings, data, progress) | {"started_from": list(map(str, transfers)) or ["random weights"]}
    _test(settings, accelerator, folder, datasets, about)


def _test(
    settings: FinetuneSegSettings,
    accelerator: Accelerator,
    folder: Path,
    datasets: dict[str, SegmentationDataset],
    about: dict,
) -> None:
    """Measure the best model on test, and write the results."""
    best = finetuned.load(folder / BEST)
    model = accelerator.prepare_model(best.model, evaluation_mode=True).eval()
    _, overlap = measure(model, datasets["test"], settings, accelerator, "testing")
    if accelerator.is_main_process:
        simple, note = baselines(datasets, settings.model.image_size)
        write_results(
            folder,
            {MODEL: overlap, **simple},
            about | {"baseline": note},
            datasets["test"],
            best,
            resamples=settings.resamples,
            gallery=settings.gallery,
        )


def _describe(settings: FinetuneSegSettings, data: MaskedData, progress: Progress) -> dict:
    """What a result was computed with, for its files and page."""
    size, backbone = settings.model.image_size, settings.model.backbone
    kept = f"{settings.train.monitor} {progress.best:.4f} at step {progress.best_step} of {progress.step}"
    return {
        "title": data.title,
        "finding": data.finding,
        "split": "test",
        "seed": settings.seed,
        "data_pct": settings.data.data_pct,
        "network": f"U-Net on {backbone}, {size} × {size} pixels, seed {settings.seed}",
        "training": f"{_sizes(data).capitalize()}. The model kept is the best on validation: {kept}.",
        "best_step": progress.best_step,
        "best": progress.best,
        "counts": {name: counts(split) for name, split in data.splits.items()},
        "notes": data.notes,
        "left_out": data.left_out,
        "provenance": provenance(),
    }


def _sizes(data: MaskedData) -> str:
    """Such as: images (with a mask): train 18 (17), valid 6 (6), test 6 (6)."""
    sizes = [f"{name} {len(split)} ({(split.labels == PRESENT).sum()})" for name, split in data.splits.items()]
    return f"images (with a mask): {', '.join(sizes)}"


def measure(
    model: nn.Module, dataset: SegmentationDataset, settings: FinetuneSegSettings, accelerator: Accelerator, said: str
) -> tuple[np.ndarray, PixelCounts]:
    """The loss [n] of each image's batch, and the pixel counts of each image at the model's size; on every process."""

    def compute(batch: dict) -> dict[str, Tensor]:
        logits, true = model(batch["image"]), batch["mask"] > 0
        predicted = logits.float().sigmoid() > THRESHOLD
        pixels = {"predicted": predicted, "true": true, "both": predicted & true}
        sums = {name: mask.flatten(1).sum(dim=1) for name, mask in pixels.items()}
        return {"loss": dice_bce_loss(logits, batch["mask"]).expand(len(logits)), **sums}

    rows = compute_all(
        accelerator,
        dataset,
        [(0, index) for index in range(len(dataset))],
        compute,
        dataset.transform.preprocessing,
        batch_size=settings.data.eval_batch_size,
        workers=settings.data.workers,
        description=said,
    )
    return rows.pop("loss"), PixelCounts(**rows)
