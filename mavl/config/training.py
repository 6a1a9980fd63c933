"""The schemas of what every training shares: optimizer, schedule, adapters, the loop."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from mavl.config.loader import Pattern, Settings

Precision = Literal["no", "fp16", "bf16"] | None
"""None leaves it to `accelerate launch --mixed_precision`."""


class OptimizerSettings(Settings):
    """AdamW.

    backbone_lr: the rate of the backbone and of its adapters, by default lr; the schedule scales both alike.
    layer_decay: each block of the backbone has the rate of the block after it times this (Bao et al. 2022); 1 is none.
    """

    lr: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.02
    backbone_lr: PositiveFloat | None = None
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0


class ScheduleSettings(Settings):
    """A warm-up from warmup_lr, then a cosine by epoch down to min_lr (mavl.train.optim.learning_rate)."""

    epochs: PositiveInt = 60
    min_lr: NonNegativeFloat = 1e-5
    warmup_lr: NonNegativeFloat = 1e-5


class LoraSettings(Settings):
    """Adapters W + alpha / rank · B · A in linear layers of the backbone (Hu et al. 2022), by the package peft.

    dropout: of an adapter's input; targets: regular expression of the whole names of the layers, by default the linear
    layers of the attention, or all linear layers of the blocks of a backbone without attention.
    """

    rank: Annotated[int, Field(ge=1, le=4096)] = 8
    alpha: PositiveFloat = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: Pattern | None = None


class EngineSettings(Settings):
    """What training of any task shares.

    freeze: "backbone" keeps the backbone's weights as they are, in evaluation mode. lora: adapters, which alone are
    trained in the backbone; the rest of it stays in evaluation mode too. checkpoint_every: optimizer steps between
    resumable checkpoints (every validation ends with one); keep: how many stay. monitor: what decides the best model;
    patience: so many validations without a better one end the run (None: never). channels_last: channels innermost in
    images and in weights of convolutions, the faster order on a GPU; of a ViT it concerns the patch embedding alone,
    without a copy. compile: torch.compile the model: a minute or two at the start, then a step of pre-training takes
    some three quarters of its time on a GPU (docs/benchmarks.md). backbone_checkpointing: keep the input alone of each
    block of the backbone and compute its activations again in the backward pass; less memory, more time. tf32: on a
    GPU, fp32 products and convolutions round their inputs to 10 bits behind the point (evaluation and prediction never
    do). mixed_precision bf16 is recommended on a GPU: it takes less memory and time. average: the model that is
    validated and written is a moving average of the weights, which keeps this share of itself at each step (less in the
    first steps); null: the weights themselves.
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
    compile: bool | None = False
    backbone_checkpointing: bool = False
    tf32: bool = True
    freeze: Literal["backbone"] | None = None
    lora: LoraSettings | None = None
    average: Annotated[float, Field(gt=0, lt=1)] | None = None


def refuse_idle_rates(optimizer: OptimizerSettings, train: EngineSettings) -> None:
    """ValueError for rates of a backbone of which nothing is trained."""
    if train.freeze and train.lora is None and (optimizer.backbone_lr is not None or optimizer.layer_decay < 1):
        fix = "leave them or train.freeze out"
        raise ValueError(f"optimizer.backbone_lr and optimizer.layer_decay with train.freeze have no effect: {fix}")


def refuse_higher_rates(lr: float, schedule: ScheduleSettings, warmup: int) -> None:
    """ValueError where a schedule would exceed the optimizer's rate, at its end or in a warm-up longer than 0."""
    rates = {"min_lr": schedule.min_lr} | ({"warmup_lr": schedule.warmup_lr} if warmup else {})
    if above := [f"schedule.{key} ({rate:g})" for key, rate in rates.items() if rate > lr]:
        raise ValueError(f"{' and '.join(above)} above optimizer.lr ({lr:g}), the highest rate: set at most {lr:g}")
