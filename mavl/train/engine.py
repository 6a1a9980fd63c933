"""The training loop, on accelerate, for any task and any number of processes.

A task defines its losses, its validation and how its model is saved. The engine does the rest: mixed precision,
accumulation, the log, resumable checkpoints, the best model.
"""

import json
import math
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast, set_seed
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from mavl.backbones import Preprocessing
from mavl.checkpoint import BEST, LAST
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.settings import EngineSettings, PretrainSettings
from mavl.cpu import prepare_device
from mavl.data.loading import build_loader, to_device
from mavl.data.pretraining import EpochBatches
from mavl.files import write_text
from mavl.progress import progress_bar
from mavl.train.optim import build_optimizer, build_scheduler
from mavl.train.run_folder import CHECKPOINTS, LOG, Checkpoints, Progress

LARGER_IS_BETTER = {"valid_loss": False, "valid_auroc": True, "valid_dice": True}


class SetupError(ValueError):
    """A setting that this machine or installation cannot fulfil."""


class NonFiniteLossError(RuntimeError):
    """A loss that became NaN or infinite; the message names it and the step. The last checkpoint is from before."""


class Task(Protocol):
    """A model to train. preprocessing: with which batches are normalized."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def preprocessing(self) -> Preprocessing: ...

    def losses(self, model: Any, batch: dict) -> dict[str, Tensor]:
        """Scalars by name; "loss" is minimised, the others are logged."""
        ...

    def validate(self, model: Any, accelerator: Accelerator) -> dict[str, float]:
        """Figures by name, equal on every process, the monitored one among them."""
        ...

    def save(self, folder: Path, model: Any, state: dict) -> None:
        """Write the model folder (main process only)."""


class Fit:
    """One training run.

    Args:
        train: images, whose keys `batches` gives.
        schedule: arguments of mavl.train.optim.learning_rate, without lr and steps_per_epoch.
        output_dir: the run folder.
        validate_every: epochs between validations; the last epoch always ends with one.
    """

    def __init__(
        self,
        task: Task,
        train: Dataset,
        batches: EpochBatches,
        schedule: dict[str, Any],
        settings: PretrainSettings | FinetuneClsSettings | FinetuneSegSettings,
        accelerator: Accelerator,
        output_dir: Path,
        validate_every: int = 1,
    ):
        self.accelerator, self.task, self.batches, self.output_dir = accelerator, task, batches, output_dir
        self.settings: EngineSettings = settings.train
        self.epochs, self.validate_every = schedule["epochs"], validate_every
        data, pin_memory = settings.data, settings.data.pin_memory and accelerator.device.type == "cuda"
        self.loader = build_loader(train, batches, data.workers, pin_memory, persistent=True, prefetch=data.prefetch)
        self.optimizer = build_optimizer(task.model, **settings.optimizer.model_dump())
        rates = schedule | {"lr": settings.optimizer.lr, "steps_per_epoch": batches.steps_per_epoch}
        self.scheduler = build_scheduler(self.optimizer, **rates)

    def run(self, resume: bool) -> Progress:
        """Train to the last epoch, or until the patience ends; with `resume` from the newest checkpoint on."""
        accelerator = self.accelerator
        if self.settings.compile:
            self.task.model.compile()
        self.model, self.optimizer = accelerator.prepare(self.task.model, self.optimizer)
        self.progress = Progress(processes=accelerator.num_processes)
        accelerator.register_for_checkpointing(self.scheduler, self.progress)
        self.checkpoints = Checkpoints(self.output_dir / CHECKPOINTS, self.settings.keep)
        if resume:
            self.checkpoints.restore(accelerator, self.progress)
        self.log = Log(accelerator, self.output_dir / LOG, self.progress.step)
        for epoch in range(self.progress.step // self.batches.steps_per_epoch, self.epochs):
            if self.settings.patience is not None and self.progress.stale >= self.settings.patience:
                best = f"the best {self.settings.monitor} is that of step {self.progress.best_step}"
                accelerator.print(f"stopped early, {self.progress.stale} validations without a better one: {best}")
                break
            self._train_epoch(epoch)
        return self.progress

    def _train_epoch(self, epoch: int) -> None:
        steps, settings = self.batches.steps_per_epoch, self.settings
        done = self.progress.step % steps
        self.batches.start_at(epoch, done)
        self.model.train()
        validates = (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs
        title, show = f"epoch {epoch + 1}/{self.epochs}", self.accelerator.is_main_process
        bar = progress_bar(description=title, unit="step", show=show, total=steps, initial=done)
        for batch in self.loader:
            if not self._micro_step(to_device(batch, self.accelerator.device, self.task.preprocessing)):
                continue
            self.progress.step += 1
            step, last = self.progress.step, self.progress.step % steps == 0
            bar.update()
            if step % settings.log_every == 0 or last or step % settings.checkpoint_every == 0:
                bar.set_postfix(self.log.flush(epoch, step, float(self.scheduler.get_last_lr()[0])), refresh=False)
            if last:
                bar.close()
            if last and validates:
                self._validate(epoch)
            if (last and validates) or step % settings.checkpoint_every == 0:
                self.checkpoints.save(self.accelerator, self.progress)

    def _micro_step(self, batch: dict) -> bool:
        """Forward and backward pass; True at the end of an accumulation, where the optimizer makes its step."""
        accelerator = self.accelerator
        with accelerator.accumulate(self.model):
            losses = self.task.losses(self.model, batch)
            accelerator.backward(losses["loss"])
            if accelerator.sync_gradients and self.settings.max_grad_norm:
                accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.log.add(losses, len(batch["index"]))
        if accelerator.sync_gradients:
            self.scheduler.step()
        return accelerator.sync_gradients

    def _validate(self, epoch: int) -> None:
        for buffer in self.accelerator.unwrap_model(self.model).buffers():
            buffer.copy_(broadcast(buffer))  # BatchNorm's running statistics: those of the process that saves
        model = self.accelerator.unwrap_model(self.model)  # keeps autocast, without which training would go on in fp32
        model.eval()
        figures = self.task.validate(model, self.accelerator)
        self.log.write(epoch, self.progress.step, figures)
        value = figures[self.settings.monitor]
        better = self.progress.improve(value, LARGER_IS_BETTER[self.settings.monitor])
        if self.accelerator.is_main_process:
            state = {"epoch": epoch + 1, "step": self.progress.step, **figures}
            for name in [LAST, BEST] if better else [LAST]:
                self.task.save(self.output_dir / name, model, state)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            tqdm.write(f"epoch {epoch + 1}: {shown}{' (best so far)' if better else ''}")


class Log:
    """Losses and figures, as lines of JSON in the run folder and for the trackers; the host waits at `flush` only.

    step: of the checkpoint that the run continues from; later lines are removed.
    """

    def __init__(self, accelerator: Accelerator, path: Path, step: int):
        self.accelerator, self.path = accelerator, path
        self.pending: list[dict[str, Tensor]] = []
        self.images, self.since = 0, time.perf_counter()
        if accelerator.is_main_process:
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            write_text(path, "".join(line for line in lines if json.loads(line)["step"] <= step))

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        self.pending.append({name: value.detach() for name, value in losses.items()})
        self.images += images

    def flush(self, epoch: int, step: int, lr: float) -> dict[str, str]:
        """Write the means since the last call, over all processes; NonFiniteLossError names the step."""
        names = list(self.pending[0])
        local = torch.stack([torch.stack([losses[name].float() for name in names]) for losses in self.pending])
        values = cast(Tensor, self.accelerator.gather(local[None])).cpu().numpy()
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            process, micro, which = bad[bad[:, 1].argmin()]
            per_step = self.accelerator.gradient_accumulation_steps
            first = step - math.ceil(len(self.pending) / per_step) + micro // per_step + 1
            raise NonFiniteLossError(
                f"step {first}: {names[which]} is {values[process, micro, which]}; nothing was saved since. "
                "Lower optimizer.lr, set train.max_grad_norm, or use bf16 instead of fp16; --resume goes back to the "
                "last checkpoint."
            )
        means = dict(zip(names, values.mean(axis=(0, 1)).tolist(), strict=True))
        rate = self.images * self.accelerator.num_processes / (time.perf_counter() - self.since)
        self.write(epoch, step, {**means, "lr": lr, "images_per_second": rate})
        self.pending, self.images, self.since = [], 0, time.perf_counter()
        return {name: f"{value:.4g}" for name, value in {**means, "lr": lr, "img/s": rate}.items()}

    def write(self, epoch: int, step: int, figures: dict[str, float]) -> None:
        self.accelerator.log(figures, step=step)
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(json.dumps({"epoch": epoch + 1, "step": step, **figures}) + "\n")


def build_accelerator(settings: EngineSettings, output_dir: Path, seed: int) -> Accelerator:
    """The accelerator of a run, its seeds set; SetupError for a tracker that is not installed."""
    if missing := [tracker for tracker in settings.trackers if find_spec(tracker) is None]:
        raise SetupError(f"train.trackers: {missing[0]} is not installed; pip install {missing[0]}, or leave it out")
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=settings.gradient_accumulation, sync_with_dataloader=False
        ),
        log_with=list(settings.trackers) or None,
        project_dir=str(output_dir),
    )
    prepare_device(accelerator.device.type, accelerator.mixed_precision)
    set_seed(seed, device_specific=True)
    return accelerator
