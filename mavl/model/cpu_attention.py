"""Attention on a CPU where torch's own is slow: with dropout, and in bf16.

With dropout torch has no fused kernel, computes the whole batch at once and keeps three arrays [B, heads, n, m] for the
way back. Here it is done image by image, in what fits a processor's cache, and only which weights were dropped is kept,
a bit each; the weights are computed again (as in FlashAttention, Dao et al. 2022). Where all images ask the same of
the same, the weights are computed once, and only what is dropped of them differs.

In bf16 torch's fused kernel runs at the rate of fp32, half of what two products of their own reach.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mavl.model.dropout import draw_kept, left_to_torch, packed, rounded, unpacked

LARGE = 2**17
"""Weights of a head from which on two products of their own beat the fused kernel in bf16."""


def dropout_attention(query: Tensor, key: Tensor, value: Tensor, chance: float, batch: int | None = None) -> Tensor:
    """F.scaled_dot_product_attention with dropout_p: query [B, heads, n, d], key, value [B, heads, m, d] -> like query.

    Or all three [1, heads, ...] for a batch of equal ones -> [batch, heads, n, d], each dropped from by itself. The
    chance of dropping a weight is rounded as in `mavl.model.dropout`.
    """
    return _DropoutAttention.apply(query, key, value, batch or len(query), *rounded(chance))


def has_fast_products(query: Tensor, key: Tensor) -> bool:
    """Whether `attention_by_image` is the faster one: many bf16 weights, and no gradients."""
    large = query.shape[2] * key.shape[2] >= LARGE
    return query.dtype == torch.bfloat16 and large and not torch.is_grad_enabled() and not left_to_torch(query)


def attention_by_image(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """F.scaled_dot_product_attention without gradients: query [B, heads, n, d], key, value [B, heads, m, d]."""
    batch, heads, queries = query.shape[:3]
    attended = query.new_empty(batch, queries, heads, value.shape[-1]).transpose(1, 2)  # as heads are joined
    for image in range(batch):
        attended[image] = _weights(_scaled(query[image]), key[image]) @ value[image]
    return attended


class _DropoutAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query: Tensor, key: Tensor, value: Tensor, batch: int, dropped: int, scale: float) -> Tensor:
        heads, queries, keys = *query.shape[1:3], key.shape[2]
        bits = query.new_empty((batch, -(-heads * queries * keys // 8)), dtype=torch.uint8)
        attended = query.new_empty(batch, queries, heads, value.shape[-1]).transpose(1, 2)  # as heads are joined
        with torch.autocast(query.device.type, enabled=False):
            for one, images in _alike(len(query), batch):
                weights, scaled = _weights(_scaled(query[one]), key[one]), value[one] * scale
                for image in images:
                    kept = draw_kept(weights.shape, dropped)
                    bits[image] = packed(kept)
                    attended[image] = kept.to(weights.dtype).mul_(weights) @ scaled
        ctx.save_for_backward(query, key, value, bits)
        ctx.scale = scale
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bits = ctx.saved_tensors
        to_query, to_key, to_value = (torch.empty_like(tensor) for tensor in (query, key, value))
        for one, images in _alike(len(query), len(bits)):
            asked, keys, values = _scaled(query[one]), key[one], value[one]
            weights = _weights(asked, keys)
            to_weights, to_values = 0, 0
            for image in images:
                came, stayed = gradient[image] * ctx.scale, unpacked(bits[image], weights.shape).to(weights.dtype)
                to_weights = _added(to_weights, (came @ values.mT).mul_(stayed), len(images))
                to_values = _added(to_values, stayed.mul_(weights).mT @ came, len(images))
            to_scores = torch.ops.aten._softmax_backward_data(to_weights.to(weights.dtype), weights, -1, weights.dtype)
            to_query[one] = _scaled(to_scores @ keys)
            to_key[one], to_value[one] = to_scores.mT @ asked, to_values
        return to_query, to_key, to_value, None, None, None


def _alike(distinct: int, batch: int) -> Iterator[tuple[int, range]]:
    """Each distinct one and the images that it stands for: one a piece, or the first one for all."""
    if distinct == batch:
        return ((image, range(image, image + 1)) for image in range(batch))
    return iter([(0, range(batch))])


def _added(total: Tensor | int, part: Tensor, parts: int) -> Tensor:
    """A sum of many parts is kept in float32."""
    if parts == 1:
        return part
    return part.float() if isinstance(total, int) else total.add_(part)


def _scaled(query: Tensor) -> Tensor:
    return query * query.shape[-1] ** -0.5


def _weights(scaled_query: Tensor, key: Tensor) -> Tensor:
    """scaled query [heads, n, d], key [heads, m, d] -> [heads, n, m], each row a share of 1."""
    return (scaled_query @ key.mT).softmax(dim=-1)
