"""MAVL: image and text vectors in, one output for training, diagnosis, grounding and explanation.

Letters in shapes, here and everywhere: B images in a batch, F findings, A aspects, Q = F·A queries (query f·A + a),
D width, T text width, C backbone channels, h × w the grid, P = h·w patches, L decoder layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.backbones.build import PatchGrid, build_backbone, interpolate_positions
from mavl.model.decoder import QueryDecoder
from mavl.vocab import ASPECTS

INITIAL_TEMPERATURE = 0.07
POOLING_HEADS = 8


@dataclass(frozen=True)
class MAVLOutput:
    """All that a forward pass computes, of all findings or of those it was asked for.

    presence_logits [B, F, 2]: (absent, present); location_embedding [B, F, T]: to be compared with anatomy vectors
    (None where certain findings were asked for: only training compares it); aspect_features [B, F, A, D]: decoder
    output; grid [B, D, h, w]; cosine [B, A, F] of the pooled image with each query, in -1..1, and logit_scale [A], its
    learned log inverse temperature (both None without a contrastive head); attention: one [B, Q, P] per decoder layer,
    rows sum to 1 (None unless asked for); patch_grid: where the patches of the grid look.
    """

    presence_logits: Tensor
    location_embedding: Tensor | None
    aspect_features: Tensor
    grid: Tensor
    cosine: Tensor | None
    logit_scale: Tensor | None
    attention: tuple[Tensor, ...] | None
    patch_grid: PatchGrid


class AttentionPool(nn.Module):
    """CLIP's attention pooling (Radford et al. 2021): the mean token asks, all tokens answer."""

    def __init__(self, channels: int, width: int, positions: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(positions + 1, channels) / channels**0.5)
        self.q_proj = nn.Linear(channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, width)

    def forward(self, grid: Tensor) -> Tensor:
        """grid [B, C, h, w] -> pooled [B, D].

        There is one query, so the key projection is applied to it, not to every token, (W_k x)·q = x·(W_k' q), and the
        value projection to what was pooled.
        """
        patches = grid.flatten(2).mT
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        tokens = tokens + interpolate_positions(self.positional_embedding, tuple(grid.shape[-2:]))
        query = self.q_proj(tokens[:, 0]).unflatten(-1, (POOLING_HEADS, -1))
        query = query * query.shape[-1] ** -0.5
        key, value = (layer.weight.unflatten(0, (POOLING_HEADS, -1)) for layer in (self.k_proj, self.v_proj))
        scores = torch.einsum("bhd,hdc->bhc", query, key) @ tokens.mT
        # the key's bias adds the same to every token and changes nothing, but is a parameter like the others
        scores = scores + (query * self.k_proj.bias.unflatten(0, (POOLING_HEADS, -1))).sum(dim=-1, keepdim=True)
        pooled = scores.softmax(dim=-1) @ tokens
        return self.c_proj(torch.einsum("bhc,hdc->bhd", pooled, value).flatten(1) + self.v_proj.bias)


@dataclass(frozen=True)
class Queries:
    """A embeddings's text as a model asks with it: what depends on no image, from `MAVL.queries`.

    projected [Q, D]: the query projection; asked [1, Q, D], or [B, Q, D] in training with dropout: what the first
    decoder layer asks; aspects: A.
    """

    projected: Tensor
    asked: Tensor
    aspects: int


