"""Pre-training: settings -> a run folder with the best model, the last one, checkpoints and the log."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mavl import checkpoint
from mavl.backbones import Preprocessing
from mavl.backbones.weights import load_pretrained
from mavl.checkpoint.released import check_state
from mavl.checkpoint.transfer import check_sources
from mavl.config.settings import RANDOM, PretrainSettings, TextSettings
from mavl.data.loading import build_loader, compute_all
from mavl.data.pretraining import (
    EpochBatches,
    PretrainingData,
    PretrainingDataset,
    open_data,
    write_left_out,
)
from mavl.metrics.classification import auroc
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.mavl import MAVL
from mavl.model.scores import presence_probability
from mavl.text.books import Books, read_books
from mavl.text.embeddings import TextEmbeddings, build_embeddings
from mavl.text.encoder import load_text_encoder
from mavl.text.random_bert import write_random_bert
from mavl.train.engine import Fit, build_accelerator
from mavl.train.optim import build_optimizer, build_scheduler
from mavl.train.resume import Progress
from mavl.train.run_folder import open_run_folder, scalars
from mavl.vocab import ABSENT, ANATOMIES, PRESENT, anatomy_sentence

LEFT_OUT = "left_out.json"


@dataclass
class Pretraining:
    """The pre-training task for the engine."""

    model: MAVL
    arguments: dict
    embeddings: TextEmbeddings
    valid: PretrainingDataset
    settings: PretrainSettings

    @property
    def preprocessing(self) -> Preprocessing:
        return self.model.preprocessing

    def losses(self, model: nn.Module, batch: dict) -> dict[str, Tensor]:
        return pretraining_losses(model(batch["image"], self.embeddings.vectors), self._targets(batch))

    def _targets(self, batch: dict) -> Targets:
        anatomy_vectors, weight = self.embeddings.anatomy_vectors, self.settings.train.contrastive_weight
        return Targets(batch["labels"], batch["locations"], anatomy_vectors, weight)

    def validate(self, model: nn.Module, accelerator: Accelerator) -> dict[str, float]:
        """Losses (means over images, each batch by its size) and the mean AUROC over findings with both labels."""
        data = self.settings.data
        rows = compute_all(
            accelerator,
            self.valid,
            [(0, index) for index in range(len(self.valid))],
            partial(self._validate_batch, model),
            self.model.preprocessing,
            batch_size=data.eval_batch_size,
            workers=data.workers,
            description="validating",
        )
        labels, probabilities = rows.pop("labels"), rows.pop("probabilities")
        columns = [(label, score, label != -1) for label, score in zip(labels.T, probabilities.T, strict=True)]
        areas = [
            auroc(label[known], score[known])
            for label, score, known in columns
            if {PRESENT, ABSENT} <= set(label[known].tolist())
        ]
        figures = {f"valid_{name}": float(values.mean()) for name, values in rows.items()}
        return figures | {"valid_auroc": float(np.mean(areas)) if areas else float("nan")}

    def _validate_batch(self, model: nn.Module, batch: dict) -> dict[str, Tensor]:
        output = model(batch["image"], self.embeddings.vectors)
        losses = pretraining_losses(output, self._targets(batch))
        each = {name: value.expand(len(batch["index"])) for name, value in losses.items()}
        return each | {"labels": batch["labels"], "probabilities": presence_probability(output.presence_logits)}

    def save(self, folder: Path, model: nn.Module, state: dict) -> None:
        text = encoder_arguments(self.settings.text, Path(self.settings.output_dir))
        config = self.settings.model_dump(mode="json")
        checkpoint.save(folder, model, self.arguments, self.embeddings, text, state, config)


def run(settings: PretrainSettings, resume: bool = False) -> Progress:
    """Train as the settings say; returns how far the run came and its best figure."""
    output_dir = Path(settings.output_dir)
    accelerator = build_accelerator(settings.train, output_dir, settings.train.seed)
    books = read_books(settings.text.descriptions, settings.text.aspects if len(settings.model.aspects) > 1 else ())
    with accelerator.main_process_first():
        check_sources(settings.init)
        if accelerator.is_main_process:
            open_run_folder(output_dir, settings, books.hashes, resume)
        embeddings = text_embeddings(settings, books, output_dir)
    arguments = settings.model.model_dump(mode="json") | {"text_width": embeddings.vectors.shape[-1]}
    model = build_model(arguments, settings, accelerator)
    with accelerator.main_process_first():
        data = open_data(settings, model.preprocessing, progress=accelerator.is_main_process)
    if accelerator.is_main_process:
        write_left_out(output_dir / LEFT_OUT, data.left_out)
    task = Pretraining(model, arguments, embeddings.to(accelerator.device), data.valid, settings)
    fit = assemble(task, data, accelerator)
    accelerator.print(
        f"{len(data.train)} training and {len(data.valid)} validation images, {len(embeddings.findings)} findings × "
        f"{len(embeddings.aspects)} aspects; {accelerator.num_processes} × {settings.data.batch_size} images a step, "
        f"{fit.batches.steps_per_epoch} steps an epoch, {fit.epochs} epochs, run folder {output_dir}"
    )
    if settings.schedule.warmup_steps > (steps := fit.epochs * fit.batches.steps_per_epoch):
        warmup = f"the warm-up of {settings.schedule.warmup_steps} steps is longer than the run of {steps}"
        accelerator.print(f"{warmup}: the rate never reaches optimizer.lr; set schedule.warmup_steps lower")
    accelerator.init_trackers("mavl", config=scalars(settings))
    progress = fit.run(resume)
    accelerator.end_training()
    return progress


def assemble(task: Pretraining, data: PretrainingData, accelerator: Accelerator) -> Fit:
    """Batches, loader, optimizer and schedule as the task's settings say, put together for the engine."""
    settings = task.settings
    batches = EpochBatches(
        len(data.train),
        settings.data.batch_size,
        settings.train.seed,
        accelerator.process_index,
        accelerator.num_processes,
        settings.train.gradient_accumulation,
    )
    workers, prefetch = settings.data.workers, settings.data.prefetch
    pin_memory = settings.data.pin_memory and accelerator.device.type == "cuda"
    loader = build_loader(data.train, batches, workers, pin_memory, persistent=True, prefetch=prefetch)
    optimizer = build_optimizer(task.model, **settings.optimizer.model_dump())
    schedule = settings.schedule.model_dump() | {"steps_per_epoch": batches.steps_per_epoch}
    scheduler = build_scheduler(optimizer, lr=settings.optimizer.lr, **schedule)
    epochs, output_dir = settings.schedule.epochs, Path(settings.output_dir)
    return Fit(accelerator, task, optimizer, scheduler, loader, batches, epochs, settings.train, output_dir)


