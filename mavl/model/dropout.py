"""Dropout on a CPU, where torch draws its random numbers slowly: a word of 64 bits decides for four values.

Elsewhere, and where torch.compile fuses it anyway, it is torch's own.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LANES = 2**16
"""Chances of dropping are a multiple of 1 / LANES."""


class Dropout(nn.Dropout):
    """nn.Dropout by `dropout`."""

    def forward(self, tensor: Tensor) -> Tensor:
        return dropout(tensor, self.p) if self.training else tensor


def dropout(tensor: Tensor, chance: float) -> Tensor:
    """F.dropout in training: each value is zeroed with this chance, what stays is scaled up, in expectation the same.

    On a CPU the chance is rounded to the nearest 1 / LANES, and what stays is scaled by exactly that.
    """
    if chance == 0:
        return tensor
    if left_to_torch(tensor):
        return F.dropout(tensor, chance)
    dropped, scale = rounded(chance)
    return _Dropout.apply(tensor, draw_kept(tensor.shape, dropped), scale)


def relu_dropout(tensor: Tensor, chance: float) -> Tensor:
    """dropout(F.relu(tensor)), of which only the result is kept for the way back."""
    if chance == 0 or left_to_torch(tensor):
        return dropout(F.relu(tensor), chance)
    return _ReluDropout.apply(tensor, *rounded(chance))


def rounded(chance: float) -> tuple[int, float]:
    """How many LANES drop a value, and by what the others are scaled."""
    dropped = round(chance * LANES)
    return dropped, LANES / (LANES - dropped)


def draw_kept(shape: tuple[int, ...], dropped: int) -> Tensor:
    """Which values stay: uint8 of this shape, each 0 with chance `dropped` / LANES, else 1, by torch's global seed.

    Not bool, which torch turns into numbers a value at a time; and by NumPy, which draws twice as fast as torch and
    compares six times as fast.
    """
    number = torch.Size(shape).numel()
    seed = int(torch.randint(2**63 - 1, ()))
    bits = np.random.SFC64(seed).random_raw(-(-number // 4)).view(np.int16)[:number]
    return torch.from_numpy(bits >= np.int16(dropped - LANES // 2)).view(torch.uint8).view(shape)


def packed(kept: Tensor) -> Tensor:
    """What `draw_kept` gave -> uint8 [values / 8], to be kept for the way back."""
    return torch.from_numpy(np.packbits(kept.numpy()))


def unpacked(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """What `packed` gave -> uint8 of this shape."""
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=torch.Size(shape).numel())).view(shape)


def left_to_torch(tensor: Tensor) -> bool:
    """Whether torch's own kernels are the faster ones: off the CPU, and where torch.compile makes them."""
    return tensor.device.type != "cpu" or torch.compiler.is_compiling()


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(packed(kept))
        ctx.scale = scale
        return _masked(tensor, kept, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (bits,) = ctx.saved_tensors
        return _masked(gradient, unpacked(bits, gradient.shape), ctx.scale), None, None


class _ReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, dropped: int, scale: float) -> Tensor:
        result = torch.empty_like(tensor)
        for number, part in enumerate(tensor):
            torch.clamp_min(part, 0, out=result[number])
            result[number].mul_(draw_kept(part.shape, dropped).to(part.dtype).mul_(scale))
        ctx.save_for_backward(result)
        ctx.scale = scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (result,) = ctx.saved_tensors
        came = torch.empty_like(gradient)
        for number, part in enumerate(gradient):
            # what is above zero was kept, and was above zero
            came[number] = torch.ops.aten.threshold_backward(part, result[number], 0).mul_(ctx.scale)
        return came, None, None


def _masked(tensor: Tensor, kept: Tensor, scale: float) -> Tensor:
    """tensor · kept · scale, a row of the batch at a time, which stays in a processor's cache."""
    result = torch.empty_like(tensor)
    for number, part in enumerate(tensor):
        torch.mul(part, kept[number].to(part.dtype).mul_(scale), out=result[number])
    return result
