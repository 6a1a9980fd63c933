"""The plain computation that the fast one is measured against: the same weights and numbers, nothing shared.

Attention by nn.MultiheadAttention with its default, which computes weights and drops them; every layer for every
query; keys and values of the pooling for every token; the location head always.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.backbones.protocol import interpolate_positions
from mavl.model.decoder import DecoderLayer
from mavl.model.mavl import MAVL, POOLING_HEADS, TextQueries


class PlainLayer(nn.Module):
    def __init__(self, layer: DecoderLayer):
        super().__init__()
        self.norms = nn.ModuleList([layer.norm1, layer.norm2, layer.norm3])
        self.self_attn, self.cross_attn = _stock(layer.self_attn), _stock(layer.cross_attn)
        self.linear1, self.linear2 = layer.linear1, layer.linear2
        self.dropout = nn.Dropout(layer.dropout.p).train(layer.training)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        normed = self.norms[0](queries)
        queries = queries + self.dropout(self.self_attn(normed, normed, normed)[0])
        queries = queries + self.dropout(self.cross_attn(self.norms[1](queries), patches, patches)[0])
        hidden = self.dropout(F.relu(self.linear1(self.norms[2](queries))))
        return queries + self.dropout(self.linear2(hidden))


class PlainDecoder(nn.Module):
    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.layers, self.norm = nn.ModuleList(PlainLayer(layer) for layer in decoder.layers), decoder.norm

    def forward(
        self, decoder_input: Tensor, patches: Tensor, rows: None, return_attention: bool
    ) -> tuple[Tensor, None]:
        queries = decoder_input.expand(len(patches), -1, -1)
        for layer in self.layers:
            queries = layer(queries, patches)
        return self.norm(queries), None


class PlainPool(nn.Module):
    def __init__(self, pool: nn.Module):
        super().__init__()
        self.pool = pool

    def forward(self, grid: Tensor) -> Tensor:
        patches = grid.flatten(2).mT
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        tokens = tokens + interpolate_positions(self.pool.positional_embedding, tuple(grid.shape[-2:]))
        query, key, value = (
            projection(tokens).unflatten(-1, (POOLING_HEADS, -1)).transpose(1, 2)
            for projection in (self.pool.q_proj, self.pool.k_proj, self.pool.v_proj)
        )
        pooled = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        return self.pool.c_proj(pooled.transpose(1, 2).flatten(1))


class PlainMAVL(MAVL):
    """The text is projected for every batch, and nothing of the first layer is computed in advance."""

    def encode_text(self, text: Tensor, batch: int = 1) -> TextQueries:
        projected = self.query_projection(text.flatten(0, 1))
        return TextQueries(projected, projected[None], text.shape[1])


def plain(model: MAVL) -> MAVL:
    """A copy of the model that computes the plain way."""
    copy = deepcopy(model)
    copy.__class__ = PlainMAVL
    copy.decoder, copy.pool = PlainDecoder(copy.decoder), PlainPool(copy.pool)
    return copy.to(memory_format=torch.contiguous_format)


def _stock(attention: nn.Module) -> nn.MultiheadAttention:
    width = attention.out_proj.in_features
    stock = nn.MultiheadAttention(width, attention.heads, attention.dropout, batch_first=True)
    stock.load_state_dict(attention.state_dict())
    return stock.train(attention.training)
