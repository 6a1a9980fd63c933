"""The training loop, on accelerate, for any task and any number of processes.

A task defines its losses, its validation and how its model is saved. The engine does the rest: mixed precision,
accumulation, the log, resumable checkpoints, the best model.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, broadcast, broadcast_object_list, set_seed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from tqdm import tqdm

from mavl.backbones import Preprocessing
from mavl.checkpoint import BEST, LAST
from mavl.checkpoint.released import non_finite
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.settings import PretrainSettings
from mavl.config.training import EngineSettings
from mavl.data.launch import open_accelerator
from mavl.data.loading import build_loader, to_device
from mavl.data.pretraining import EpochBatches
from mavl.data.processes import Stopping, StopRequested
from mavl.progress import progress_bar
from mavl.train.checkpoints import Checkpoints
from mavl.train.log import RESCUE, Log, NonFiniteLossError, json_numbers
from mavl.train.optim import average_weights, build_optimizer, build_scheduler
from mavl.train.run_folder import CHECKPOINTS, LOG, Progress
from mavl.train.trainable import SetupError, refuse_missing_peft

LARGER_IS_BETTER = {"valid_loss": False, "valid_auroc": True, "valid_dice": True}


COMPILED_FROM = 10_000
"""Steps from which compilation is the default: at 15 to 30 ms saved in each, it has paid twice (docs/benchmarks.md)."""


class MonitorError(RuntimeError):
    """The monitored figure was never a number, so that there is no best model."""


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
        """Figures by name, the monitored one among them; those of the main process count."""
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

    def start(self, resume: bool = False) -> None:
        """Prepare model and optimizer for this process; with `resume` from the newest checkpoint on."""
        accelerator = self.accelerator
        if self._compiles():
            accelerator.print("the first step compiles the model, a minute or two; train.compile=false leaves that out")
            self.task.model.compile()
        self.model, self.optimizer = accelerator.prepare(self.task.model, self.optimizer)
        if isinstance(self.model, DistributedDataParallel):
            self.model.broadcast_buffers = False  # BatchNorm reads them in validations alone
        self.progress = Progress(processes=accelerator.num_processes)
        self.parts: dict[str, Any] = {
            "progress": self.progress,
            "model": accelerator.unwrap_model(self.model),
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
        }
        if accelerator.scaler is not None:
            self.parts["scaler"] = accelerator.scaler
        self.average = None
        if self.settings.average is not None:
            self.parts["average"] = self.average = average_weights(self.parts["model"], self.settings.average)
        self.checkpoints = Checkpoints(self.output_dir / CHECKPOINTS, self.settings.keep)
        if resume:
            self.checkpoints.restore(accelerator, self.parts)
        self.log, self.saved = Log(accelerator, self.output_dir / LOG, self.progress), False

    def run(self, resume: bool) -> Progress:
        """Train to the last epoch, or until the patience ends; with `resume` from the newest checkpoint on.

        StopRequested after a signal that ends the run, with its state saved; MonitorError where no validation gave a
        number.
        """
        self.start(resume)
        steps = self.batches.steps_per_epoch
        Stopping.careful = True
        first = self.progress.step // steps
        if self.progress.validated < self.progress.step == first * steps and self._validates(first - 1):
            first -= 1  # it ended with its last step, before its validation
        if first >= self.epochs:
            self.accelerator.print(f"all {self.epochs} epochs are done: nothing is left to train")
        for epoch in range(first, self.epochs):
            if self.settings.patience is not None and self.progress.stale >= self.settings.patience:
                best = f"the best {self.settings.monitor} is that of step {self.progress.best_step}"
                stopped = f"stopped early, {self.progress.stale} validations without a better one"
                self.accelerator.print(f"{stopped}: {best}")
                break
            self._train_epoch(epoch)
        if self.progress.best is None:
            raise MonitorError(
                f"{self.output_dir}: {self.settings.monitor}, which decides the best model, was never a number (see "
                f"{LOG}); set train.monitor to another figure"
            )
        return self.progress

    def _compiles(self) -> bool:
        """train.compile; where that is None, whether this is a GPU and the steps are enough to be worth the wait."""
        chosen, steps = self.settings.compile, self.epochs * self.batches.steps_per_epoch
        return worth_compiling(steps, self.accelerator.device.type) if chosen is None else chosen

    def _validates(self, epoch: int) -> bool:
        return (epoch + 1) % self.validate_every == 0 or epoch + 1 == self.epochs

    def _train_epoch(self, epoch: int) -> None:
        steps, settings, validates = self.batches.steps_per_epoch, self.settings, self._validates(epoch)
        done = self.progress.step - epoch * steps
        self.batches.start_at(epoch, done)
        self.model.train()
        self.log.restart()
        title, show = f"epoch {epoch + 1}/{self.epochs}", self.accelerator.is_main_process
        with progress_bar(description=title, unit="step", show=show, total=steps, initial=done) as bar:
            for batch in self.log.timed(self.loader):
                if not self.step(to_device(batch, self.accelerator.device, self.task.preprocessing)):
                    continue
                self.progress.step += 1
                step, last = self.progress.step, self.progress.step % steps == 0
                bar.update()
                saves = step % settings.checkpoint_every == 0 and not (last and validates)
                with self._saved_when_stopped(epoch):
                    if step % settings.log_every == 0 or last or saves:
                        bar.set_postfix(self._flush(epoch), refresh=False)
                    if saves:
                        self._save()
                    Stopping.check(self.accelerator)
        if validates:
            with self._saved_when_stopped(epoch):
                self._validate(epoch)
            self._save()

    @contextmanager
    def _saved_when_stopped(self, epoch: int) -> Iterator[None]:
        """The block may raise StopRequested, which then says at which step the state was saved."""
        try:
            yield
        except StopRequested as stop:
            if self.log.pending:
                self._flush(epoch)
            self._save()
            raise StopRequested(f"{stop} after step {self.progress.step}, which is saved") from None

    def _flush(self, epoch: int) -> dict[str, str]:
        return self.log.flush(epoch, self.progress.step, float(self.scheduler.get_last_lr()[0]))

    def _save(self) -> None:
        """Save a checkpoint; the next line of the log has its time. The first one's is printed, with its size."""
        self._refuse_nan()
        start = time.perf_counter()
        path = self.checkpoints.save(self.accelerator, self.progress.step, self.parts)
        self.log.once = {"checkpoint_seconds": (seconds := time.perf_counter() - start)}
        if self.accelerator.is_main_process and not self.saved:
            size = sum(file.stat().st_size for file in path.iterdir())
            tqdm.write(f"checkpoint: {size / 1e9:.2f} GB in {seconds:.1f} s")
        self.saved = True
        self.log.restart()

    def _refuse_nan(self) -> None:
        """NonFiniteLossError where a weight is NaN or infinite; gradients can be so although the loss is finite."""
        state = self.parts["model"].state_dict()
        if name := non_finite(state):
            raise NonFiniteLossError(f"step {self.progress.step}: {name} of the model is NaN or infinite; {RESCUE}")

    def step(self, batch: dict) -> bool:
        """Forward and backward pass of a batch as of `to_device`; True where the optimizer made its step.

        With accumulation it does so at the last batch of a step.
        """
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
            if self.average is not None:
                self.average.update_parameters(self.parts["model"])
        return accelerator.sync_gradients

    def _validate(self, epoch: int) -> None:
        self._refuse_nan()
        model = self.parts["model"] if self.average is None else self.average.module  # both with accelerate's autocast
        for buffer in model.buffers():
            buffer.copy_(broadcast(buffer))  # BatchNorm's running statistics: those of the process that saves
        model.eval()
        [figures] = broadcast_object_list([self.task.validate(model, self.accelerator)])
        self.log.write(epoch, self.progress.step, figures)
        value = figures[self.settings.monitor]
        better = self.progress.improve(value, LARGER_IS_BETTER[self.settings.monitor])
        if self.accelerator.is_main_process:
            state = {"epoch": epoch + 1, "step": self.progress.step, **json_numbers(figures)}
            for name in [LAST, BEST] if better else [LAST]:
                self.task.save(self.output_dir / name, model, state)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            tqdm.write(f"epoch {epoch + 1}: {shown}{' (best so far)' if better else ''}")


