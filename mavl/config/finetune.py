"""The schemas of fine-tuning's YAML configs, and what classification and segmentation share of them."""

# pyright: reportIncompatibleVariableOverride=false
# as in mavl.config.settings

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from mavl.config.data import LoaderSettings
from mavl.config.loader import Folder, GroupPattern, ImageSize, Seed, Settings, Size, refuse_repeated
from mavl.config.settings import InitSettings
from mavl.config.training import (
    EngineSettings,
    OptimizerSettings,
    ScheduleSettings,
    refuse_higher_rates,
    refuse_idle_rates,
)

Fraction = Annotated[float, Field(gt=0, lt=1)]
Policy = Literal["ignore", "zeros", "ones"]


class FinetuneData(LoaderSettings):
    """A benchmark YAML with a train split, and how much of it is used.

    findings: those to train (all of the benchmark's when empty); data_pct: share of the training images, not a
    percentage (0.01 is 1 %), chosen at random by patient and label; test_share, valid_share: of the training patients,
    taken at random for testing (the same for every seed) and then for validation, each where there is no such split.
    """

    benchmark: str
    findings: tuple[str, ...] = ()
    data_pct: Annotated[float, Field(gt=0, le=1)] = 1.0
    test_share: Fraction = 0.2
    valid_share: Fraction = 0.1
    batch_size: Size = 256

    @field_validator("findings")
    @classmethod
    def _findings_differ(cls, findings: tuple[str, ...]) -> tuple[str, ...]:
        return refuse_repeated(findings, "findings")


class FinetuneOptimizer(OptimizerSettings):
    """AdamW, the released rate."""

    lr: PositiveFloat = 1e-5


class FinetuneSchedule(ScheduleSettings):
    """The warm-up is linear. min_steps: of the optimizer in an epoch; a training set too small for them is repeated."""

    warmup_epochs: NonNegativeInt = 0
    min_steps: PositiveInt = 1


class FinetuneTrain(EngineSettings):
    """validate_every: epochs between validations; the last epoch always ends with one."""

    validate_every: PositiveInt = 1
    keep: PositiveInt = 1


class FinetuneSettings(Settings):
    """What both kinds of fine-tuning share. Each of `seeds` is a run of its own, in `output_dir`/seed_N.

    init: `backbone` initialises the whole network, `checkpoint` is the pre-trained model that then replaces its part.
    A seed decides the random choice of images, the start of new layers, the order and the augmentation.
    resamples: of the bootstrap that gives the intervals on the test split.
    """

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    init: InitSettings = InitSettings()
    optimizer: FinetuneOptimizer = FinetuneOptimizer()
    schedule: FinetuneSchedule = FinetuneSchedule()
    train: FinetuneTrain = FinetuneTrain()
    resamples: NonNegativeInt = 1000

    @field_validator("seeds")
    @classmethod
    def _differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds must differ; given {', '.join(map(str, seeds))}")
        return seeds

    @model_validator(mode="after")
    def _rate_is_reached_and_never_climbs(self) -> Self:
        schedule, lr = self.schedule, self.optimizer.lr
        refuse_higher_rates(lr, schedule, schedule.warmup_epochs)
        refuse_idle_rates(self.optimizer, self.train)
        if schedule.warmup_epochs > schedule.epochs and schedule.warmup_lr < lr:
            lengths = f"schedule.warmup_epochs ({schedule.warmup_epochs}) above schedule.epochs ({schedule.epochs})"
            raise ValueError(f"{lengths}, so that the rate would never reach optimizer.lr: set warmup_epochs lower")
        return self

    def of_seed(self, seed: int) -> Self:
        """The settings of the run of one seed."""
        return self.model_copy(update={"seeds": (seed,)})

    @property
    def seed(self) -> int:
        """That of the run: the only seed of settings from `of_seed`."""
        [seed] = self.seeds
        return seed


class ClassificationData(FinetuneData):
    """unlabelled, uncertain: what a blank and a -1 of the training split count as: nothing, absent or present."""

    unlabelled: Policy = "ignore"
    uncertain: Policy = "ignore"


class ClassifierModel(Settings):
    """As in mavl.model.classifier.Classifier. layer4 is true by default, except in a linear probe of a checkpoint."""

    backbone: str = "resnet50"
    image_size: ImageSize = 224
    layer4: bool | None = None
    linear_probe: bool = False


class ClassificationTrain(FinetuneTrain):
    """monitor: `valid_auroc` (the mean over findings with both labels, largest) or `valid_loss` (smallest)."""

    monitor: Literal["valid_auroc", "valid_loss"] = "valid_auroc"


class FinetuneClsSettings(FinetuneSettings):
    """finetune_cls.py. html: write a page for each result."""

    model: ClassifierModel = ClassifierModel()
    data: ClassificationData
    train: ClassificationTrain = ClassificationTrain()
    html: bool = True
    output_dir: Folder = "runs/finetune_cls"

    @model_validator(mode="after")
    def _probe_trains_no_backbone(self) -> Self:
        if self.model.linear_probe and self.train.lora:
            raise ValueError("model.linear_probe leaves the backbone as it is, train.lora trains it: set one of them")
        return self

    @property
    def layer4(self) -> bool:
        """model.layer4 with its default resolved."""
        chosen = self.model.layer4
        return not (self.model.linear_probe and self.init.checkpoint) if chosen is None else chosen


class MaskFolder(Settings):
    """A folder of images and one of masks (mavl.data.benchmarks.folders), in place of a benchmark.

    suffix: what follows the image's name in the name of its mask; patient: pattern of the patient in an image's path.
    Without subfolders train, valid and test all images are the train split.
    """

    images: str
    masks: str
    suffix: str = ""
    patient: GroupPattern | None = None


class SegmentationData(FinetuneData):
    """findings: the one to outline, where the benchmark has masks of several. Either benchmark or folder is given.

    only_present: leave images without the finding out of all splits, as grounding does. augment: "crop" is the released
    recipe, a random crop (of at least `min_crop`) and flip; "none" does neither.
    """

    benchmark: str | None = None
    folder: MaskFolder | None = None
    findings: Annotated[tuple[str, ...], Field(max_length=1)] = ()
    only_present: bool = False
    batch_size: Size = 64
    augment: Literal["crop", "none"] = "crop"

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.benchmark is None) == (self.folder is None):
            raise ValueError("give either benchmark, a YAML file, or folder, with images and masks")
        return self


class UNetModel(Settings):
    """A U-Net on a ResNet."""

    backbone: Literal["resnet50", "resnet18"] = "resnet50"
    image_size: ImageSize = 224


class SegmentationSchedule(FinetuneSchedule):
    """The released lengths."""

    epochs: PositiveInt = 500
    warmup_epochs: NonNegativeInt = 50


class SegmentationTrain(FinetuneTrain):
    """monitor: `valid_dice` (over all images, largest) or `valid_loss` (smallest)."""

    monitor: Literal["valid_dice", "valid_loss"] = "valid_dice"


class FinetuneSegSettings(FinetuneSettings):
    """finetune_seg.py. gallery: images of each kind on the report's page."""

    model: UNetModel = UNetModel()
    data: SegmentationData
    schedule: SegmentationSchedule = SegmentationSchedule()
    train: SegmentationTrain = SegmentationTrain()
    gallery: NonNegativeInt = 4
    output_dir: Folder = "runs/finetune_seg"
