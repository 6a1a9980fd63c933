"""Fine-tuning a classifier: the network, its data, and the test of the best model."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from mavl.checkpoint import BEST, CheckpointError
from mavl.checkpoint.finetuned import Finetuned
from mavl.checkpoint.transfer import Transfer, initialise, parts
from mavl.config.finetune import FinetuneClsSettings
from mavl.config.loader import load
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.data.benchmarks.splits import Split
from mavl.data.checks import Share, bad_images, damaged_masks
from mavl.data.classification import LabelledImages, check_labels, counts, draw_splits, label_train, read_labelled
from mavl.data.images.transforms import TrainTransform, eval_transform
from mavl.data.loading import to_device
from mavl.data.segmentation import MaskedData
from mavl.metrics.classification import Evaluation, best_f1, evaluate
from mavl.model.classifier import Classifier, normalize_positive
from mavl.model.losses import masked_bce_loss
from mavl.progress import plural, progress_bar
from mavl.report import classification as report
from mavl.report.classification_page import PLOTS, most_confident, write_classification_page
from mavl.report.pictures.figures import plot_curves
from mavl.report.tables import RESULTS, TABLE
from mavl.report.training import TRAINING
from mavl.train.finetune import Finetuning, run_seeds
from mavl.vocab import PRESENT, UNKNOWN

HEATMAP_NOTE = (
    "Colour shows the patches with evidence for the finding, by what each adds to the logit; up to 1×, the value of a "
    "uniform map, it is transparent. Evidence against the finding is not drawn. The features of a patch depend on a "
    "large part of the image: the map is a hint to the place, not an outline of a lesion."
)


class Classification(Finetuning):
    """A Classifier, trained on the labels of a benchmark."""

    kind = "classifier"
    curves: ClassVar = {
        "binary cross-entropy": {"training": "loss", "validation": "valid_loss"},
        "mean AUROC on validation": {"AUROC": "valid_auroc"},
    }
    settings: FinetuneClsSettings

    def build_model(self) -> tuple[Classifier, dict, list[Transfer]]:
        self.benchmark = load(Benchmark, Path(self.settings.data.benchmark))
        findings = self.settings.data.findings or self.benchmark.findings
        return build_model(self.settings, len(findings), self.accelerator)

    @staticmethod
    def open_data(settings: FinetuneClsSettings, accelerator: Accelerator, share: Share | None = None) -> MaskedData:
        data = open_data(settings, accelerator.is_main_process, share)
        accelerator.print("\n".join(data.notes))
        return data

    def images(self, split: str, augment: bool = False) -> LabelledImages:
        data, transform = self.settings.data, eval_transform(self.preprocessing)
        if augment and data.augment != "none":
            on_device = data.augment_on == "device"
            transform = TrainTransform(self.preprocessing, data.min_crop, data.augment == "full", on_device)
        return LabelledImages(self.data.splits[split], transform, self.data.equalize, self.settings.seed)

    def losses(self, model: Any, batch: dict) -> dict[str, Tensor]:
        return {"loss": masked_bce_loss(model(batch["image"]), batch["labels"])}

    def logits(self, model: Any, split: str) -> np.ndarray | None:
        """[n, C] of every image of a split on the main process, None on the others."""
        computed = self.compute(split, lambda batch: {"logits": model(batch["image"])})
        return None if computed is None else computed["logits"]

    def validate(self, model: Any, accelerator: Accelerator) -> dict[str, float]:
        """The loss over labelled entries, and the mean AUROC over findings with both labels."""
        split, logits = self.data.splits["valid"], self.logits(model, "valid")
        if logits is None:
            return {}
        loss = masked_bce_loss(torch.from_numpy(logits), torch.from_numpy(split.labels))
        means = evaluate(split.labels, logits, split.findings, resamples=0).means
        return {"valid_loss": loss.item(), "valid_auroc": means["auroc"].value}

    def test(self, best: Finetuned, model: Any, about: dict, folder: Path) -> None:
        """With thresholds from validation, and beside a baseline that does not use the images."""
        logits = {name: self.logits(model, name) for name in ("valid", "test")}
        scores = {name: torch.from_numpy(each).sigmoid().numpy() for name, each in logits.items() if each is not None}
        if not self.accelerator.is_main_process:
            return
        train, valid, test = (self.data.splits[name] for name in ("train", "valid", "test"))
        columns = zip(valid.labels.T, scores["valid"].T, strict=True)
        thresholds = [best_f1(labels, column).threshold for labels, column in columns]
        evaluation = _evaluate(test, scores["test"], thresholds, self.settings.resamples)
        about |= {
            "benchmark": self.benchmark.name,
            "protocol": "sound",
            "model": str(folder / BEST),
            "network": self.arguments,
            "train": counts(train),
            "valid": counts(valid),
            "best": best.about["state"],
            "thresholds": f"best F1 on the {len(valid)} validation images",
            "baseline": {name: mean.value for name, mean in baseline(train, test).means.items()},
        }
        report.write_scores(folder / report.SCORES, test, scores["test"])
        report.write_csv(evaluation, folder / TABLE)
        plot_curves(test.labels, scores["test"], evaluation, folder)
        if self.settings.html:
            self._write_page(best.model, evaluation, scores["test"], about, folder)
        report.write_json(evaluation, folder / RESULTS, about)
        area, epoch = evaluation.means["auroc"], best.about["state"]["epoch"]
        self.accelerator.print(
            f"seed {self.settings.seed}: test mean AUROC {area.value:.4f} ({area.low:.4f} to {area.high:.4f}), of the "
            f"model of epoch {epoch}: {folder}"
        )

    @torch.no_grad()
    def _write_page(
        self, model: Classifier, evaluation: Evaluation, scores: np.ndarray, about: dict, folder: Path
    ) -> None:
        split, dataset, preprocessing = self.data.splits["test"], self.images("test"), model.preprocessing
        gallery, heatmaps = most_confident(evaluation, split, scores), {}
        shown = {image for kinds in gallery.values() for images in kinds.values() for image in images}
        for image in progress_bar(sorted(shown), description="evidence for the page", unit="image"):
            batch = to_device({"image": dataset[0, image]["image"][None]}, self.accelerator.device, preprocessing)
            _, evidence = model.evidence(batch["image"])
            if evidence is not None:
                maps = [normalize_positive(of_finding.float().cpu()) for of_finding in evidence[0]]
                heatmaps |= {(image, finding): heatmap for finding, heatmap in zip(split.findings, maps, strict=True)}
        write_classification_page(
            folder,
            evaluation,
            about | {"bank": None, "baseline_line": report.baseline_line(about)},
            split,
            scores,
            equalize=self.data.equalize,
            heatmaps=heatmaps,
            patch_grid=model.patch_grid((preprocessing.image_size, preprocessing.image_size)),
            heatmap_note=HEATMAP_NOTE,
            plots={"Training": TRAINING, **PLOTS},
            template="finetuned.html",
        )


run = partial(run_seeds, Classification)
"""run(settings, resume) -> {seed: its run folder} on the main process, None on the others."""


def build_model(
    settings: FinetuneClsSettings, classes: int, accelerator: Accelerator
) -> tuple[Classifier, dict, list[Transfer]]:
    """The classifier with the weights that `init` names, its keyword arguments, and the sources of the weights.

    CheckpointError for a linear probe of a checkpoint through random layers.
    """
    arguments = settings.model.model_dump(mode="json") | {"layer4": settings.layer4, "classes": classes}
    model = Classifier(**arguments)
    transfers = initialise(model.backbone, settings.model.backbone, settings.init, accelerator)
    if settings.model.linear_probe and transfers and (last := transfers[-1]).kept:
        shorter = last.backbone != settings.model.backbone
        fix = f"set model.backbone to the checkpoint's, {last.backbone}" if shorter else "set model.layer4 to false"
        if len(transfers) == 1:
            raise CheckpointError(
                f"model.linear_probe would use {last.source} only through random weights (the backbone's "
                f"{parts(last.kept)}): {fix}"
            )
        accelerator.print(
            f"linear probe: {parts(last.kept)} of {transfers[0].source} stay frozen on top of {last.source}, not "
            f"trained together; {fix} to probe the checkpoint alone"
        )
    return model, arguments, transfers


def open_data(settings: FinetuneClsSettings, progress: bool, share: Share | None = None) -> MaskedData:
    """The splits of a run, without bad images, and a line on each decision.

    share: the part of the files that this process checks, by default all.
    """
    data, benchmark = settings.data, load(Benchmark, Path(settings.data.benchmark))
    root = Path(data.root) if data.root else benchmark.root
    listed, left_out = {}, {}
    for name, split in read_labelled(benchmark, data, root).items():
        damaged = damaged_masks(split, data.max_bad_share)
        listed[name], left_out[name] = split.without(set(damaged)), list(damaged.values())
    kept, decisions = draw_splits(listed, data, settings.seed, root)
    for name, split in kept.items():
        bad = bad_images(split.paths, split.rows.__getitem__, name, data, progress, share=share)
        kept[name], left_out[name] = split.without(set(bad)), [*left_out.get(name, []), *bad.values()]
    kept["train"], policy = label_train(benchmark, data, root, kept["train"])
    sizes = []
    for name, split in kept.items():
        patients = "" if split.groups is None else f" of {plural(len(set(split.groups)), 'patient')}"
        sizes.append(f"{name} {len(split)}{patients}")
    notes = [f"{benchmark.title}: images: {', '.join(sizes)}", *policy, *decisions]
    notes += check_labels(kept, settings.train.monitor, data.data_pct)
    return MaskedData(benchmark.title, kept, root, benchmark.interpolation, benchmark.equalize, notes, left_out)


def baseline(train: Split, test: Split) -> Evaluation:
    """The metrics on test of each finding's share in the labelled training images as the score of every image.

    From 0.5 on an image counts as positive.
    """
    prevalence = (train.labels == PRESENT).sum(axis=0) / np.maximum(1, (train.labels != UNKNOWN).sum(axis=0))
    return _evaluate(test, np.broadcast_to(prevalence, test.labels.shape), [0.5] * len(prevalence), resamples=0)


def _evaluate(split: Split, scores: np.ndarray, thresholds: list[float], resamples: int) -> Evaluation:
    return evaluate(
        split.labels,
        scores,
        split.findings,
        thresholds=thresholds,
        threshold_source="validation",
        resamples=resamples,
        groups=split.groups,
    )