def worth_compiling(steps: int, device_type: str) -> bool:
    """Whether so many steps are compiled by default; device_type: as of torch.device."""
    return steps >= COMPILED_FROM and device_type == "cuda" and find_spec("triton") is not None


def build_accelerator(settings: EngineSettings, output_dir: Path, seed: int) -> Accelerator:
    """The accelerator of a run, its seeds set; SetupError for a tracker, or peft, that is not installed.

    LaunchError and PrecisionError as of `open_accelerator`.
    """
    if missing := [tracker for tracker in settings.trackers if find_spec(tracker) is None]:
        raise SetupError(f"train.trackers: {missing[0]} is not installed; pip install {missing[0]}, or leave it out")
    refuse_missing_peft(settings)
    accelerator = open_accelerator(
        settings.mixed_precision,
        settings.tf32,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=settings.gradient_accumulation, sync_with_dataloader=False
        ),
        log_with=list(settings.trackers) or None,
        project_dir=str(output_dir),
    )
    if accelerator.device.type == "cuda" and accelerator.mixed_precision == "no":
        products = "TF32 (train.tf32)" if settings.tf32 else "full fp32"
        accelerator.print(
            f"products and convolutions in {products}; train.mixed_precision: bf16 takes less time and memory"
        )
    set_seed(seed, device_specific=True)
    return accelerator
