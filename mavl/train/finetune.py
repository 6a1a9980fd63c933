"""Fine-tuning with several seeds: for each one a run folder with its best model, tested.

mavl.train.classification and mavl.train.segmentation define the network, its data and its test.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor
from torch.utils.data import Dataset

from mavl.backbones import Preprocessing
from mavl.checkpoint import BEST, finetuned
from mavl.checkpoint.finetuned import Finetuned
from mavl.checkpoint.transfer import Transfer, check_sources
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.data.checks import Share
from mavl.data.classification import write_images
from mavl.data.images.transforms import with_interpolation
from mavl.data.launch import main_process_first
from mavl.data.lists import ImageList
from mavl.data.loading import compute_all
from mavl.data.pretraining import EpochBatches, Key, write_left_out
from mavl.data.segmentation import MaskedData
from mavl.files import refuse_link, write_json
from mavl.provenance import provenance
from mavl.report.tables import RESULTS
from mavl.report.training import TRAINING, plot_training
from mavl.train.engine import Fit, Task, build_accelerator
from mavl.train.inputs import data_hashes, describe_images, names_root
from mavl.train.run_folder import (
    LEFT_OUT,
    LOG,
    Progress,
    check_data,
    describe_launch,
    open_run_folder,
    resumes,
    run_of,
    scalars,
)
from mavl.train.trainable import lora_of, prepare_backbone

IMAGES, STARTED_FROM = "images.csv", "started_from.json"
Settings = FinetuneClsSettings | FinetuneSegSettings


class Finetuning(ABC):
    """The training of one seed as a task for the engine, and its test.

    kind: of mavl.checkpoint.finetuned.KINDS. curves: {title: {label: name in the log}}, for the plot of the training.
    arguments: of the network. transfers: the sources of its weights. progress: that at the end of the training.
    """

    kind: ClassVar[str]
    curves: ClassVar[Mapping[str, Mapping[str, str]]]
    progress: Progress

    def __init__(self, settings: Any, accelerator: Accelerator):
        self.settings, self.accelerator = settings, accelerator
        self.model, self.arguments, self.transfers = self.build_model()  # first: it may not fit, and data take minutes
        prepare_backbone(self.model, settings.train, accelerator)
        self.data = self.open_data(settings, accelerator, Share.of_run(accelerator))
        self.model.backbone.preprocessing = with_interpolation(self.preprocessing, self.data.interpolation)
        if settings.train.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)

    @abstractmethod
    def build_model(self) -> tuple[Any, dict, list[Transfer]]:
        """The network with its initial weights, its arguments, and the sources of the weights."""

    @staticmethod
    @abstractmethod
    def open_data(settings: Any, accelerator: Accelerator, share: Share | None = None) -> MaskedData:
        """The data of a run with these settings; prints their size and the decisions on them.

        share: the part of the files that this process checks, by default all.
        """

    @abstractmethod
    def images(self, split: str, augment: bool = False) -> Dataset: ...

    @abstractmethod
    def losses(self, model: Any, batch: dict) -> dict[str, Tensor]: ...

    @abstractmethod
    def validate(self, model: Any, accelerator: Accelerator) -> dict[str, float]: ...

    @abstractmethod
    def test(self, best: Finetuned, model: Any, about: dict, folder: Path) -> None:
        """Test the best model, with every process; the main one writes the results, RESULTS as the last file.

        model: the network of `best` as accelerate runs it. about: the conditions of the result, for its files.
        """

    @property
    def preprocessing(self) -> Preprocessing:
        return self.model.preprocessing

    def compute(self, split: str, function: Callable[[dict], dict[str, Tensor]]) -> dict[str, np.ndarray] | None:
        """function(batch) -> {name: tensor [b, …]} over a split without augmentation; None but on the main process."""
        return compute_all(
            self.accelerator,
            self.images(split),
            [(0, index) for index in range(len(self.data.splits[split]))],
            function,
            self.preprocessing,
            batch_size=self.settings.data.eval_batch_size,
            workers=self.settings.data.workers,
            description=split,
        )

    def save(self, folder: Path, model: Any, state: dict) -> None:
        findings, config = self.data.splits["train"].findings, self.settings.model_dump(mode="json")
        trained_on, equalize = describe_images(self.settings.data, len(self.data.splits["train"])), self.data.equalize
        rest = (state, config, trained_on, lora_of(self.settings.train))
        finetuned.save(folder, self.kind, model, self.arguments, findings, equalize, *rest)


class Rounds(EpochBatches):
    """EpochBatches over `rounds` times all images. A round has keys of its own, so that each augments differently."""

    def __init__(self, images: int, rounds: int, *arguments: int):
        super().__init__(images * rounds, *arguments)
        self.images, self.rounds = images, rounds

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in super().__iter__():
            yield [(epoch * self.rounds + index // self.images, index % self.images) for epoch, index in batch]


def assemble(task: Task, train: Dataset, settings: Settings, accelerator: Accelerator, folder: Path) -> Fit:
    """The run as the settings say; prints its size.

    A training set smaller than a step becomes one batch. Where its epochs have less than `schedule.min_steps` steps, an
    epoch goes several times through the images.
    """
    images, schedule = len(train), settings.schedule  # pyright: ignore[reportArgumentType]  (all datasets have a length)
    processes, accumulation = accelerator.num_processes, settings.train.gradient_accumulation
    batch_size = max(1, min(settings.data.batch_size, images // (processes * accumulation)))
    rounds = max(1, math.ceil(schedule.min_steps * batch_size * processes * accumulation / images))
    batches = Rounds(images, rounds, batch_size, settings.seed, accelerator.process_index, processes, accumulation)
    rates = {
        "min_lr": schedule.min_lr,
        "warmup_lr": schedule.warmup_lr,
        "warmup_steps": schedule.warmup_epochs * batches.steps_per_epoch,
        "warmup_stair": 1,
        "epochs": schedule.epochs,
    }
    accelerator.print(
        f"{processes} × {batch_size} images a step{f' × {accumulation} accumulated' if accumulation > 1 else ''}, "
        f"{batches.steps_per_epoch} steps an epoch{f' ({rounds} times through the images)' if rounds > 1 else ''}, "
        f"{schedule.epochs} epochs, run folder {folder}"
    )
    return Fit(task, train, batches, rates, settings, accelerator, folder, settings.train.validate_every)


def run_seeds(task: type[Finetuning], settings: Settings, resume: bool = False) -> dict[int, Path] | None:
    """Train and test with every seed; the main process returns {seed: its run folder}, the others None.

    A seed with RESULTS in its folder is not run again. All folders are opened before the first seed is run: one that
    holds another run is an error at once, as are other data than those of a finished seed.
    """
    folders = {seed: Path(settings.output_dir) / f"seed_{seed}" for seed in settings.seeds}
    for folder in folders.values():
        refuse_link(folder)
    accelerator = build_accelerator(settings.train, Path(settings.output_dir), settings.seeds[0])
    resume = resumes(accelerator, resume, folders.values())
    todo = [seed for seed, folder in folders.items() if not (resume and (folder / RESULTS).exists())]
    with main_process_first(accelerator):
        if todo:
            check_sources(settings.init)
    launch = describe_launch(accelerator)
    with run_of(accelerator, folders.values()):
        with main_process_first(accelerator):
            for each, folder in folders.items() if accelerator.is_main_process else ():
                open_run_folder(folder, settings.of_seed(each), {}, resume, launch)
                if each not in todo:
                    of_seed = settings.of_seed(each)
                    _check_data(folder, of_seed, task.open_data(of_seed, accelerator))
        for seed, folder in folders.items():
            if seed in todo:
                _run_seed(task, settings.of_seed(seed), folder, resume)
            else:
                accelerator.print(f"seed {seed}: finished before, {folder / RESULTS}")
    state = PartialState()
    state.destroy_process_group()
    return folders if state.is_main_process else None


def _check_data(folder: Path, settings: Settings, data: MaskedData) -> None:
    """ResumeError where the folder's run read other data."""
    root = names_root(settings.data)
    images = {name: ImageList.of_paths(root, split.paths, (), split.labels) for name, split in data.splits.items()}
    check_data(folder, data_hashes(settings.data, images))


