"""Fine-tuning a classifier: settings -> for every seed a run folder with its best model, tested. SPEC §12."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn

from mavl.backbones import PatchGrid, Preprocessing
from mavl.checkpoint import finetuned
from mavl.checkpoint.folder import BEST
from mavl.checkpoint.transfer import InitError, Transfer, initialise, parts, write_transfers
from mavl.config.finetune import FinetuneClsSettings
from mavl.config.loader import load
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.data.benchmarks.splits import Split
from mavl.data.classification import (
    LabelledImages,
    check_labels,
    counts,
    draw_splits,
    label_train,
    read_labelled,
    write_images,
)
from mavl.data.images.transforms import TrainTransform, Transform, eval_transform, with_interpolation
from mavl.data.loading import compute_all, to_device
from mavl.data.pretraining import bad_images, damaged_masks, write_left_out
from mavl.metrics.classification import best_f1, evaluate
from mavl.model.classifier import Classifier, normalize_positive
from mavl.model.losses import masked_bce_loss
from mavl.progress import progress_bar
from mavl.provenance import provenance
from mavl.train.classification_results import Outcome, write_results
from mavl.train.finetune import FinetuneError, assemble, run_seeds
from mavl.train.resume import Progress
from mavl.train.run_folder import scalars
from mavl.vocab import PRESENT, UNKNOWN

KIND = "classifier"
IMAGES, LEFT_OUT = "images.csv", "left_out.json"


@dataclass(frozen=True)
class RunData:
    """The images of one run; notes: a line on each decision that made it; left_out: bad images by split."""

    benchmark: Benchmark
    root: Path | None
    splits: dict[str, Split]
    notes: list[str]
    left_out: dict[str, list[str]]


@dataclass
class Classification:
    """The task for the engine."""

    model: Classifier
    arguments: dict
    data: RunData
    settings: FinetuneClsSettings

    @property
    def preprocessing(self) -> Preprocessing:
        return self.model.preprocessing

    def images(self, split: str, transform: Transform) -> LabelledImages:
        return LabelledImages(self.data.splits[split], transform, self.data.benchmark.equalize, self.settings.seed)

    def losses(self, model: nn.Module, batch: dict) -> dict[str, Tensor]:
        return {"loss": masked_bce_loss(model(batch["image"]), batch["labels"])}

    def logits(self, model: nn.Module, split: str, accelerator: Accelerator) -> np.ndarray:
        """[n, C] of every image of a split, on every process."""
        data, preprocessing = self.settings.data, self.model.preprocessing
        rows = compute_all(
            accelerator,
            self.images(split, eval_transform(preprocessing)),
            [(0, index) for index in range(len(self.data.splits[split]))],
            lambda batch: {"logits": model(batch["image"])},
            preprocessing,
            batch_size=data.eval_batch_size,
            workers=data.workers,
            description=f"{self.data.benchmark.name} {split}",
        )
        return rows["logits"]

    def validate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """The loss over labelled entries, and the mean AUROC over findings with both labels."""
        split, logits = self.data.splits["valid"], self.logits(model, "valid", accelerator)
        loss = masked_bce_loss(torch.from_numpy(logits), torch.from_numpy(split.labels))
        means = evaluate(split.labels, logits, split.findings, resamples=0).means
        return {"valid_loss": loss.item(), "valid_auroc": means["auroc"].value}

    def save(self, folder: Path, model: nn.Module, state: dict) -> None:
        findings = self.data.splits["train"].findings
        config = self.settings.model_dump(mode="json")
        equalize = self.data.benchmark.equalize
        finetuned.save(folder, KIND, model, self.arguments, findings, equalize, state, config)


def run(settings: FinetuneClsSettings, resume: bool = False) -> dict[int, Path] | None:
    """Train, choose and test with every seed; the main process returns {seed: run folder}, the others None."""
    folders = run_seeds(settings, resume, _run_seed)
    return folders if PartialState().is_main_process else None


def _run_seed(settings: FinetuneClsSettings, accelerator: Accelerator, folder: Path, resume: bool) -> None:
    findings = settings.data.findings or load(Benchmark, Path(settings.data.benchmark)).findings
    # before the data are read: a checkpoint that does not fit should fail at once, not after minutes
    model, arguments, transfers = build_model(settings, len(findings), accelerator)
    data = open_data(settings, accelerator.is_main_process)
    if accelerator.is_main_process:
        write_images(folder / IMAGES, data.splits, data.root)
        write_left_out(folder / LEFT_OUT, data.left_out)
        write_transfers(folder, transfers)
    for note in data.notes:
        accelerator.print(note)
    model.backbone.preprocessing = with_interpolation(model.preprocessing, data.benchmark.interpolation)
    task = Classification(model, arguments, data, settings)
    augment, on_device = settings.data.augment, settings.data.augment_on == "device"
    plain = eval_transform(model.preprocessing)
    augmented = TrainTransform(model.preprocessing, settings.data.min_crop, augment == "full", on_device)
    train = task.images("train", plain if augment == "none" else augmented)
    fit = assemble(task, train, settings, accelerator, folder)
    accelerator.init_trackers("mavl", config=scalars(settings))
    progress = fit.run(resume)
    assess(task, progress, transfers, accelerator, folder)


def open_data(settings: FinetuneClsSettings, progress: bool) -> RunData:
    """The splits of a run, every image file of them checked, and what had to be decided."""
    benchmark = load(Benchmark, Path(settings.data.benchmark))
    root = settings.data.root or benchmark.root
    root = None if root is None else Path(root)
    listed, left_out = {}, {}
    for name, split in read_labelled(benchmark, settings.data, root).items():
        damaged = damaged_masks(split, settings.data.max_bad_share)
        listed[name], left_out[name] = split.without(set(damaged)), list(damaged.values())
    kept, decisions = draw_splits(listed, settings.data, settings.seed, root)
    for name, split in kept.items():
        bad = bad_images(split.paths, split.rows, name, settings.data, progress)
        kept[name], left_out[name] = split.without(set(bad)), [*left_out.get(name, []), *bad.values()]
    kept["train"], policy = label_train(benchmark, settings.data, root, kept["train"])
    sizes = []
    for name, split in kept.items():
        patients = "" if split.groups is None else f" of {len(set(split.groups))} patients"
        sizes.append(f"{name} {len(split)}{patients}")
    notes = [f"{benchmark.title}: images: {', '.join(sizes)}", *policy, *decisions]
    notes += check_labels(kept, settings.train.monitor, settings.data.data_pct)
    return RunData(benchmark, root, kept, notes, left_out)


def build_model(
    settings: FinetuneClsSettings, classes: int, accelerator: Accelerator
) -> tuple[Classifier, dict, list[Transfer]]:
    """The classifier, filled as `init` says, with its keyword arguments and what came from where."""
    arguments = settings.model.model_dump(mode="json")
    arguments |= {"layer4": settings.layer4, "classes": classes}
    model = Classifier(**arguments)
    transfers = initialise(model.backbone, settings.model.backbone, settings.init, accelerator)
    if settings.model.linear_probe and transfers and transfers[-1].kept:
        _check_probe(settings, transfers, accelerator)
    if settings.train.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model, arguments, transfers


def _check_probe(settings: FinetuneClsSettings, transfers: list[Transfer], accelerator: Accelerator) -> None:
    """Of a probe whose checkpoint ends before its network does: InitError where the rest is random, else a sentence."""
    last = transfers[-1]
    same = last.backbone == settings.model.backbone
    fix = "set model.layer4 to false" if same else f"set model.backbone to the checkpoint's, {last.backbone}"
    if len(transfers) == 1:
        raise InitError(
            f"model.linear_probe would use {last.source} only through random weights (the backbone's "
            f"{parts(last.kept)}): {fix}"
        )
    accelerator.print(
        f"linear probe: {parts(last.kept)} of {transfers[0].source} stay frozen on top of {last.source}, not trained "
        f"together; {fix} to probe the checkpoint alone"
    )


def assess(
    task: Classification, progress: Progress, transfers: list[Transfer], accelerator: Accelerator, folder: Path
) -> None:
    """Test the best model, with thresholds from validation; the main process writes the results."""
    settings, splits = task.settings, task.data.splits
    if progress.best is None:
        raise FinetuneError(f"{folder}: {settings.train.monitor} was never a number, so there is no best model")
    best = finetuned.load(folder / BEST)
    model = accelerator.prepare_model(best.model, evaluation_mode=True).eval()
    logits = {name: torch.from_numpy(task.logits(model, name, accelerator)) for name in ("valid", "test")}
    if not accelerator.is_main_process:
        return
    scores = {name: each.sigmoid().numpy() for name, each in logits.items()}
    columns = zip(splits["valid"].labels.T, scores["valid"].T, strict=True)
    thresholds = np.array([best_f1(labels, column).threshold for labels, column in columns])
    labels = splits["train"].labels
    prevalence = (labels == PRESENT).sum(axis=0) / np.maximum(1, (labels != UNKNOWN).sum(axis=0))
    about = describe(task, best.about["state"], progress, transfers, folder)
    outcome = Outcome(splits["test"], scores["test"], thresholds, prevalence)
    evidence = partial(evidence_maps, best.model, task) if settings.html else None
    evaluation = write_results(folder, outcome, about, settings.resamples, evidence, task.data.benchmark.equalize)
    area = evaluation.means["auroc"]
    accelerator.print(
        f"seed {settings.seed}: test mean AUROC {area.value:.4f} ({area.low:.4f} to {area.high:.4f}), of the model of "
        f"epoch {best.about['state']['epoch']}: {folder}"
    )


@torch.no_grad()
def evidence_maps(
    model: Classifier, task: Classification, shown: list[tuple[int, str]]
) -> tuple[dict[tuple[int, str], Tensor], PatchGrid]:
    """(test image, finding) pairs -> ({pair: positive evidence [h, w], sums to 1}, positions of its patches).

    No maps for a model without them.
    """
    preprocessing = model.preprocessing
    images = task.images("test", eval_transform(preprocessing))
    findings, device = task.data.splits["test"].findings, next(model.parameters()).device
    maps: dict[tuple[int, str], Tensor] = {}
    by_image = groupby(sorted(shown), key=itemgetter(0))
    for image, wanted in progress_bar(by_image, description="evidence for the page", unit="image"):
        pixels = to_device({"image": images[0, image]["image"][None]}, device, preprocessing)["image"]
        _, evidence = model.evidence(pixels)
        if evidence is not None:
            for _, finding in wanted:
                maps[image, finding] = normalize_positive(evidence[0, findings.index(finding)].float().cpu())
    return maps, model.patch_grid((preprocessing.image_size,) * 2)


def describe(task: Classification, state: Mapping, progress: Progress, transfers: list[Transfer], folder: Path) -> dict:
    """What a result was computed with, for its files."""
    settings, data = task.settings, task.data
    return {
        "benchmark": data.benchmark.name,
        "title": data.benchmark.title,
        "split": "test",
        "protocol": "sound",
        "seed": settings.seed,
        "data_pct": settings.data.data_pct,
        "model": str(folder / BEST),
        "network": task.arguments,
        "started_from": list(map(str, transfers)) or ["nothing: random weights"],
        "train": counts(data.splits["train"]),
        "valid": counts(data.splits["valid"]),
        "notes": data.notes,
        "best_step": progress.best_step,
        "best": dict(state),
        "thresholds": f"best F1 on the {len(data.splits['valid'])} validation images",
        "left_out": data.left_out,
        "provenance": provenance(),
    }
