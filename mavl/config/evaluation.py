"""The settings of evaluations: zero-shot classification and grounding, and their wordings."""

# pyright: reportIncompatibleVariableOverride=false
# a section may narrow the type of a key, since its fields are frozen, which pyright ignores

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, ValidationInfo, field_validator, model_validator

from mavl.config.loader import Folder, Seed, Settings, Share, Size, Workers, refuse_repeated
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS, TEXT_CACHE
from mavl.config.training import Precision
from mavl.vocab import WORDINGS, Aspect, BuiltInWording

PromptKind = Literal["pairs", "templates", "descriptions", "aspects"]
"""Of a model that compares an image with sentences (CLIP and its like).

pairs: "NAME" against "no NAME" (CheXzero, Tiu et al. 2022); templates: six sentences with the name, against the same
with "no"; descriptions, aspects: the description, or all sentences, of the books, against those of a normal film.
"""


class EvaluationSettings(Settings):
    """What all evaluations of a benchmark share.

    root: the folder of the images, or of small copies of them. protocol: "sound" or "released" (docs/protocols.md).
    findings: those to report (all of the benchmark's when empty); text_encoder, max_length: if not the model's.
    map_aspects, aggregation: how the attention of a finding's aspects becomes its map (mavl.model.heatmaps.MapOptions);
    layers: decoder layers of the map, counted from 0 (all when empty). prompts: of clip: and open_clip: models, "NAME"
    against "no NAME" (pairs), six templates of that, or the description or all sentences of the books against those of
    a normal film. overwrite: replace an earlier result of the same benchmark, model, kind and protocol, which is else
    refused.
    """

    benchmark: str
    root: str | None = None
    model_path: str | None = None
    split: Literal["train", "valid", "test"] = "test"
    protocol: Literal["sound", "released"] = "sound"
    findings: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = DESCRIPTION_BOOKS
    aspects: tuple[str, ...] = ASPECT_BOOKS
    max_length: PositiveInt | None = None
    text_encoder: str | None = None
    text_cache: str | None = TEXT_CACHE
    batch_size: Size = 64
    workers: Workers = 8
    mixed_precision: Precision = None
    check_images: Literal["exists", "header", "decode"] = "header"
    max_bad_share: Share = 0.0
    map_aspects: Annotated[tuple[Aspect, ...], Field(min_length=1)] | None = None
    aggregation: Literal["avg", "max", "global"] = "avg"
    layers: tuple[NonNegativeInt, ...] = ()
    prompts: PromptKind = "pairs"
    resamples: NonNegativeInt = 1000
    seed: Seed = 0
    overwrite: bool = False

    @field_validator("findings", "map_aspects", "layers")
    @classmethod
    def _entries_differ(cls, entries: tuple | None, field: ValidationInfo) -> tuple | None:
        return entries and refuse_repeated(entries, str(field.field_name))


class BookFiles(Settings):
    """Books of another wording. Findings that they lack keep the text of the evaluation's books."""

    descriptions: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()


class SensitivitySettings(Settings):
    """The wordings that a benchmark is scored with, besides the books themselves.

    built_in: made from the books; wordings: {name: other books}; vary: the text of all findings, or of those alone that
    the model was not trained with.
    """

    built_in: tuple[BuiltInWording, ...] = WORDINGS
    wordings: dict[str, BookFiles] = Field(default_factory=dict)
    vary: Literal["all", "new"] = "all"


NEGATION = "negation"
StressName = Literal["window", "rotation", "jpeg", "marker", "flip", "negation"]
"""Changes of films (mavl.data.images.perturb), and of prompts (mavl.evaluate.stress)."""


class ThresholdRule(Settings):
    """How the threshold of a finding is chosen on validation.

    by: the largest F1, or the threshold nearest to the middle with at least `at` of sensitivity or of specificity.
    """

    by: Literal["f1", "sensitivity", "specificity"] = "f1"
    at: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if (self.at is None) != (self.by == "f1"):
            what = "takes no threshold.at" if self.by == "f1" else "needs threshold.at, a share such as 0.95"
            raise ValueError(f"threshold.by {self.by} {what}")
        return self

    @property
    def text(self) -> str:
        return "best F1" if self.at is None else f"{self.by} of at least {self.at:g}"


class ZeroShotSettings(EvaluationSettings):
    """zero_shot_classify.py. head: of the model, "supervised" (presence) or "contrastive" (text).

    html: write a page with the images of highest score of each finding. threshold: how each finding's is chosen on
    validation. calibration: a map of the scores to probabilities that is fitted to validation, with its errors on test
    before and after. save_operating_points: write the thresholds and the calibration, and what they give in this
    evaluation, into the model folder, where predictions use them. In place of the usual table: sensitivity scores
    several wordings and reports how far the AUROC moves; stress reports how far AUROC and scores move under these
    changes of films and prompts.
    """

    head: Literal["supervised", "contrastive"] = "supervised"
    html: bool = True
    sensitivity: SensitivitySettings | None = None
    save_operating_points: bool = False
    threshold: ThresholdRule = ThresholdRule()
    calibration: Literal["temperature", "platt"] | None = None
    stress: tuple[StressName, ...] = ()
    output_dir: Folder = "runs/zero_shot"

    @field_validator("stress")
    @classmethod
    def _tests_differ(cls, tests: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeated(tests, "stress")

    @model_validator(mode="after")
    def _one_analysis(self) -> Self:
        if self.stress and self.sensitivity:
            raise ValueError("sensitivity and stress are two analyses: run them one after the other")
        table = self.save_operating_points or self.calibration or self.threshold.by != "f1"
        if table and (self.stress or self.sensitivity):
            what = "stress" if self.stress else "sensitivity"
            raise ValueError(f"threshold, calibration and save_operating_points are of the usual table, not of {what}")
        return self


class GroundingSettings(EvaluationSettings):
    """zero_shot_ground.py.

    map_size: side in pixels at which map and mask are compared. alignment: "patches" puts each patch at its position,
    "corners" stretches the grid over the image, as the release does; by default the protocol decides. gallery: number
    of best and of worst cases to show. html: write a page.
    """

    map_size: PositiveInt = 224
    alignment: Literal["patches", "corners"] | None = None
    gallery: NonNegativeInt = 4
    html: bool = True
    output_dir: Folder = "runs/grounding"

    @property
    def aligned(self) -> str:
        return self.alignment or ("corners" if self.protocol == "released" else "patches")


PUBLISHED = "configs/published/figures.yaml"
"""Figures of papers, for compare.py."""

Percent = Annotated[float, Field(ge=0, le=100)]


class Published(Settings):
    """Means over a benchmark's findings in %, by a protocol that may be another one than this project's."""

    model: str
    auroc: Percent
    best_f1: Percent | None = None
    protocol: str
    source: str


class PublishedFigures(Settings):
    """figures: by the name of the benchmark."""

    figures: dict[str, tuple[Published, ...]]