def _run_seed(kind: type[Finetuning], settings: Settings, folder: Path, resume: bool) -> None:
    accelerator = build_accelerator(settings.train, folder, settings.seed)
    task = kind(settings, accelerator)
    if accelerator.is_main_process:
        _check_data(folder, settings, task.data)
        write_json(folder / STARTED_FROM, [vars(transfer) for transfer in task.transfers])
        write_images(folder / IMAGES, task.data.splits, task.data.root)
        write_left_out(folder / LEFT_OUT, task.data.left_out)
    fit = assemble(task, task.images("train", augment=True), settings, accelerator, folder)
    accelerator.init_trackers("mavl", config=scalars(settings))
    task.progress = fit.run(resume)
    about = {
        "title": task.data.title,
        "split": "test",
        "seed": settings.seed,
        "data_pct": settings.data.data_pct,
        "started_from": list(map(str, task.transfers)) or ["random weights"],
        "notes": task.data.notes,
        "best_step": task.progress.best_step,
        "left_out": task.data.left_out,
        "provenance": provenance(),
    }
    if accelerator.is_main_process:
        plot_training(folder / LOG, folder / TRAINING, task.progress.best_step, task.curves)
    best = finetuned.load(folder / BEST)
    task.test(best, accelerator.prepare_model(best.model, evaluation_mode=True).eval(), about, folder)
    for tracker in accelerator.trackers:  # end_training would end the process group too, which later seeds need
        tracker.finish()
    accelerator.wait_for_everyone()
    accelerator.free_memory()
