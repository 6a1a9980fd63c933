"""Dropout and attention for a CPU, where those of torch are slow (docs/benchmarks.md).

On other devices and under torch.compile they are torch's own. MAVL_CPU_KERNELS=0 in the environment, read when this
module is imported, makes them torch's own on a CPU too. Both ways compute the same function, but with the same seed
they drop other values.

- NumPy makes random masks several times as fast as torch. 16 random bits decide about a value, so that a probability is
  rounded to a multiple of 2⁻¹⁶; the values that stay are scaled by the rounded probability. A mask is kept for the
  backward pass as one bit for each value.
- torch has no fused attention with dropout for a CPU: it computes the whole batch at once and keeps three arrays
  [B, heads, n, m] for the backward pass. Here each image is computed by itself, which fits the cache, and only its mask
  is kept. The backward pass computes the weights again, as in FlashAttention (Dao et al., 2022).
- In bf16 torch's fused attention runs at the rate of fp32. Two matrix products for each image run at that of bf16.
"""

import os

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LEVELS = 2**16
"""Probabilities are multiples of 1 / LEVELS."""

ENABLED = {"0": False, "1": True}.get(os.environ.get("MAVL_CPU_KERNELS", "1"))
if ENABLED is None:
    raise ValueError(f"the environment has MAVL_CPU_KERNELS={os.environ['MAVL_CPU_KERNELS']}; set it to 0 or 1")


class Dropout(nn.Dropout):
    """nn.Dropout with fast random numbers on a CPU."""

    def forward(self, tensor: Tensor) -> Tensor:
        """[B, ...] -> [B, ...]; in training each value is zeroed with probability `p`, the others are scaled up."""
        if not self.training or self.p == 0 or use_torch(tensor):
            return super().forward(tensor)
        return _Dropout.apply(tensor, self.p)


def attention(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, batch: int | None = None) -> Tensor:
    """Multi-head attention, as F.scaled_dot_product_attention computes it.

    Args:
        query: [B, heads, n, d].
        key: [B, heads, m, d].
        value: [B, heads, m, d].
        dropout: the probability that an attention weight is zeroed; the others are scaled up.
        batch: the number of equal images that share inputs [1, heads, ...]. With dropout each image has its own mask,
            and the result is [batch, heads, n, d].

    Returns:
        [B, heads, n, d].
    """
    if not use_torch(query):
        if dropout:
            return _DropoutAttention.apply(query, key, value, dropout, batch or len(query))
        if query.dtype == torch.bfloat16 and not torch.is_grad_enabled():
            return torch.stack([_weights(q, k) @ v for q, k, v in zip(query, key, value, strict=True)])
    elif dropout and batch is not None:
        query, key, value = (tensor.expand(batch, -1, -1, -1) for tensor in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)


def use_torch(tensor: Tensor) -> bool:
    """Whether torch's own functions compute this tensor: off the CPU, under torch.compile, or by the switch."""
    return not ENABLED or tensor.device.type != "cpu" or torch.compiler.is_compiling()


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor: Tensor, probability: float) -> Tensor:
        mask = _random_mask(tensor.shape, probability)
        ctx.save_for_backward(_packed(mask))
        ctx.scale = _scale(probability)
        return _masked(tensor, mask, ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _masked(gradient, _unpacked(ctx.saved_tensors[0], gradient.shape), ctx.scale), None


class _DropoutAttention(torch.autograd.Function):
    """Inputs [1, ...] are shared by the images of the batch: their weights are computed once."""

    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, dropout: float, batch: int) -> Tensor:
        ctx.scale = _scale(dropout)
        heads, queries, keys = *query.shape[1:3], key.shape[2]
        # whole results from the start: small tensors between large short-lived ones would scatter the heap
        attended = query.new_empty(batch, queries, heads, value.shape[-1]).transpose(1, 2)
        masks = torch.empty(batch, -(-heads * queries * keys // 8), dtype=torch.uint8)
        with torch.autocast("cpu", enabled=False):
            for one, images in enumerate(_images(len(query), batch)):
                weights, scaled = _weights(query[one], key[one]), value[one] * ctx.scale
                for image in images:
                    mask = _random_mask(weights.shape, dropout)
                    masks[image] = _packed(mask)
                    attended[image] = mask.to(weights.dtype).mul_(weights) @ scaled
        ctx.save_for_backward(query, key, value, masks)
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, masks = ctx.saved_tensors
        gradients = []
        for query, key, value, images in zip(*inputs, _images(len(inputs[0]), len(masks)), strict=True):
            weights = _weights(query, key)
            of_weights = of_value = torch.zeros(())
            for image in images:
                of_image, mask = gradient[image] * ctx.scale, _unpacked(masks[image], weights.shape).to(weights.dtype)
                parts = (of_image @ value.mT).mul_(mask), mask.mul_(weights).mT @ of_image
                if len(images) > 1:  # a sum of many parts needs float32
                    parts = parts[0].float() + of_weights, parts[1].float() + of_value
                of_weights, of_value = parts
            of_scores = torch.ops.aten._softmax_backward_data(of_weights.to(weights.dtype), weights, -1, weights.dtype)
            of_scores *= query.shape[-1] ** -0.5
            gradients.append((of_scores @ key, of_scores.mT @ query, of_value.to(value.dtype)))
        return *map(torch.stack, zip(*gradients, strict=True)), None, None


def _images(inputs: int, batch: int) -> list[list[int]]:
    """The images of each input: one each, or the whole batch for a single input."""
    return torch.arange(batch).view(inputs, -1).tolist()


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """query [heads, n, d], key [heads, m, d] -> attention weights [heads, n, m], which sum to 1 over m."""
    return (query * query.shape[-1] ** -0.5 @ key.mT).softmax(dim=-1)


def _scale(probability: float) -> float:
    """The factor of the values that stay, for the rounded probability."""
    return LEVELS / max(1, LEVELS - round(probability * LEVELS))


def _random_mask(shape: tuple[int, ...], probability: float) -> Tensor:
    """A uint8 mask of this shape by torch's global seed: each value is 0 with this probability, else 1.

    It is not bool, since torch converts bool to a floating type one value at a time.
    """
    number, seed = torch.Size(shape).numel(), int(torch.randint(2**63 - 1, ()))
    levels = np.random.SFC64(seed).random_raw(-(-number // 4)).view(np.int16)[:number]
    kept = levels >= round(probability * LEVELS) - LEVELS // 2
    return torch.from_numpy(kept.view(np.uint8)).view(shape)


def _packed(mask: Tensor) -> Tensor:
    """A mask -> its bits, uint8 [values / 8]."""
    return torch.from_numpy(np.packbits(mask.numpy()))


def _unpacked(bits: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The bits of a mask -> the mask, uint8 of this shape."""
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=torch.Size(shape).numel())).view(shape)


def _masked(tensor: Tensor, mask: Tensor, scale: float) -> Tensor:
    """tensor · mask · scale, row by row of the batch, which fits the cache."""
    result = torch.empty_like(tensor)
    for number, row in enumerate(tensor):
        torch.mul(row, mask[number].to(row.dtype).mul_(scale), out=result[number])
    return result