def build_model(arguments: dict, settings: PretrainSettings, accelerator: Accelerator) -> MAVL:
    """Initialise, then load: the backbone's pre-trained weights, or a whole checkpoint."""
    model = MAVL(**arguments)
    model.decoder.activation_checkpointing = settings.train.activation_checkpointing
    if settings.train.channels_last:
        model = model.to(memory_format=torch.channels_last)
    init = settings.init
    if init.checkpoint:
        loaded = checkpoint.load(init.checkpoint).model.state_dict()
        check_state(loaded, model.state_dict(), init.checkpoint)
        model.load_state_dict(loaded)
        accelerator.print(f"{init.checkpoint}: all {len(loaded)} tensors taken")
    elif init.backbone != "none":
        with accelerator.local_main_process_first():  # one download a node
            taken, left = load_pretrained(model.backbone, arguments["backbone"], init.backbone)
        accelerator.print(f"backbone from {init.backbone}: {len(taken)} tensors taken, left out {left or 'none'}")
    return model


def encoder_arguments(text: TextSettings, output_dir: Path) -> dict:
    """Keyword arguments of the configured text encoder; a random one lies in the run folder."""
    folder = str(output_dir / checkpoint.TEXT_ENCODER)
    encoder = folder if text.encoder == RANDOM else text.encoder
    return {"encoder": encoder, "sep": text.sep, "max_length": text.max_length, "lower_case": text.lower_case}


def text_embeddings(settings: PretrainSettings, books: Books, output_dir: Path) -> TextEmbeddings:
    """The embeddings of the findings and aspects to train on, from the books, by the configured encoder."""
    text = settings.text
    folder = output_dir / checkpoint.TEXT_ENCODER
    if text.encoder == RANDOM and not folder.exists():
        sentences = [sentence for aspects in books.sentences.values() for sentence in aspects.values()]
        write_random_bert(folder, [*sentences, *map(anatomy_sentence, ANATOMIES)], text.seed)
    arguments = encoder_arguments(text, output_dir)
    encoder = load_text_encoder(arguments.pop("encoder"), **arguments)
    cache = Path(text.cache).expanduser() if text.cache else None
    return build_embeddings(books, settings.findings, encoder, settings.model.aspects, cache)
