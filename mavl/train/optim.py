"""Optimizer and learning rate, from stock torch; the released schedule is in docs/protocols.md."""

import math

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def build_optimizer(model: nn.Module, lr: float, weight_decay: float) -> AdamW:
    """AdamW in one fused kernel. Only matrices and larger parameters decay, not biases, norms and the like."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed, others = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return AdamW(groups, lr=lr, fused=True)


def learning_rate(
    step: int,
    *,
    lr: float,
    min_lr: float,
    warmup_lr: float,
    warmup_steps: int,
    warmup_stair: int,
    epochs: int,
    steps_per_epoch: int,
    released: bool = False,
) -> float:
    """The rate at an optimizer step (from 0): warm-up in stairs, then a cosine that moves once an epoch.

    The cosine is `lr` in epoch 0 and `min_lr` in the last epoch. As `released`, the last epoch is one epoch away from
    `min_lr`, each stair begins one step later, and the warm-up ends with epoch 0, however short that is.
    """
    epoch = min(step // steps_per_epoch, epochs - 1)
    warm = max(0, step - 1) if released else step
    if warm < warmup_steps and (epoch == 0 or not released):
        climbed = warm // warmup_stair * warmup_stair
        return warmup_lr + (lr - warmup_lr) * climbed / warmup_steps
    progress = epoch / max(1, epochs if released else epochs - 1)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * progress)) / 2


def build_scheduler(optimizer: Optimizer, *, lr: float, **schedule) -> LambdaLR:
    """`learning_rate` as a scheduler; call its step() once an optimizer step."""
    return LambdaLR(optimizer, lambda step: learning_rate(step, lr=lr, **schedule) / lr)