class MAVL(nn.Module):
    """Multi-aspect vision-language network; with `aspects=("description",)` and no contrastive head it is MedKLIP.

    image_size: the size (pixels) that learned positions are laid out for; other input sizes interpolate them.
    text_width: T of the text embeddings it is used with. feature_dropout: the chance that a whole (image, query) vector is zeroed
    before the heads in training.
    """

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        image_size: int = 224,
        aspects: Sequence[str] = ASPECTS,
        text_width: int = 768,
        width: int = 256,
        layers: int = 4,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        feature_dropout: float = 0.1,
        self_attention: bool = True,
        contrastive: bool = True,
    ):
        super().__init__()
        self.aspects = tuple(aspects)
        self.backbone = build_backbone(backbone)
        channels = self.backbone.channels
        self.grid_projection = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.PReLU(), nn.Conv2d(channels, width, 1)
        )
        self.query_projection = nn.Linear(text_width, width)
        self.decoder = QueryDecoder(width, layers, heads, feedforward, dropout, self_attention)
        self.feature_dropout = nn.Dropout1d(feature_dropout)
        self.presence_head = nn.Linear(len(aspects) * width, 2)
        self.location_head = nn.Conv1d(width, text_width, kernel_size=len(aspects), stride=len(aspects))
        self.apply(_initialise)
        if contrastive:
            positions = math.ceil(image_size / self.backbone.stride) ** 2
            self.pool = _pool(self.backbone, width, positions)
            self.logit_scale = nn.Parameter(torch.full((len(aspects),), INITIAL_TEMPERATURE).log().neg())
        else:
            self.pool = self.logit_scale = None

    def queries(self, text: Tensor, batch: int = 1) -> Queries:
        """text [F, A, T] (text embeddings's vectors) -> Queries, of use for any images as long as the weights stay."""
        if text.shape[1] != len(self.aspects):
            raise ValueError(
                f"text has {text.shape[1]} aspects a finding, the model has {len(self.aspects)}: {self.aspects}"
            )
        projected = self.query_projection(text.flatten(0, 1))
        return Queries(projected, self.decoder.ask(projected[None], batch), text.shape[1])

    def forward(
        self,
        images: Tensor,
        text: Tensor | Queries,
        *,
        findings: Sequence[int] | None = None,
        return_attention: bool = False,
    ) -> MAVLOutput:
        """images [B, 3, H, W] normalised, text [F, A, T] (text embeddings's vectors) or its Queries -> MAVLOutput.

        findings: rows of the embeddings; the output is then of these alone, in this order. The numbers are the same, since
        all findings still take part where the queries ask one another.
        """
        backbone_grid, class_token = self.backbone(images)
        grid = self.grid_projection(backbone_grid)
        queries = text if isinstance(text, Queries) else self.queries(text, len(images))
        rows = None if findings is None else query_rows(findings, queries.aspects, images.device)
        features, attention = self.decoder(queries.asked, grid.flatten(2).mT, rows, return_attention)
        features = self.feature_dropout(features)
        aspect_features = features.unflatten(1, (-1, queries.aspects))
        cosine = None
        if self.pool is not None:
            pooled = self.pool(backbone_grid if class_token is None else class_token)
            projected = queries.projected if rows is None else queries.projected[rows]
            similarity = F.normalize(pooled, dim=-1) @ F.normalize(projected, dim=-1).T
            cosine = similarity.unflatten(-1, (-1, queries.aspects)).mT
        return MAVLOutput(
            presence_logits=self.presence_head(aspect_features.flatten(2)),
            location_embedding=self.location_head(features.mT).mT if findings is None else None,
            aspect_features=aspect_features,
            grid=grid,
            cosine=cosine,
            logit_scale=self.logit_scale,
            attention=attention,
            patch_grid=self.patch_grid(tuple(images.shape[-2:])),
        )

    def patch_grid(self, size: tuple[int, int]) -> PatchGrid:
        """Where the patches of the grid look in images of this height and width, for mavl.model.heatmaps.enlarge."""
        return PatchGrid(self.backbone.first, self.backbone.stride, size)

    @classmethod
    def from_pretrained(cls, source: str) -> "MAVL":
        """The model of a run folder, a hub id, or a released .pth; `mavl.checkpoint.load` also gives its embeddings."""
        from mavl.checkpoint.folder import load

        return load(source).model


def _pool(backbone: nn.Module, width: int, positions: int) -> nn.Module:
    """What makes one D-vector of the image: attention pooling, or the class token (projected when it is not D wide)."""
    if not backbone.has_class_token:
        return AttentionPool(backbone.channels, width, positions)
    return nn.Linear(backbone.channels, width) if backbone.channels != width else nn.Identity()


def query_rows(findings: Sequence[int], aspects: int, device: torch.device) -> Tensor:
    """Rows of findings in text embeddings -> rows of all their queries on the device, finding by finding, without a wait."""
    rows = [finding * aspects + aspect for finding in findings for aspect in range(aspects)]
    return torch.tensor(rows, dtype=torch.long).to(device, non_blocking=True)


def _initialise(module: nn.Module) -> None:
    """Xavier's uniform for linear layers, zero biases; attention has its own, convolutions keep their library's start.

    With the usual normal(0, 0.02) the attention starts so near to uniform that short training never sharpens it.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
