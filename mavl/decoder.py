"""Query decoder: every aspect of every finding looks itself up in the image."""

from torch import Tensor, nn
from torch.nn import functional as F


class DecoderLayer(nn.Module):
    """Pre-norm: self-attention among the queries, cross-attention to the patches, feed-forward."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float, self_attention: bool):
        super().__init__()
        if self_attention:
            self.norm1 = nn.LayerNorm(width)
            self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        else:
            self.self_attn = None
        self.norm2 = nn.LayerNorm(width)
        self.cross_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm3 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, patches: Tensor, return_attention: bool) -> tuple[Tensor, Tensor | None]:
        """queries [B, Q, D], patches [B, P, D] -> queries [B, Q, D], attention [B, Q, P] (mean over heads) or None."""
        if self.self_attn is not None:
            normed = self.norm1(queries)
            queries = queries + self.dropout(self.self_attn(normed, normed, normed, need_weights=False)[0])
        looked_up, attention = self.cross_attn(self.norm2(queries), patches, patches, need_weights=return_attention)
        queries = queries + self.dropout(looked_up)
        hidden = self.dropout(F.relu(self.linear1(self.norm3(queries))))
        return queries + self.dropout(self.linear2(hidden)), attention


class QueryDecoder(nn.Module):
    """A stack of layers and a final LayerNorm. No position embedding on either side."""

    def __init__(self, width: int, layers: int, heads: int, feedforward: int, dropout: float, self_attention: bool):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, feedforward, dropout, self_attention) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self, queries: Tensor, patches: Tensor, return_attention: bool = False
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """queries [B, Q, D], patches [B, P, D] -> features [B, Q, D], each layer's attention [B, Q, P] if asked for."""
        attention = []
        for layer in self.layers:
            queries, weights = layer(queries, patches, return_attention)
            attention.append(weights)
        return self.norm(queries), tuple(attention) if return_attention else None
