"""A training small enough to be worked out by hand: one weight and one bias, 16 numbers."""

import torch
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.utils.data import Dataset

from mavl.backbones import Preprocessing
from mavl.config.settings import PretrainSettings
from mavl.data.pretraining import EpochBatches
from mavl.train.engine import Fit, build_accelerator

IMAGES = 16


def forget_accelerator() -> None:
    """The next accelerator is built anew; accelerate keeps the state of one for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Numbers(Dataset):
    """dataset[epoch, index] -> x = index / 16, index."""

    def __len__(self):
        return IMAGES

    def __getitem__(self, key):
        return {"x": torch.tensor([key[1] / IMAGES]), "index": key[1]}


class Line:
    """Fit y = 3x; the loss turns NaN from a given step on."""

    preprocessing = Preprocessing()

    def __init__(self, nan_from: int | None = None):
        torch.manual_seed(0)
        self.model, self.nan_from, self.calls, self.saved = nn.Linear(1, 1), nan_from, 0, []

    def losses(self, model, batch):
        self.calls += 1
        error = ((model(batch["x"]) - 3 * batch["x"]) ** 2).mean()
        if self.nan_from is not None and self.calls >= self.nan_from:
            error = error * float("nan")
        return {"loss": error}

    def validate(self, model, accelerator):
        return {"valid_loss": (model.weight - 3).abs().item()}

    def save(self, folder, model, state):
        self.saved.append((folder.name, state["step"]))


def fit(
    task: Line, folder, batch_size: int = 4, accumulation: int = 1, epochs: int = 2, every: int = 1, **train
) -> Fit:
    """At a learning rate that stays the same."""
    train |= {"gradient_accumulation": accumulation}
    data = {"source": "phantom", "workers": 0}
    settings = PretrainSettings(train=train, data=data, optimizer={"lr": 0.05, "weight_decay": 0.0})
    accelerator = build_accelerator(settings.train, folder, settings.train.seed)
    batches = EpochBatches(IMAGES, batch_size, 0, 0, 1, accumulation)
    schedule = {"min_lr": 0.05, "warmup_lr": 0.05, "warmup_steps": 0, "warmup_stair": 1, "epochs": epochs}
    folder.mkdir(exist_ok=True)
    return Fit(task, Numbers(), batches, schedule, settings, accelerator, folder, every)
