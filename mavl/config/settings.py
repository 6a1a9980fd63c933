"""The schemas of the YAML configs: every key, its type, range and default, stated once."""

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from mavl.config.loader import Settings
from mavl.vocab import ASPECTS, FINDINGS, WORDINGS, unknown_name

Share = Annotated[float, Field(ge=0, le=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]


def _has_one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is no pattern ({error})") from error
    if groups != 1:
        raise ValueError(f"the pattern {pattern!r} needs one (group), the part of the name that is the patient")
    return pattern


GroupPattern = Annotated[str, AfterValidator(_has_one_group)]
"""A regular expression whose one (group) finds the patient in a name."""

Precision = Literal["no", "fp16", "bf16"] | None
"""None leaves it to `accelerate launch --mixed_precision`."""

RANDOM = "random"
"""The text encoder of random weights. Former configs call it "drawn"."""

DESCRIPTION_BOOKS = ("concept_gen/books/descriptions.json",)
ASPECT_BOOKS = ("concept_gen/books/aspects.json",)
"""This project's books, below the repository's root."""

TEXT_CACHE = "~/.cache/mavl/banks"
"""Folder of text embeddings that were computed before."""


class ModelSettings(Settings):
    """Keyword arguments of mavl.model.mavl.MAVL, except text_width, which the text encoder decides."""

    backbone: str = "resnet50"
    image_size: Annotated[int, Field(ge=32)] = 224
    aspects: tuple[Literal[ASPECTS], ...] = ASPECTS
    width: PositiveInt = 256
    layers: PositiveInt = 4
    heads: PositiveInt = 4
    feedforward: PositiveInt = 1024
    dropout: Share = 0.1
    feature_dropout: Share = 0.1
    self_attention: bool = True
    contrastive: bool = True


class TextSettings(Settings):
    """Books and text encoder.

    encoder: a hub id, a folder, or "random" (a small BERT with random weights from `seed`, for tests and the demo).
    """

    encoder: str = "emilyalsentzer/Bio_ClinicalBERT"
    seed: int = 0
    sep: bool = False
    max_length: PositiveInt = 128
    lower_case: bool = True
    descriptions: tuple[str, ...] = DESCRIPTION_BOOKS
    aspects: tuple[str, ...] = ASPECT_BOOKS
    cache: str | None = TEXT_CACHE


def _refuse_store(value: str | None) -> None:
    """ValueError unless it is None, as in the run folders of earlier versions."""
    fix = "make it again by prepare_data.py store, and give its folder as root (--root)"
    if value is not None:
        raise ValueError(f"a store is a folder of images now: {fix}")


class ImageFolder(Settings):
    """root: the folder of the images, or of small copies of them that `prepare_data.py store` made."""

    root: str | None = None
    store: Annotated[None, BeforeValidator(_refuse_store)] = Field(default=None, exclude=True)


class LoaderSettings(ImageFolder):
    """What all data sources share. batch_size is per process; max_bad_share: missing or unreadable images tolerated.

    augment: "full" is the released recipe, "crop" its random crop and flip alone, "none" neither: as test images are;
    augment_on: whether the operations of "full" are done by the loader's workers, or on the device for a whole batch.
    prefetch: batches that each worker is ahead; pin_memory: page-locked batches, which reach a GPU faster.
    """

    batch_size: PositiveInt = 124
    eval_batch_size: PositiveInt = 64
    workers: NonNegativeInt = 8
    check_images: Literal["exists", "header", "decode"] = "header"
    max_bad_share: Share = 0.0
    min_crop: Share = 0.2
    augment: Literal["full", "crop", "none"] = "full"
    augment_on: Literal["loader", "device"] = "loader"
    prefetch: PositiveInt = 2
    pin_memory: bool = True


class MimicData(LoaderSettings):
    """The released JSON and NPY files, or those of `prepare_data.py radgraph`.

    Paths in the released JSON start with `prefix`, which `root` replaces; in the other they are below `root`.
    """

    source: Literal["mimic"] = "mimic"
    train_file: str = "data_file/rad_graph_metric_train.json"
    valid_file: str = "data_file/rad_graph_metric_validate.json"
    label_file: str = "data_file/landmark_observation_adj_mtx.npy"
    prefix: str = "/remote-home/share/medical/public/MIMIC-CXR-JPG/MIMIC-CXR/small"


class TableData(LoaderSettings):
    """Images with finding columns: a benchmark YAML with train and valid splits. Locations are then `unspecified`."""

    source: Literal["table"] = "table"
    benchmark: str


class PhantomData(LoaderSettings):
    """Phantoms: `train` new ones every epoch, `valid` always the same. `exclude`: findings never drawn."""

    source: Literal["phantom"] = "phantom"
    seed: int = 0
    train: PositiveInt = 2000
    valid: PositiveInt = 200
    exclude: tuple[str, ...] = ()


class InitSettings(Settings):
    """backbone: "imagenet", "none" (random), or a file; checkpoint: a model folder or released .pth to start from."""

    backbone: str = "imagenet"
    checkpoint: str | None = None


class OptimizerSettings(Settings):
    """AdamW."""

    lr: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.02


class ScheduleSettings(Settings):
    """Warm-up in stairs of `warmup_stair` steps, then a cosine by epoch (mavl.train.optim.learning_rate)."""

    epochs: PositiveInt = 60
    min_lr: NonNegativeFloat = 1e-5
    warmup_lr: NonNegativeFloat = 1e-5
    warmup_steps: NonNegativeInt = 500
    warmup_stair: PositiveInt = 100


def refuse_higher_rates(lr: float, *, min_lr: float, warmup_lr: float, warms_up: bool) -> None:
    """ValueError where a schedule would climb over the optimizer's rate, at its end or in a warm-up."""
    rates = {"schedule.min_lr": min_lr} | ({"schedule.warmup_lr": warmup_lr} if warms_up else {})
    if above := [f"{key} ({rate:g})" for key, rate in rates.items() if rate > lr]:
        raise ValueError(
            f"{' and '.join(above)} above optimizer.lr ({lr:g}), so that the rate would climb over it: "
            f"set at most {lr:g}"
        )


class EngineSettings(Settings):
    """What the engine reads, for any task.

    checkpoint_every: optimizer steps between resumable checkpoints (every validation ends with one); keep: how many
    stay. monitor: what decides the best model; patience: so many validations without a better one end the run (None:
    never). compile: torch.compile the model (a minute or more at the start).
    """

    mixed_precision: Precision = None
    gradient_accumulation: PositiveInt = 1
    max_grad_norm: PositiveFloat | None = None
    log_every: PositiveInt = 20
    checkpoint_every: PositiveInt = 1000
    keep: PositiveInt = 2
    monitor: Literal["valid_loss", "valid_auroc", "valid_dice"] = "valid_loss"
    patience: PositiveInt | None = None
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    channels_last: bool = True
    compile: bool = False


class TrainSettings(EngineSettings):
    """Of pre-training. monitor: `valid_loss` (smallest) or `valid_auroc` (largest).

    activation_checkpointing: compute the activations of the decoder's layers again in the backward pass; less memory,
    more time.
    """

    seed: int = 42
    activation_checkpointing: bool = False
    contrastive_weight: NonNegativeFloat = 0.1
    monitor: Literal["valid_loss", "valid_auroc"] = "valid_loss"


class PretrainSettings(Settings):
    """train_mavl.py."""

    findings: tuple[str, ...] = FINDINGS
    model: ModelSettings = ModelSettings()
    text: TextSettings = TextSettings()
    data: Annotated[MimicData | TableData | PhantomData, Field(discriminator="source")] = MimicData()
    init: InitSettings = InitSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    train: TrainSettings = TrainSettings()
    output_dir: str = "runs/pretrain"

    @field_validator("findings")
    @classmethod
    def _known(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        for finding in findings:
            if finding not in FINDINGS:
                raise ValueError(unknown_name("finding", finding, FINDINGS))
        return findings

    @model_validator(mode="after")
    def _rate_never_climbs(self) -> Self:
        schedule = self.schedule
        rates = {"min_lr": schedule.min_lr, "warmup_lr": schedule.warmup_lr}
        refuse_higher_rates(self.optimizer.lr, **rates, warms_up=schedule.warmup_steps > 0)
        return self


class EvaluationSettings(ImageFolder):
    """What all evaluations of a benchmark share. protocol: "sound" or "released" (docs/protocols.md).

    findings: those to report (all of the benchmark's when empty); text_encoder, max_length: if not the model's.
    map_aspects, aggregation: how the attention of a finding's aspects becomes its map (mavl.model.heatmaps.MapOptions);
    layers: decoder layers of the map, counted from 0 (all when empty).
    """

    benchmark: str
    model_path: str | None = None
    split: Literal["train", "valid", "test"] = "test"
    protocol: Literal["sound", "released"] = "sound"
    findings: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = DESCRIPTION_BOOKS
    aspects: tuple[str, ...] = ASPECT_BOOKS
    max_length: PositiveInt | None = None
    text_encoder: str | None = None
    text_cache: str | None = TEXT_CACHE
    batch_size: PositiveInt = 64
    workers: NonNegativeInt = 8
    mixed_precision: Precision = None
    check_images: Literal["exists", "header", "decode"] = "header"
    max_bad_share: Share = 0.0
    map_aspects: Annotated[tuple[Literal[ASPECTS], ...], Field(min_length=1)] | None = None
    aggregation: Literal["avg", "max", "global"] = "avg"
    layers: tuple[NonNegativeInt, ...] = ()
    resamples: NonNegativeInt = 1000
    seed: int = 0


class BookFiles(Settings):
    """Books of another wording, laid over those of the settings: findings that they lack keep their text."""

    descriptions: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()


class SensitivitySettings(Settings):
    """Which wordings a benchmark is scored under, besides the books themselves.

    built_in: made from the books; wordings: other books, by name; vary: the text of all findings,
    or of those alone that the model was not trained with.
    """

    built_in: tuple[Literal[WORDINGS], ...] = WORDINGS
    wordings: dict[str, BookFiles] = Field(default_factory=dict)
    vary: Literal["all", "new"] = "all"


class ZeroShotSettings(EvaluationSettings):
    """zero_shot_classify.py. head: of the model, "supervised" (presence) or "contrastive" (text).

    html: whether the result folder gets a page to look at, with the surest images of each finding in it.
    sensitivity: score several wordings and report how far the AUROC moves, in place of the usual table.
    """

    head: Literal["supervised", "contrastive"] = "supervised"
    html: bool = True
    sensitivity: SensitivitySettings | None = None
    output_dir: str = "runs/zero_shot"


class GroundingSettings(EvaluationSettings):
    """zero_shot_ground.py.

    map_size: side in pixels at which map and mask are compared; alignment: "patches" puts each patch at its position,
    "corners" stretches the grid over the image as the release does (by default as the protocol has it); gallery: how
    many of the best and of the worst cases are shown; html: whether the result folder gets a page.
    """

    map_size: PositiveInt = 224
    alignment: Literal["patches", "corners"] | None = None
    gallery: NonNegativeInt = 4
    html: bool = True
    output_dir: str = "runs/grounding"

    @property
    def aligned(self) -> str:
        return self.alignment or ("corners" if self.protocol == "released" else "patches")
