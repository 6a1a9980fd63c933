"""Query decoder: the queries, one for every aspect of every finding, attend to one another and to the image.

The input of the first layer's cross-attention depends on no image, so it is computed once for a text, not for every
image; a batch of 1 stands for all images until then.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from mavl.model.cpu_kernels import Dropout, attention

CROSS_ATTENTION_GAIN = 2.0
"""Attention that starts nearly uniform stays so: with the usual narrow start, it was so after 20,000 phantoms."""


class Attention(nn.Module):
    """Multi-head attention with the parameters of nn.MultiheadAttention, and a method for each projection.

    A projection can so be computed once for several calls, or for a part of the queries. gain: factor on the Xavier
    initialisation of the query and key projections.
    """

    def __init__(self, width: int, heads: int, dropout: float, gain: float = 1.0):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not divisible by {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        with torch.no_grad():
            for projection, scale in zip(self.in_proj_weight.chunk(3), (gain, gain, 1.0), strict=True):
                nn.init.xavier_uniform_(projection, scale)

    def query(self, tokens: Tensor) -> Tensor:
        """tokens [B, n, D] -> [B, heads, n, D / heads]."""
        width = tokens.shape[-1]
        return self._split(F.linear(tokens, self.in_proj_weight[:width], self.in_proj_bias[:width]), 1)[0]

    def key_value(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [B, n, D] -> key and value, each [B, heads, n, D / heads]."""
        width = tokens.shape[-1]
        key, value = self._split(F.linear(tokens, self.in_proj_weight[width:], self.in_proj_bias[width:]), 2)
        return key, value

    def query_key_value(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of the same tokens, in one product."""
        query, key, value = self._split(F.linear(tokens, self.in_proj_weight, self.in_proj_bias), 3)
        return query, key, value

    def attend(self, query: Tensor, key: Tensor, value: Tensor, batch: int | None = None) -> Tensor:
        """query [B, heads, n, d], key and value [B, heads, m, d] -> [B, n, D], without the attention weights.

        All three may be [1, ...] for `batch` equal images; with dropout the result is then [batch, n, D].
        """
        return self._join(attention(query, key, value, self.dropout * self.training, batch))

    def attend_by(self, weights: Tensor, value: Tensor) -> Tensor:
        """`attend` with given attention weights [B, heads, n, m]."""
        return self._join(F.dropout(weights, self.dropout, self.training) @ value)

    @staticmethod
    def weights(query: Tensor, key: Tensor) -> Tensor:
        """query [B, heads, n, d], key [B, heads, m, d] -> attention weights [B, heads, n, m], rows sum to 1."""
        return (query * query.shape[-1] ** -0.5 @ key.mT).softmax(dim=-1)

    def _split(self, projected: Tensor, parts: int) -> tuple[Tensor, ...]:
        return projected.unflatten(-1, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()

    def _join(self, attended: Tensor) -> Tensor:
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class LayerNorm(nn.LayerNorm):
    """nn.LayerNorm that returns the type of its input under autocast too, for which its weights are rounded.

    Autocast on a GPU computes nn.LayerNorm in fp32, which here costs two conversions of all tokens; the mean and the
    variance are computed in fp32 either way.
    """

    def forward(self, input: Tensor) -> Tensor:
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        with torch.autocast(input.device.type, enabled=False):
            return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class DecoderLayer(nn.Module):
    """Pre-norm: self-attention among the queries, cross-attention to the patches, feed-forward."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, self_attention: bool):
        super().__init__()
        if self_attention:
            self.norm1 = LayerNorm(width)
            self.self_attn = Attention(width, heads, dropout)
        else:
            self.self_attn = None
        self.norm2 = LayerNorm(width)
        self.cross_attn = Attention(width, heads, dropout, CROSS_ATTENTION_GAIN)
        self.norm3 = LayerNorm(width)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.dropout = Dropout(dropout)

    def self_attend(self, queries: Tensor, batch: int, targets: Tensor | None = None) -> Tensor:
        """Self-attention with its residual: queries [B or 1, Q, D] -> [B or 1, Q, D], or [.., targets, D].

        Queries [1, Q, D] stand for a batch of equal ones; only dropout makes them differ: then [batch, Q, D] results.
        """
        updated = queries if targets is None else queries[:, targets]
        if self.self_attn is None:
            return updated
        if targets is None:
            projected = self.self_attn.query_key_value(self.norm1(queries))
        else:
            normed = self.norm1(queries)
            projected = (self.self_attn.query(normed[:, targets]), *self.self_attn.key_value(normed))
        return updated + self.dropout(self.self_attn.attend(*projected, batch))

    def cross_attend(
        self, queries: Tensor, patches: Tensor, return_attention: bool, targets: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Cross-attention, feed-forward: queries [B or 1, Q, D], patches [B, P, D] -> (queries [B, Q, D], attention).

        The attention, a mean over heads, is that of the targets among these queries, [B, targets, P], or of all; None
        without return_attention.
        """
        query = self.cross_attn.query(self.norm2(queries)).expand(patches.shape[0], -1, -1, -1)
        key, value = self.cross_attn.key_value(patches)
        attention = None
        if return_attention:
            weights = self.cross_attn.weights(query if targets is None else query[:, :, targets], key)
            attention = weights.mean(dim=1)
        if return_attention and targets is None:
            attended = self.cross_attn.attend_by(weights, value)
        else:
            attended = self.cross_attn.attend(query, key, value)
        queries = queries + self.dropout(attended)
        # dropout and ReLU commute; in this order the backward pass needs one array of this size, not two
        hidden = F.relu(self.dropout(self.linear1(self.norm3(queries))), inplace=True)
        return queries + self.dropout(self.linear2(hidden)), attention


class QueryDecoder(nn.Module):
    """A stack of layers and a final LayerNorm, without position embeddings.

    activation_checkpointing: compute the activations of cross-attention and feed-forward again in the backward pass.
    """

    activation_checkpointing = False

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float, self_attention: bool):
        super().__init__()
        blocks = [DecoderLayer(width, heads, feedforward, dropout, self_attention) for _ in range(layers)]
        self.layers: Sequence[DecoderLayer] = nn.ModuleList(blocks)  # pyright: ignore[reportAttributeAccessIssue]
        self.norm = LayerNorm(width)

    def decoder_input(self, queries: Tensor, batch: int) -> Tensor:
        """The first layer's self-attention, which depends on no image: queries [1, Q, D] -> [1 or batch, Q, D]."""
        return self.layers[0].self_attend(queries, batch)

    def forward(
        self, decoder_input: Tensor, patches: Tensor, targets: Tensor | None = None, return_attention: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """decoder_input [1 or B, Q, D], patches [B, P, D] -> (features [B, Q, D], attention).

        attention: one [B, Q, P] for each layer, None without return_attention. With targets, rows among the Q, both
        results hold these alone, and the last layer is computed for them alone.
        """
        queries, attention = decoder_input, []
        for number, layer in enumerate(self.layers):
            last = number == len(self.layers) - 1
            if number > 0:
                queries = layer.self_attend(queries, patches.shape[0], targets if last else None)
            elif last and targets is not None:
                queries = queries[:, targets]
            arguments = queries, patches, return_attention, None if last else targets
            if self.activation_checkpointing and torch.is_grad_enabled():
                queries, weights = checkpoint(layer.cross_attend, *arguments, use_reentrant=False)
            else:
                queries, weights = layer.cross_attend(*arguments)
            attention.append(weights)
        return self.norm(queries), tuple(attention) if return_attention else None
