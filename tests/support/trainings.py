"""The three trainings, small enough for a test: pre-training, and both fine-tunings on a few phantoms."""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.loader import load
from mavl.config.settings import PretrainSettings
from mavl.data import phantom
from mavl.train import classification, engine, pretrain, segmentation
from mavl.train.engine import Fit
from tests.support.planted import write_yaml
from tests.support.processes import TINY
from tests.support.small_runs import forget_accelerator

SCRIPTS = {"pretraining": "train_mavl.py", "classification": "finetune_cls.py", "segmentation": "finetune_seg.py"}
TRAININGS = {
    "pretraining": (PretrainSettings, pretrain.run),
    "classification": (FinetuneClsSettings, classification.run),
    "segmentation": (FinetuneSegSettings, segmentation.run),
}
SIZES = {"train": 12, "valid": 6, "test": 4}
STEPS = 3
"""Of an epoch, of 4 images."""


def write_training(kind: str, folder: Path, epochs: int = 3, workers: int = 0, **train) -> Path:
    """The config of a training of 3 steps an epoch (a key of SCRIPTS), with its images; train: keys of its section."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"batch_size": 4, "eval_batch_size": 4, "workers": workers}
    config = {
        "data": sizes,
        "init": {"backbone": "none"},
        "schedule": {"epochs": epochs},
        "train": {"log_every": 1, "checkpoint_every": 1} | train,
    }
    if kind == "pretraining":
        config["data"] |= {"source": "phantom", "train": SIZES["train"], "valid": SIZES["valid"]}
        config["schedule"] |= {"warmup_steps": 2, "warmup_stair": 1}
        config |= {key: TINY[key] for key in ("findings", "model", "text")}
    else:
        config["data"] |= {"benchmark": str(write_benchmark(folder)), "root": str(folder), "findings": ["cardiomegaly"]}
        config |= {"model": {"backbone": "resnet18", "image_size": 32}, "resamples": 5, "seeds": [0]}
        config["schedule"] |= {"warmup_epochs": 0}
    return write_yaml(folder / f"{kind}.yaml", **config)


def write_benchmark(folder: Path) -> Path:
    """A benchmark of phantoms on disk, with a mask for each finding."""
    for seed, (split, number) in enumerate(SIZES.items(), start=13):
        if not (folder / f"{split}.csv").exists():
            phantom.write_dataset(folder, split, seed, range(number), size=64)
    return write_yaml(
        folder / "benchmark.yaml",
        name="phantoms",
        title="Phantoms",
        findings=["cardiomegaly", "effusion"],
        splits={split: f"{split}.csv" for split in SIZES},
        images={"column": "image", "path": "images/{}.png"},
        labels={"kind": "columns"},
        masks={"kind": "file", "path": "masks/{finding}/{}.png"},
    )


def watch_steps(kind: str, folder: Path, watch: Callable[[], AbstractContextManager], *overrides: str) -> int:
    """Train for two epochs into folder/run, augmented on the device; the number of steps.

    Each is made in `watch()`, from the batch of the loader on; the first one alone is not, since it fills caches.
    """
    schema, train = TRAININGS[kind]
    config = write_training(kind, folder, epochs=2, max_grad_norm=1.0)
    settings = load(schema, config, [f"output_dir={folder / 'run'}", "data.augment_on=device", *overrides])
    steps = 0

    def watched_step(fit: Fit, batch: dict) -> bool:
        nonlocal steps
        steps += 1
        with watch() if steps > 1 else nullcontext():
            return step(fit, batch)

    def watched_to_device(*arguments) -> dict:
        with watch() if steps else nullcontext():
            return to_device(*arguments)

    step, to_device = Fit.step, engine.to_device
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "step", watched_step)
        patch.setattr(engine, "to_device", watched_to_device)
        train(settings)
    forget_accelerator()
    return steps


def count_precisions(kind: str, folder: Path, epochs: int, precision: str, **train) -> dict[bool, Counter[torch.dtype]]:
    """Train into folder/run; how often the first convolution had outputs of a type, in training (True) and outside it.

    Each step runs it once, and each batch of a validation or a test. train: keys of its section.
    """
    schema, run = TRAININGS[kind]
    config = write_training(kind, folder, epochs, mixed_precision=precision, **train)
    settings = load(schema, config, [f"output_dir={folder / 'run'}"])
    seen: dict[bool, Counter] = {True: Counter(), False: Counter()}

    def count(module: nn.Module, _, output) -> None:
        if isinstance(module, nn.Conv2d) and module.in_channels == 3:
            seen[module.training][output.dtype] += 1

    hook = register_module_forward_hook(count)
    try:
        run(settings)
    finally:
        hook.remove()
        forget_accelerator()
    return seen
