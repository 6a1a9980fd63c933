"""Attention with dropout on a CPU, where torch has no fused kernel for it, in little memory.

By itself torch computes such attention for the whole batch at once and keeps three arrays [B, heads, n, m] for the way
back. Here it is done image by image, in what fits a processor's cache, and only which weights were dropped is kept, a
byte each; the weights are computed again (as in FlashAttention, Dao et al. 2022).
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LANES = 2**16
"""Chances of dropping are a multiple of 1 / LANES: a random number of 64 bits decides for four weights."""


def dropout_attention(query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
    """F.scaled_dot_product_attention with dropout_p: query [B, heads, n, d], key, value [B, heads, m, d] -> like query.

    The chance of dropping a weight is rounded to the nearest 1 / LANES, and what stays is scaled by exactly that.
    """
    dropped = round(dropout * LANES)
    kept = draw_kept((*query.shape[:3], key.shape[2]), dropped)
    return _DropoutAttention.apply(query, key, value, kept, LANES / (LANES - dropped))


def draw_kept(shape: tuple[int, ...], dropped: int) -> Tensor:
    """Which weights stay: bool of this shape, each false with chance `dropped` / LANES, by torch's global generator."""
    number = torch.Size(shape).numel()
    bits = torch.empty(-(-number // 4), dtype=torch.int64).random_(-(2**63), None)
    return (bits.view(torch.int16)[:number] >= dropped - LANES // 2).view(shape)


class _DropoutAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, scale: float) -> Tensor:
        attended = torch.empty_like(query)
        with torch.autocast(query.device.type, enabled=False):
            for image in range(len(query)):
                weights = _weights(query[image], key[image]).mul_(kept[image]).mul_(scale)
                attended[image] = weights.to(value.dtype) @ value[image]
        ctx.save_for_backward(query, key, value, kept, attended)
        ctx.scale = scale
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, kept, attended = ctx.saved_tensors
        to_query, to_key, to_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        for image in range(len(query)):
            q, k, v, came = query[image], key[image], value[image], gradient[image]
            weights = _weights(q, k)
            stay = kept[image] * ctx.scale
            to_value[image] = (weights * stay).to(v.dtype).mT @ came
            to_weights = (came @ v.mT).float().mul_(stay)
            # the sum over a row of weights · their gradients, without another pass over the weights
            to_weights -= (came * attended[image]).sum(dim=-1, keepdim=True, dtype=torch.float32)
            to_scores = to_weights.mul_(weights).mul_(q.shape[-1] ** -0.5).to(q.dtype)
            to_query[image], to_key[image] = to_scores @ k, to_scores.mT @ q
        return to_query, to_key, to_value, None, None


def _weights(query: Tensor, key: Tensor) -> Tensor:
    """query [heads, n, d], key [heads, m, d] -> [heads, n, m], each row a share of 1, float32."""
    return (query @ key.mT).float().mul_(query.shape[-1] ** -0.5).softmax(dim=-1)
