"""The steps that are measured: those of the real training loop, and of inference, with random images and weights."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mavl import vocab
from mavl.config.settings import PretrainSettings
from mavl.data.images.augment import draw_operations
from mavl.data.loading import to_device
from mavl.data.pretraining import EpochBatches
from mavl.model.inference import InferenceModel
from mavl.text.embeddings import TextEmbeddings
from mavl.train.engine import Fit, build_accelerator
from mavl.train.pretrain import Pretraining, build_model
from mavl.vocab import ANATOMIES, ASPECTS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = bool(os.environ.get("MAVL_SMALL"))
REQUESTED = ("cardiomegaly", "edema", "consolidation", "atelectasis", "effusion")
TEXT_WIDTH = 768
TRAINED = {"whole": {}, "frozen": {"freeze": "backbone"}, "LoRA": {"lora": {"rank": 16, "alpha": 32}}}
"""Settings of `train` for what is trained."""


@dataclass(frozen=True)
class Encoder:
    """An image encoder and the height and width of its input in pixels."""

    title: str
    backbone: str
    size: int


ENCODERS = {
    encoder.title: encoder
    for encoder in (
        Encoder("ResNet-50", "resnet50", 224),
        Encoder("ViT-B/16", "timm:vit_base_patch16_224", 224),
        Encoder("DINOv2-B", "timm:vit_base_patch14_dinov2", 518),
    )
}
FINDINGS, MODEL = vocab.FINDINGS, {}
if SMALL:
    FINDINGS, MODEL = ("normal", "clear", *REQUESTED), {"width": 64, "layers": 1, "feedforward": 64}
    SMALLER = {"ResNet-50": ("resnet18", 64), "ViT-B/16": ("timm:vit_tiny_patch16_224@1", 64)}
    SMALLER["DINOv2-B"] = ("timm:vit_tiny_patch16_224@1", 96)
    ENCODERS = {title: Encoder(title, *smaller) for title, smaller in SMALLER.items()}


@dataclass(frozen=True)
class Case:
    """A training step, or a batch of inference where `trained` is "".

    Args:
        encoder: a title of ENCODERS.
        trained: "whole", "frozen" (all but the backbone) or "LoRA" (as frozen, and adapters in the backbone).
        recomputed: activations of the backbone computed again in the backward pass.
        variant: of settings outside the run's config: "" or a key of VARIANTS.
    """

    encoder: str
    batch: int
    trained: str = "whole"
    precision: str = "bf16"
    compiled: bool = False
    recomputed: bool = False
    variant: str = ""


VARIANTS = {"contiguous": {"channels_last": False}, "cudnn.benchmark": {}}
"""Ways to compute the same: another memory layout; cuDNN's kernels chosen by trying them, not by its heuristics."""


def embeddings() -> TextEmbeddings:
    """Random text embeddings of the findings."""
    vectors = torch.randn(len(FINDINGS), len(ASPECTS), TEXT_WIDTH)
    return TextEmbeddings(FINDINGS, ASPECTS, vectors, torch.randn(len(ANATOMIES), TEXT_WIDTH), {})


def settings_of(case: Case) -> PretrainSettings:
    encoder = ENCODERS[case.encoder]
    return PretrainSettings.model_validate(
        {
            "findings": FINDINGS,
            "model": {"backbone": encoder.backbone, "image_size": encoder.size, **MODEL},
            "data": {"source": "phantom", "batch_size": case.batch, "workers": 0, "augment_on": "device"},
            "init": {"backbone": "none"},
            "train": {
                "mixed_precision": case.precision,
                "compile": case.compiled,
                "backbone_checkpointing": case.recomputed,
                **TRAINED.get(case.trained, {}),
                **VARIANTS.get(case.variant, {}),
            },
        }
    )


def start_fit(case: Case) -> Fit:
    """A pre-training run, prepared as `train_mavl.py` does it, without images."""
    settings, folder = settings_of(case), Path(tempfile.mkdtemp())
    torch.backends.cudnn.benchmark = case.variant == "cudnn.benchmark"
    accelerator = build_accelerator(settings.train, folder, seed=0)
    arguments = settings.model.model_dump(mode="json") | {"text_width": TEXT_WIDTH}
    model = build_model(arguments, settings, accelerator)
    text = embeddings().to(accelerator.device)
    task = Pretraining(model, arguments, text, {}, cast(Any, None), settings, {})
    batches = EpochBatches(1000 * case.batch, case.batch, 0, 0, 1, 1)
    fit = Fit(task, cast(Dataset, range(1)), batches, settings.schedule.model_dump(), settings, accelerator, folder)
    fit.start()
    fit.model.train()
    return fit


def random_batch(case: Case) -> dict[str, Tensor]:
    """A batch as the loader gives it, in page-locked memory where there is a GPU."""
    size, rng = ENCODERS[case.encoder].size, np.random.default_rng(0)
    torch.manual_seed(0)
    batch = {
        "image": torch.randint(0, 256, (case.batch, 1, size, size), dtype=torch.uint8),
        "operations": torch.from_numpy(np.stack([draw_operations(rng) for _ in range(case.batch)])),
        "labels": torch.randint(-1, 2, (case.batch, len(FINDINGS)), dtype=torch.int8),
        "locations": torch.randint(0, len(ANATOMIES), (case.batch, len(FINDINGS), 8)),
        "index": torch.arange(case.batch),
    }
    return {name: value.pin_memory() for name, value in batch.items()} if DEVICE == "cuda" else batch


def training_step(case: Case) -> Callable[[], object]:
    """What the training loop does with a batch: to the device, augmentation there, loss, gradients, AdamW."""
    fit, batch = start_fit(case), random_batch(case)

    def step() -> None:
        fit.step(to_device(batch, fit.accelerator.device, fit.task.preprocessing))
        fit.log.pending.clear()

    return step


def inference_step(case: Case) -> Callable[[], object]:
    """The scores of five findings of normalized images on the device."""
    encoder = ENCODERS[case.encoder]
    settings = settings_of(case)
    model = build_inference(settings, case.compiled)
    images = torch.randn(case.batch, 3, encoder.size, encoder.size, device=DEVICE)

    def step() -> None:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=case.precision == "bf16"):
            model(images)

    return step


def build_inference(settings: PretrainSettings, compiled: bool) -> InferenceModel:
    from mavl.model.mavl import MAVL

    model = MAVL(**settings.model.model_dump(mode="json"), text_width=TEXT_WIDTH).to(DEVICE)
    return InferenceModel(model, embeddings().to(DEVICE), REQUESTED, compile=compiled)
