"""The schemas of mavl.json: what a model folder states on its model, by kind."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from mavl.checkpoint.released import MAVL_KIND, CheckpointError
from mavl.config.errors import complaints
from mavl.config.finetune import UNetModel
from mavl.config.loader import ImageSize, Settings, Size, refuse_repeated
from mavl.config.settings import ModelSettings
from mavl.config.training import LoraSettings
from mavl.progress import plural
from mavl.text.scaling import ScalingName

ABOUT = "mavl.json"

Names = Annotated[list[str], Field(min_length=1), AfterValidator(lambda names: refuse_repeated(names, "findings"))]


class MAVLArguments(ModelSettings):
    """Of mavl.model.mavl.MAVL."""

    text_width: Size = 768
    report_head: bool = False


class ClassifierArguments(Settings):
    """Of mavl.model.classifier.Classifier."""

    classes: Size = 1
    backbone: str = "resnet50"
    image_size: ImageSize = 224
    layer4: bool = True
    linear_probe: bool = False


class TrainedOn(BaseModel):
    """What a model has learnt from. kind: drawings of mavl.data.phantom, or films; images: their number.

    collection: of images that several benchmarks share.
    """

    kind: Literal["phantom drawings", "films"]
    list: str
    images: PositiveInt
    collection: str = ""


class StoredCalibration(BaseModel):
    """As mavl.metrics.calibration.Calibration."""

    kind: Literal["temperature", "platt"]
    slope: float
    offset: float
    of_logits: bool


class OperatingPoint(BaseModel):
    """A threshold of a score, chosen on validation; what it gives on `positives` of `images` test images.

    sensitivity, specificity: None where no image has the label. A score from the threshold on is positive. calibration:
    of the score, as mavl.metrics.calibration.Calibration.
    """

    threshold: float
    sensitivity: float | None
    specificity: float | None
    positives: int
    images: int
    calibration: StoredCalibration | None = None


class OperatingPoints(BaseModel):
    """By finding. benchmark: its title; chosen: how the thresholds were chosen."""

    benchmark: str
    chosen: str
    findings: dict[str, OperatingPoint]


class Text(BaseModel):
    """Keyword arguments of the text encoder, its name, and the scaling of its vectors.

    Other kinds of encoder have other arguments too.
    """

    model_config = ConfigDict(extra="allow")

    encoder: str
    max_length: PositiveInt = 128
    sep: bool = False
    lower_case: bool = True
    pooling: Literal["cls", "mean", "pooler"] = "cls"
    normalize: bool = False
    scaling: ScalingName = "none"


class _About(BaseModel):
    """lora: of the adapters in the weights, if there are any. operating_points: of the supervised head."""

    findings: Names
    operating_points: OperatingPoints | None = None
    lora: LoraSettings | None = None
    trained_on: TrainedOn | None = None
    preprocessing: dict[str, Any] | None = None


class MAVLAbout(_About):
    """Of a pre-trained model. aspects: absent in folders of older versions."""

    model: MAVLArguments
    text: Text
    aspects: list[str] | None = None
    anatomies: list[str] | None = None

    @model_validator(mode="after")
    def _statements_agree(self) -> Self:
        if self.aspects is not None and tuple(self.aspects) != self.model.aspects:
            raise ValueError(f"aspects are {self.aspects}, model.aspects {list(self.model.aspects)}")
        side = (self.preprocessing or {}).get("image_size", self.model.image_size)
        if side != self.model.image_size:
            raise ValueError(f"preprocessing.image_size is {side!r}, model.image_size {self.model.image_size}")
        return self


class _FinetunedAbout(_About):
    """Of a fine-tuned model, with a name for each of its outputs."""

    input: dict[str, Any]

    @property
    def outputs(self) -> int:
        return 1

    @model_validator(mode="after")
    def _each_output_has_a_name(self) -> Self:
        if len(self.findings) != self.outputs:
            names = f"findings names {plural(len(self.findings), 'output')}"
            raise ValueError(f"{names}, the model has {plural(self.outputs, 'output')}")
        return self


class ClassifierAbout(_FinetunedAbout):
    """Of a fine-tuned classifier."""

    model: ClassifierArguments

    @property
    def outputs(self) -> int:
        return self.model.classes


class SegmenterAbout(_FinetunedAbout):
    """Of a fine-tuned U-Net, which has one output."""

    model: UNetModel


SCHEMAS: dict[str, type[_About]] = {
    MAVL_KIND: MAVLAbout,
    "classifier": ClassifierAbout,
    "segmenter": SegmenterAbout,
}


def check_about(about: dict, source: Path) -> None:
    """CheckpointError in one line with all that does not fit the schema of the model's kind."""
    kind = about["kind"]
    if not isinstance(kind, str) or kind not in SCHEMAS:
        raise CheckpointError(f"{source}: a model of kind {kind!r}; known are {', '.join(SCHEMAS)}")
    schema = SCHEMAS[kind]
    known = {key: about[key] for key in schema.model_fields if key in about}
    try:
        schema.model_validate_json(json.dumps(known), strict=True)
    except ValidationError as error:
        problems = complaints(schema, error, known)
        raise CheckpointError(f"{source}: damaged, or of another version: {'; '.join(problems.values())}") from error
