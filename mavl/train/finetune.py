"""What fine-tuning to classify and to segment share: the parts of the run of a seed, and the runs of several seeds."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from mavl.checkpoint.transfer import check_sources
from mavl.config.finetune import FinetuneSettings
from mavl.data.loading import build_loader
from mavl.data.pretraining import EpochBatches, Key
from mavl.report.tables import RESULTS
from mavl.train.engine import Fit, Task, build_accelerator
from mavl.train.optim import build_optimizer, build_scheduler
from mavl.train.run_folder import open_run_folder


class FinetuneError(RuntimeError):
    """A fine-tuning that came to nothing; the message says why."""


class Rounds(EpochBatches):
    """EpochBatches over `rounds` times all images. A round has keys of its own, so that each augments differently."""

    def __init__(self, images: int, rounds: int, *arguments):
        super().__init__(images * rounds, *arguments)
        self.images, self.rounds = images, rounds

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in super().__iter__():
            yield [(epoch * self.rounds + index // self.images, index % self.images) for epoch, index in batch]


def assemble(task: Task, train: Dataset, settings: FinetuneSettings, accelerator: Accelerator, folder: Path) -> Fit:
    """Batches, loader, optimizer and schedule as the settings say, put together for the engine, and said.

    A training set smaller than a step becomes one batch; where its epochs have less than `schedule.min_steps` steps,
    an epoch goes through it several times.
    """
    data, schedule = settings.data, settings.schedule
    processes, accumulation = accelerator.num_processes, settings.train.gradient_accumulation
    batch_size = max(1, min(data.batch_size, len(train) // (processes * accumulation)))
    _check_batch_norm(task.model, batch_size, settings.model.image_size)
    per_step = batch_size * processes * accumulation
    rounds = max(1, math.ceil(schedule.min_steps * per_step / len(train)))
    batches = Rounds(len(train), rounds, batch_size, settings.seed, accelerator.process_index, processes, accumulation)
    pin_memory = data.pin_memory and accelerator.device.type == "cuda"
    loader = build_loader(train, batches, data.workers, pin_memory, persistent=True, prefetch=data.prefetch)
    optimizer = build_optimizer(task.model, **settings.optimizer.model_dump())
    steps = batches.steps_per_epoch
    scheduler = build_scheduler(
        optimizer,
        lr=settings.optimizer.lr,
        min_lr=schedule.min_lr,
        warmup_lr=schedule.warmup_lr,
        warmup_steps=schedule.warmup_epochs * steps,
        warmup_stair=1,
        epochs=schedule.epochs,
        steps_per_epoch=steps,
    )
    accelerator.print(
        f"{processes} × {batch_size} images a step{f' × {accumulation} accumulated' if accumulation > 1 else ''}, "
        f"{steps} steps an epoch{f' ({rounds} times through the images)' if rounds > 1 else ''}, "
        f"{schedule.epochs} epochs, run folder {folder}"
    )
    return Fit(
        accelerator,
        task,
        optimizer,
        scheduler,
        loader,
        batches,
        schedule.epochs,
        settings.train,
        folder,
        settings.train.validate_every,
    )


def _check_batch_norm(model: nn.Module, batch_size: int, image_size: int) -> None:
    """FinetuneError where BatchNorm would get a single value a channel, which has no variance."""
    model.train()
    learns = any(isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in model.modules())
    if learns and batch_size == 1 and image_size <= model.backbone.stride:
        raise FinetuneError(
            f"a batch of 1 image of {image_size} pixels leaves BatchNorm one value a channel (a grid cell takes "
            f"{model.backbone.stride} pixels): raise data.batch_size (and data.data_pct, if few images are drawn) or "
            "model.image_size"
        )


def run_seeds(
    settings: FinetuneSettings, resume: bool, run_seed: Callable[[FinetuneSettings, Accelerator, Path, bool], None]
) -> dict[int, Path]:
    """`run_seed(settings of the seed, accelerator, folder, resume)` for every seed; {seed: its run folder}.

    It ends by writing RESULTS, and a seed that has them already is not run again. All folders are opened before the
    first seed is run: one that holds another run is an error at once.
    """
    folders = {seed: Path(settings.output_dir) / f"seed_{seed}" for seed in settings.seeds}
    todo = [seed for seed, folder in folders.items() if not (resume and (folder / RESULTS).exists())]
    for seed in settings.seeds:
        accelerator = build_accelerator(settings.train, folders[seed], seed)
        if seed == settings.seeds[0]:
            with accelerator.main_process_first():
                if todo:
                    check_sources(settings.init)
                if accelerator.is_main_process:
                    for each, folder in folders.items():
                        open_run_folder(folder, settings.of_seed(each), {}, resume)
        if seed in todo:
            run_seed(settings.of_seed(seed), accelerator, folders[seed], resume)
        else:
            accelerator.print(f"seed {seed}: finished before, {folders[seed] / RESULTS}")
        for tracker in accelerator.trackers:  # end_training would end the process group too, which later seeds need
            tracker.finish()
        accelerator.wait_for_everyone()
        accelerator.free_memory()
    accelerator.end_training()
    return folders
