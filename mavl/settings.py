"""The schemas of the YAML configs: every key, its type, range and default, stated once."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from mavl.config import Settings
from mavl.vocab import ASPECTS, FINDINGS, GROUNDING_ASPECTS, HEALTHY, unknown_name

Share = Annotated[float, Field(ge=0, le=1)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]

Precision = Literal["no", "fp16", "bf16"] | None
"""None leaves it to `accelerate launch --mixed_precision`."""

DRAWN = "drawn"


class ModelSettings(Settings):
    """Keyword arguments of mavl.model.MAVL, except text_width, which the text encoder decides."""

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

    encoder: a hub id, a folder, or "drawn" (a small BERT from `seed`, for tests and the demo).
    """

    encoder: str = "emilyalsentzer/Bio_ClinicalBERT"
    seed: int = 0
    sep: bool = False
    max_length: PositiveInt = 128
    lower_case: bool = True
    descriptions: tuple[str, ...] = ("concept_gen/books/descriptions.json",)
    aspects: tuple[str, ...] = ("concept_gen/books/aspects.json",)
    cache: str | None = "~/.cache/mavl/banks"


class LoaderSettings(Settings):
    """What all data sources share. batch_size is per process; max_bad_share: missing or unreadable images tolerated.

    augment: "full" is the released recipe, "crop" its random crop and flip alone, "none" neither: as test images are.
    """

    root: str | None = None
    batch_size: PositiveInt = 124
    eval_batch_size: PositiveInt = 64
    workers: NonNegativeInt = 8
    check_images: Literal["exists", "header", "decode"] = "header"
    max_bad_share: Share = 0.0
    min_crop: Share = 0.2
    augment: Literal["full", "crop", "none"] = "full"


class MimicData(LoaderSettings):
    """The released JSON and NPY files; paths in the JSON start with `prefix`, which `root` replaces."""

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
    """Drawn images: `train` new ones every epoch, `valid` always the same. `exclude`: findings never drawn."""

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
    """Warm-up in stairs of `warmup_stair` steps, then a cosine by epoch (mavl.optim.learning_rate)."""

    epochs: PositiveInt = 60
    min_lr: NonNegativeFloat = 1e-5
    warmup_lr: NonNegativeFloat = 1e-5
    warmup_steps: NonNegativeInt = 500
    warmup_stair: PositiveInt = 100


class TrainSettings(Settings):
    """checkpoint_every: optimizer steps between resumable checkpoints (every epoch ends with one); keep: how many stay.

    monitor: what decides the best model, `valid_loss` (smallest) or `valid_auroc` (largest).
    """

    seed: int = 42
    mixed_precision: Precision = None
    gradient_accumulation: PositiveInt = 1
    max_grad_norm: PositiveFloat | None = None
    contrastive_weight: NonNegativeFloat = 0.1
    log_every: PositiveInt = 20
    checkpoint_every: PositiveInt = 1000
    keep: PositiveInt = 2
    monitor: Literal["valid_loss", "valid_auroc"] = "valid_loss"
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ()
    channels_last: bool = True


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


class EvaluationSettings(Settings):
    """What all evaluations of a benchmark share. protocol: "sound" or "released" (docs/protocols.md).

    findings: those to report (all of the benchmark's when empty); text_encoder, max_length: if not the model's.
    """

    benchmark: str
    model_path: str | None = None
    root: str | None = None
    split: Literal["train", "valid", "test"] = "test"
    protocol: Literal["sound", "released"] = "sound"
    findings: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = ("concept_gen/books/descriptions.json",)
    aspects: tuple[str, ...] = ("concept_gen/books/aspects.json",)
    max_length: PositiveInt | None = None
    text_encoder: str | None = None
    bank_cache: str | None = "~/.cache/mavl/banks"
    batch_size: PositiveInt = 64
    workers: NonNegativeInt = 8
    mixed_precision: Precision = None
    check_images: Literal["exists", "header", "decode"] = "header"
    max_bad_share: Share = 0.0
    resamples: NonNegativeInt = 1000
    seed: int = 0

    @property
    def compared_with(self) -> tuple[str, ...]:
        """Findings that the bank must hold besides the benchmark's."""
        return ()


class ZeroShotSettings(EvaluationSettings):
    """zero_shot_classify.py. head: of the model, "supervised" (presence) or "contrastive" (text).

    html: whether the result folder gets a page to look at, with the surest images of each finding in it.
    """

    head: Literal["supervised", "contrastive"] = "supervised"
    html: bool = True
    output_dir: str = "runs/zero_shot"

    @property
    def compared_with(self) -> tuple[str, ...]:
        return HEALTHY if self.head == "contrastive" else ()


class GroundingSettings(EvaluationSettings):
    """zero_shot_ground.py.

    map_aspects, aggregation: how the attention of a finding's aspects becomes its map (mavl.heatmaps); layers: those of
    the decoder to take it from, counted from 0 (all when empty); map_size: side in pixels at which map and mask are
    compared; gallery: how many of the best and of the worst cases are shown.
    """

    map_aspects: Annotated[tuple[Literal[ASPECTS], ...], Field(min_length=1)] = GROUNDING_ASPECTS
    aggregation: Literal["avg", "max", "global"] = "avg"
    layers: tuple[NonNegativeInt, ...] = ()
    map_size: PositiveInt = 224
    gallery: NonNegativeInt = 4
    output_dir: str = "runs/grounding"
