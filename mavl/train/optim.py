"""Optimizer and learning rate, from stock torch; the released schedule is in docs/protocols.md."""

import math
from typing import cast

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mavl.backbones import Backbone

Tensors = tuple[Tensor, ...] | list[Tensor]


def build_optimizer(
    model: nn.Module, lr: float, weight_decay: float, backbone_lr: float | None = None, layer_decay: float = 1.0
) -> AdamW:
    """AdamW in one fused kernel. Only matrices and larger parameters decay, not biases, norms and the like.

    Args:
        lr: the rate of all parameters, or of those outside the backbone.
        backbone_lr: the rate of those in `model.backbone`.
        layer_decay: each block of the backbone has this times the rate of the block after it.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rates: dict[Tensor, float] = {}
    if backbone_lr is not None or layer_decay < 1:
        rates = _backbone_rates(cast(Backbone, model.backbone), backbone_lr or lr, layer_decay)
    groups = []
    for rate in dict.fromkeys([lr, *(rates[each] for each in parameters if each in rates)]):
        of_rate = [parameter for parameter in parameters if rates.get(parameter, lr) == rate]
        decayed, others = [p for p in of_rate if p.ndim >= 2], [p for p in of_rate if p.ndim < 2]
        groups.append({"params": decayed, "weight_decay": weight_decay, "lr": rate})
        groups.append({"params": others, "weight_decay": 0.0, "lr": rate})
    return AdamW(groups, lr=lr, fused=True)


def _backbone_rates(backbone: Backbone, lr: float, layer_decay: float) -> dict[Tensor, float]:
    """{parameter: its rate}: lr after the last block, and layer_decay times the rate of what follows before it.

    With n blocks the stem has lr · layer_decay^(n + 1), as in BEiT (Bao et al. 2022). What lies between two blocks, as
    a reduction of the grid, has the rate of the one before it.
    """
    blocks, rates, passed = list(backbone.blocks), {}, 0
    block_of = {parameter: number for number, block in enumerate(blocks, start=1) for parameter in block.parameters()}
    for parameter in cast(nn.Module, backbone).parameters():
        passed = max(passed, block_of.get(parameter, 0))
        after_all = passed == len(blocks) and parameter not in block_of
        depth = len(blocks) + 1 if after_all else block_of.get(parameter, passed)
        rates[parameter] = lr * layer_decay ** (len(blocks) + 1 - depth)
    return rates


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
    """`learning_rate` as a scheduler; call its step() once an optimizer step.

    Each group's own rate is scaled by the same factor, the rate of the step over lr.
    """
    return LambdaLR(optimizer, lambda step: learning_rate(step, lr=lr, **schedule) / lr)


def average_weights(model: nn.Module, kept: float) -> AveragedModel:
    """The exponential moving average of the weights and the BatchNorm statistics of a model (Polyak and Juditsky 1992).

    Its update_parameters(model) follows each optimizer step. After n steps it keeps min(kept, (1 + n) / (10 + n)) of
    itself, so that the random start is forgotten in a few steps.
    """

    def update(averages: Tensors, weights: Tensors, _: int | Tensor) -> None:
        steps = int(average.n_averaged)  # the argument is on the weights' device, for which the host would wait
        get_ema_multi_avg_fn(min(kept, (1 + steps) / (10 + steps)))(averages, weights, steps)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average  # by its name, since update uses it
