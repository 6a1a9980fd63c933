"""MAVL: images and text embeddings in, one output for training, diagnosis, grounding and explanation.

Letters in shapes, here and everywhere: B images in a batch, F findings, A aspects, Q = F·A queries (query f·A + a),
D width, T text width, C backbone channels, h × w the grid, P = h·w patches, L decoder layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.backbones import PatchGrid, Preprocessing, build_backbone
from mavl.backbones.adapters import set_mode
from mavl.backbones.protocol import Backbone, interpolate_positions, patch_grid
from mavl.model.decoder import QueryDecoder
from mavl.model.reports import INITIAL_TEMPERATURE, ReportHead, ReportPairs
from mavl.vocab import ASPECTS

POOLING_HEADS = 8


@dataclass(frozen=True)
class MAVLOutput:
    """The result of a forward pass, for all findings or for the requested ones.

    presence_logits [B, F, 2]: (absent, present).
    location_embedding [B, F, T]: its dot product with an anatomy's embedding is that anatomy's score. Only training
        uses it: None when findings were requested.
    aspect_features [B, F, A, D]: decoder output.
    grid [B, D, h, w]: projected patch features.
    cosine [B, A, F]: of the pooled image with each query, in -1..1. logit_scale [A]: its learned log inverse
        temperature. Both None without a contrastive head.
    attention: one [B, Q, P] for each decoder layer, rows sum to 1. None unless requested.
    patch_grid: positions of the patches in the input.
    pairs: of images and reports; None where no reports were given.
    """

    presence_logits: Tensor
    location_embedding: Tensor | None
    aspect_features: Tensor
    grid: Tensor
    cosine: Tensor | None
    logit_scale: Tensor | None
    attention: tuple[Tensor, ...] | None
    patch_grid: PatchGrid
    pairs: ReportPairs | None = None


@dataclass(frozen=True)
class ImageFeatures:
    """The part of the computation that depends on the images alone, from `MAVL.encode_image`.

    grid [B, D, h, w]: projected patch features. pooled [B, D]: the image as one vector, None without a contrastive
    head. patch_grid: positions of the patches in the input.
    """

    grid: Tensor
    pooled: Tensor | None
    patch_grid: PatchGrid


@dataclass(frozen=True)
class TextQueries:
    """The part of the computation that depends on the text alone, from `MAVL.encode_text`.

    projected [Q, D]: output of the query projection. decoder_input [1, Q, D], or [B, Q, D] in training with dropout:
    input of the first cross-attention. aspects: A.
    """

    projected: Tensor
    decoder_input: Tensor
    aspects: int


class AttentionPool(nn.Module):
    """CLIP's attention pooling (Radford et al. 2021): the mean token attends to itself and all patches."""

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
        value projection to the pooled tokens.
        """
        patches = grid.flatten(2).mT
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        height, width = grid.shape[-2:]
        # in the type of the tokens, so that autocast converts the positions, not the tokens twice
        tokens = tokens + interpolate_positions(self.positional_embedding, (height, width)).to(tokens.dtype)
        query = self.q_proj(tokens[:, 0]).unflatten(-1, (POOLING_HEADS, -1))
        query = query * query.shape[-1] ** -0.5
        key, value = (layer.weight.unflatten(0, (POOLING_HEADS, -1)) for layer in (self.k_proj, self.v_proj))
        scores = torch.einsum("bhd,hdc->bhc", query, key) @ tokens.mT
        # the key's bias adds the same to every token and changes nothing, but is a parameter like the others
        scores = scores + (query * self.k_proj.bias.unflatten(0, (POOLING_HEADS, -1))).sum(dim=-1, keepdim=True)
        pooled = scores.softmax(dim=-1) @ tokens
        return self.c_proj(torch.einsum("bhc,hdc->bhd", pooled, value).flatten(1) + self.v_proj.bias)


class MAVL(nn.Module):
    """Multi-aspect vision-language network; with `aspects=("description",)` and no contrastive head it is MedKLIP.

    Args:
        backbone: a name for mavl.backbones.build_backbone.
        image_size: input side in pixels for which learned positions are laid out; other sizes interpolate them.
        aspects: names of the A aspects, in the order of the text embeddings.
        text_width: T of the text embeddings.
        text_norm: whether a LayerNorm precedes the query projection.
        feature_dropout: probability that a whole (image, query) feature vector is zeroed before the heads in training.
        report_head: whether images are compared with whole reports too, which needs `contrastive`.
    """

    def __init__(
        self,
        *,
        backbone: str = "resnet50",
        image_size: int = 224,
        aspects: Sequence[str] = ASPECTS,
        text_width: int = 768,
        text_norm: bool = False,
        width: int = 256,
        layers: int = 4,
        heads: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.1,
        feature_dropout: float = 0.1,
        self_attention: bool = True,
        contrastive: bool = True,
        report_head: bool = False,
    ):
        super().__init__()
        self.aspects = tuple(aspects)
        encoder = build_backbone(backbone, image_size)
        self.grid_projection = nn.Sequential(
            nn.Conv2d(encoder.channels, encoder.channels, 1), nn.PReLU(), nn.Conv2d(encoder.channels, width, 1)
        )
        projection = nn.Linear(text_width, width)
        self.query_projection = nn.Sequential(nn.LayerNorm(text_width), projection) if text_norm else projection
        self.decoder = QueryDecoder(width, layers, heads, feedforward, dropout, self_attention)
        self.feature_dropout = nn.Dropout1d(feature_dropout)
        self.presence_head = nn.Linear(len(aspects) * width, 2)
        self.location_head = nn.Conv1d(width, text_width, kernel_size=len(aspects), stride=len(aspects))
        self.apply(_initialise)
        self.backbone = encoder  # attached after the initialisation, which must not touch weights that it holds
        if contrastive:
            self.pool = _pool(encoder, width, math.ceil(image_size / encoder.stride) ** 2)
            self.logit_scale = nn.Parameter(torch.full((len(aspects),), INITIAL_TEMPERATURE).log().neg())
        else:
            self.pool = self.logit_scale = None
        if report_head and not contrastive:
            raise ValueError("report_head needs contrastive, whose pooled image reports are compared with")
        self.report_head = ReportHead(text_width, width) if report_head else None

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes this model's input."""
        return self.backbone.preprocessing

    def train(self, mode: bool = True) -> "MAVL":
        """Set the mode of all modules; a frozen backbone stays in evaluation mode (mavl.backbones.adapters)."""
        super().train(mode)
        set_mode(self.backbone, mode)
        return self

    def encode_image(self, images: Tensor) -> ImageFeatures:
        """images [B, 3, H, W], normalized -> ImageFeatures."""
        height, width = images.shape[-2:]
        grid, class_token = self.backbone(images)
        pooled = None if self.pool is None else self.pool(grid if class_token is None else class_token)
        return ImageFeatures(self.grid_projection(grid), pooled, self.patch_grid((height, width)))

    def encode_text(self, text: Tensor, batch: int = 1) -> TextQueries:
        """text [F, A, T] (vectors of text embeddings) -> TextQueries, valid for any images while the weights stay.

        batch: images that it will be decoded with; it only matters in training, where dropout differs by image.
        ValueError where A is not the model's.
        """
        if text.shape[1] != len(self.aspects):
            raise ValueError(
                f"text has {text.shape[1]} aspects a finding, the model has {len(self.aspects)}: {self.aspects}"
            )
        projected = self.query_projection(text.flatten(0, 1))
        return TextQueries(projected, self.decoder.decoder_input(projected[None], batch), text.shape[1])

    def decode(
        self,
        image: ImageFeatures,
        queries: TextQueries,
        *,
        findings: Sequence[int] | None = None,
        return_attention: bool = False,
    ) -> MAVLOutput:
        """Image and text -> MAVLOutput.

        findings: rows of the text embeddings; the output then holds these alone, in this order. The numbers are the
        same, since all findings take part in the self-attention.
        """
        rows = None
        if findings is not None:
            each = [finding * queries.aspects + aspect for finding in findings for aspect in range(queries.aspects)]
            rows = torch.tensor(each, dtype=torch.long).to(image.grid.device, non_blocking=True)  # without a host wait
        patches = image.grid.flatten(2).mT
        features, attention = self.decoder(queries.decoder_input, patches, rows, return_attention)
        features = self.feature_dropout(features)
        aspect_features = features.unflatten(1, (-1, queries.aspects))
        cosine = None
        if image.pooled is not None:
            projected = queries.projected if rows is None else queries.projected[rows]
            similarity = F.normalize(image.pooled, dim=-1) @ F.normalize(projected, dim=-1).T
            cosine = similarity.unflatten(-1, (-1, queries.aspects)).mT
        return MAVLOutput(
            presence_logits=self.presence_head(aspect_features.flatten(2)),
            location_embedding=self.location_head(features.mT).mT if findings is None else None,
            aspect_features=aspect_features,
            grid=image.grid,
            cosine=cosine,
            logit_scale=self.logit_scale,
            attention=attention,
            patch_grid=image.patch_grid,
        )

    def forward(
        self,
        images: Tensor,
        text: Tensor,
        *,
        findings: Sequence[int] | None = None,
        return_attention: bool = False,
        reports: Tensor | None = None,
    ) -> MAVLOutput:
        """images [B, 3, H, W], normalized, and text [F, A, T] -> MAVLOutput; reports [B, T]: text vectors, for pairs.

        reports need report_head.
        """
        image, queries = self.encode_image(images), self.encode_text(text, images.shape[0])
        output = self.decode(image, queries, findings=findings, return_attention=return_attention)
        if reports is None:
            return output
        assert self.report_head is not None
        return replace(output, pairs=self.report_head(image.pooled, reports))

    def patch_grid(self, size: tuple[int, int]) -> PatchGrid:
        """Positions of the grid's patches in images of this height and width."""
        return patch_grid(self.backbone, size)

    @classmethod
    def from_pretrained(cls, source: str) -> "MAVL":
        """The model of a run folder, a hub id, or a released .pth; `mavl.checkpoint.load` also returns its text."""
        from mavl.checkpoint import load  # the one import that goes up

        return load(source).model


def _pool(backbone: Backbone, width: int, positions: int) -> nn.Module:
    """The module that makes one D-vector of the image: attention pooling, or of the class token a projection to D."""
    if not backbone.has_class_token:
        return AttentionPool(backbone.channels, width, positions)
    return nn.Linear(backbone.channels, width) if backbone.channels != width else nn.Identity()


def _initialise(module: nn.Module) -> None:
    """Xavier's uniform for linear layers, zero biases; attention has its own, convolutions keep their library's start.

    With the usual normal(0, 0.02) the attention starts so near to uniform that short training never sharpens it.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def initialise_as_released(model: MAVL) -> None:
    """Give all but the backbone the start of the released code (MedKLIP, ICCV 2023).

    Linear layers and the attention's projections are normal(0, 0.02), the linear layers' biases as torch draws them.
    """
    for name, module in model.named_modules():
        if name.startswith("backbone."):
            continue
        if (projection := getattr(module, "in_proj_weight", None)) is not None:
            nn.init.normal_(projection, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None and not name.endswith(".out_proj"):  # torch's attention begins with zeros there
                bound = module.in_features**-0.5
                nn.init.uniform_(module.bias, -bound, bound)
