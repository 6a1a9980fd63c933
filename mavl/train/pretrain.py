"""Pre-training: settings -> a run folder with the best model, the last one, checkpoints and the log."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather

from mavl import checkpoint
from mavl.backbones import Preprocessing
from mavl.checkpoint.released import check_state
from mavl.checkpoint.transfer import check_sources, initialise
from mavl.config.settings import PretrainSettings
from mavl.data.checks import Share
from mavl.data.labels import finding_labels
from mavl.data.launch import main_process_first
from mavl.data.loading import compute_all
from mavl.data.pretraining import EpochBatches, PretrainingDataset, open_data, write_left_out
from mavl.data.samples import ListedSamples
from mavl.metrics.classification import evaluate
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.mavl import MAVL, initialise_as_released
from mavl.model.scores import presence_probability
from mavl.progress import plural
from mavl.text.books import read_books
from mavl.text.embeddings import TextEmbeddings
from mavl.text.reports import ReportVectors
from mavl.train.engine import Fit, MonitorError, build_accelerator
from mavl.train.inputs import data_hashes, describe_images
from mavl.train.run_folder import (
    LEFT_OUT,
    Progress,
    check_data,
    describe_launch,
    open_run_folder,
    resumes,
    run_of,
    scalars,
)
from mavl.train.text import refuse_other_text, report_vectors, text_embeddings
from mavl.train.trainable import lora_of, prepare_backbone
from mavl.vocab import ABSENT, PRESENT

REPORT_HEAD = "report_head."
"""Parameters that a checkpoint to start from may lack, or have without need."""


@dataclass
class Pretraining:
    """The pre-training task for the engine.

    arguments: of the model; text: those of its encoder, with its name; trained_on: for its folder.
    """

    model: MAVL
    arguments: dict
    embeddings: TextEmbeddings
    text: dict
    valid: PretrainingDataset
    settings: PretrainSettings
    trained_on: dict

    @property
    def preprocessing(self) -> Preprocessing:
        return self.model.preprocessing

    def losses(self, model: nn.Module, batch: dict) -> dict[str, Tensor]:
        return self._outputs(model, batch)[0]

    def _outputs(self, model: nn.Module, batch: dict) -> tuple[dict[str, Tensor], Tensor]:
        """The losses, and the presence logits [B, F, 2]."""
        reports = {"reports": batch["report"]} if "report" in batch else {}
        output = model(batch["image"], self.embeddings.vectors, **reports)
        train, gathers = self.settings.train, self.settings.train.report_gather and model.training
        targets = Targets(
            batch["labels"],
            batch["locations"],
            self.embeddings.anatomy_vectors,
            train.contrastive_weight,
            train.report_weight,
            batch.get("study"),
            **({"gather": gather} if gathers and reports else {}),
        )
        return pretraining_losses(output, targets), output.presence_logits

    def validate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """Losses (means over images, each batch by its size) and the mean AUROC over findings with both labels.

        Nothing on a process other than the main one.
        """

        def compute(batch: dict) -> dict[str, Tensor]:
            losses, logits = self._outputs(model, batch)
            each = {f"valid_{name}": value.expand(len(logits)) for name, value in losses.items()}
            return each | {"labels": batch["labels"], "probabilities": presence_probability(logits)}

        rows = compute_all(
            accelerator,
            self.valid,
            [(0, index) for index in range(len(self.valid))],
            compute,
            self.preprocessing,
            batch_size=self.settings.data.eval_batch_size,
            workers=self.settings.data.workers,
            description="validating",
        )
        if rows is None:
            return {}
        evaluation = evaluate(rows.pop("labels"), rows.pop("probabilities"), self.embeddings.findings, resamples=0)
        figures = {name: float(values.mean()) for name, values in rows.items()}
        return figures | {"valid_auroc": evaluation.means["auroc"].value}

    def save(self, folder: Path, model: MAVL, state: dict) -> None:
        config = self.settings.model_dump(mode="json")
        text, trained_on, lora = self.text, self.trained_on, lora_of(self.settings.train)
        checkpoint.save(folder, model, self.arguments, self.embeddings, text, state, config, trained_on, lora)


def run(settings: PretrainSettings, resume: bool = False) -> Progress:
    """Train as the settings say; returns the position of the run at its end, with its best figure.

    After SIGTERM or SIGUSR1 it saves a checkpoint and exits (mavl.train.run_folder.run_of).
    """
    output_dir = Path(settings.output_dir)
    accelerator = build_accelerator(settings.train, output_dir, settings.train.seed)
    resume = resumes(accelerator, resume, [output_dir])
    books = read_books(settings.text.descriptions, settings.text.aspects if len(settings.model.aspects) > 1 else ())
    with main_process_first(accelerator):
        check_sources(settings.init)
    with run_of(accelerator, [output_dir]):
        with main_process_first(accelerator):
            if accelerator.is_main_process:
                open_run_folder(output_dir, settings, books.hashes, resume, describe_launch(accelerator))
            embeddings, text = text_embeddings(settings, books, output_dir)
            if resume and accelerator.is_main_process:
                refuse_other_text(embeddings, output_dir)
            reports = report_vectors(settings, text, output_dir, accelerator)
        fit = _prepare(settings, accelerator, embeddings, text, reports)
        accelerator.init_trackers("mavl", config=scalars(settings))
        progress = fit.run(resume)
        accelerator.end_training()
    return progress


def _prepare(
    settings: PretrainSettings,
    accelerator: Accelerator,
    embeddings: TextEmbeddings,
    text: dict,
    reports: ReportVectors | None,
) -> Fit:
    """The model and the data of a run; prints its size."""
    output_dir = Path(settings.output_dir)
    arguments = settings.model.model_dump(mode="json") | {"text_width": embeddings.vectors.shape[-1]}
    if reports is not None:
        arguments["report_head"] = True
    model = build_model(arguments, settings, accelerator)
    data = open_data(settings, model.preprocessing, accelerator.is_main_process, Share.of_run(accelerator), reports)
    _check_monitor(settings, data.valid, embeddings.findings)
    if accelerator.is_main_process:
        splits = {"train": data.train.samples, "valid": data.valid.samples}
        images = {name: samples.images for name, samples in splits.items() if isinstance(samples, ListedSamples)}
        check_data(output_dir, data_hashes(settings.data, images))
        write_left_out(output_dir / LEFT_OUT, data.left_out)
    processes, accumulation = accelerator.num_processes, settings.train.gradient_accumulation
    batch_size, seed, rank = settings.data.batch_size, settings.train.seed, accelerator.process_index
    batches = EpochBatches(len(data.train), batch_size, seed, rank, processes, accumulation)
    trained_on = describe_images(settings.data, len(data.train))
    task = Pretraining(model, arguments, embeddings.to(accelerator.device), text, data.valid, settings, trained_on)
    schedule = settings.schedule.model_dump() | {"released": settings.recipe == "released"}
    fit = Fit(task, data.train, batches, schedule, settings, accelerator, output_dir)
    accelerator.print(
        f"{len(data.train):,} training and {plural(len(data.valid), 'validation image')}, "
        f"{plural(len(embeddings.findings), 'finding')} × {plural(len(embeddings.aspects), 'aspect')}; "
        f"{processes} × {plural(batch_size, 'image')} a step, {plural(batches.steps_per_epoch, 'step')} an epoch, "
        f"{plural(fit.epochs, 'epoch')}, run folder {output_dir}"
    )
    if settings.schedule.warmup_steps > (steps := fit.epochs * batches.steps_per_epoch):
        warmup = f"the warm-up of {settings.schedule.warmup_steps} steps is longer than the run of {steps}"
        accelerator.print(f"{warmup}: the rate never reaches optimizer.lr; set schedule.warmup_steps lower")
    return fit


def _check_monitor(settings: PretrainSettings, valid: PretrainingDataset, findings: tuple[str, ...]) -> None:
    """MonitorError where the labels of validation give the monitored figure no number."""
    samples = valid.samples
    if settings.train.monitor != "valid_auroc" or not isinstance(samples, ListedSamples):
        return
    present, absent = np.zeros(len(findings), dtype=bool), np.zeros(len(findings), dtype=bool)
    for row in chain.from_iterable(samples.images.kept_labels()):
        labels = finding_labels(samples.store[row]) if samples.store else row
        present, absent = present | (labels == PRESENT), absent | (labels == ABSENT)
        if (present & absent).any():
            return
    raise MonitorError(
        "train.monitor valid_auroc: no finding has present and absent images in the valid split; add images to it, "
        "or set train.monitor to valid_loss"
    )


def build_model(arguments: dict, settings: PretrainSettings, accelerator: Accelerator) -> MAVL:
    """The model with the weights of a whole checkpoint, or with pre-trained weights in its backbone alone."""
    model = MAVL(**arguments)
    if (settings.init.new_layers or settings.recipe) == "released":
        initialise_as_released(model)
    model.decoder.activation_checkpointing = settings.train.activation_checkpointing
    if settings.train.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  (not in torch's stubs)
    init = settings.init
    if init.checkpoint:
        loaded = checkpoint.load(init.checkpoint).model.state_dict()
        report_head = {name: value for name, value in model.state_dict().items() if name.startswith(REPORT_HEAD)}
        loaded = report_head | {
            name: value for name, value in loaded.items() if name in report_head or not name.startswith(REPORT_HEAD)
        }
        check_state(loaded, model.state_dict(), init.checkpoint)
        model.load_state_dict(loaded)
        accelerator.print(f"{init.checkpoint}: all {len(loaded)} tensors taken")
    else:
        initialise(model.backbone, arguments["backbone"], init, accelerator)
    prepare_backbone(model, settings.train, accelerator)
    return model


def gather(own: Tensor) -> Tensor:
    """own [B, …] of this process -> [processes · B, …] of all, with gradients to each."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return own
    return torch.cat(all_gather(own.contiguous()))
