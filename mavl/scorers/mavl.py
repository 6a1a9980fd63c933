"""MAVL and MedKLIP as scorers, by either head, with attention as heatmaps."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mavl import checkpoint
from mavl.checkpoint import Pretrained
from mavl.model.heatmaps import check_parts, heatmaps
from mavl.model.inference import InferenceModel, for_findings, in_parts
from mavl.model.mavl import ImageFeatures
from mavl.model.scores import scores
from mavl.provenance import training_images
from mavl.scorers.protocol import ScorerOptions
from mavl.text.books import Books, read_books
from mavl.text.embeddings import SAME_ENCODER, TextEmbeddings, build_embeddings
from mavl.text.encoder import load_text_encoder
from mavl.text.protocol import TextEncoder, TextEncoderError
from mavl.vocab import ANATOMIES, DESCRIPTION, HEALTHY, healthy


class MAVLScorer:
    """A pre-trained model and text embeddings on a device.

    All findings of the embeddings take part in the decoder's self-attention; the last layer and the heads are computed
    for the requested ones alone.
    """

    def __init__(self, name: str, pretrained: Pretrained, embeddings: TextEmbeddings, options: ScorerOptions):
        self.name, self.pretrained, self.embeddings, self.options = name, pretrained, embeddings, options
        model, self.trained_findings = pretrained.model, pretrained.findings
        self.preprocessing, self.aspects = model.preprocessing, model.aspects
        self.patch_grid = model.patch_grid((model.preprocessing.image_size, model.preprocessing.image_size))
        self._inference: InferenceModel | None = None

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self.embeddings.findings

    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        model = self._model(findings)
        return scores(model(images), model.embeddings, findings, self.options.head)

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        model = self._model(findings)
        return heatmaps(model(images, return_attention=True), model.embeddings, findings, self.options.map_options)

    def describe(self) -> dict[str, Any]:
        options = self.options.map_options
        used = options.used_aspects(self.aspects)
        noun = "layer" if len(options.layers) == 1 else "layers"
        layers = f"{noun} {', '.join(map(str, options.layers))}" if options.layers else "all layers"
        aspects = f"{'aspect' if len(used) == 1 else 'aspects'} {', '.join(used)}"
        shown = f"the attention, {options.aggregation} over the {aspects}, mean over {layers}"
        if self.options.head == "contrastive":
            shown += " (the contrastive score compares the whole image with the text and does not use it)"
        return {
            "model": self.name,
            "trained_on": training_images(self.pretrained.about),
            "bank": self.embeddings.about,
            "findings_in_bank": len(self.vocabulary),
            "aspects": list(used),
            "aggregation": options.aggregation,
            "layers": options.layers or "all",
            "map": shown,
        }

    def with_books(self, books: Books) -> "MAVLScorer":
        options = self.options
        if self._inference is None:  # its folded weights serve every text
            self._inference = self._model(self.vocabulary)
        encoder = _text_encoder(self.pretrained, options.text_encoder, options.max_length)
        names, anatomies = tuple(books.sentences), self.embeddings.anatomies
        changed = build_embeddings(books, names, encoder, self.aspects, options.text_cache, anatomies)
        kept = [name for name in self.vocabulary if name not in books.sentences]
        embeddings = self.embeddings.to("cpu").select(kept).extended(changed).select(self.vocabulary)
        other = copy(self)
        other.embeddings = embeddings.to(self.embeddings.vectors.device)
        if self._inference is not None:
            other._inference = self._inference.with_embeddings(other.embeddings)
        return other

    def same_text(self, other: "MAVLScorer") -> bool:
        return torch.allclose(self.embeddings.vectors, other.embeddings.vectors, atol=SAME_ENCODER)

    def encode(self, images: Tensor) -> list[ImageFeatures]:
        model = self._inference or self._model(self.vocabulary)
        return [model.encode_image(part) for part in in_parts(images)]

    def score_features(self, features: list[ImageFeatures], findings: Sequence[str]) -> Tensor:
        model = self._model(findings)
        parts = [scores(model.decode(part), model.embeddings, findings, self.options.head) for part in features]
        return torch.cat(parts)

    def _model(self, findings: Sequence[str]) -> InferenceModel:
        self._inference = for_findings(self._inference, self.pretrained.model, self.embeddings, findings)
        return self._inference


def open_mavl(name: str, options: ScorerOptions, device: torch.device) -> MAVLScorer:
    """A scorer of a model folder, a released .pth or a hub id.

    Errors: CheckpointError, BookError, EmbeddingsError, HeatmapError.
    """
    pretrained = checkpoint.load(name)
    model, maps = pretrained.model, options.map_options
    check_parts(maps.used_aspects(model.aspects), maps.layers, model.aspects, len(model.decoder.layers))
    compared = () if healthy(pretrained.findings) or options.head != "contrastive" else HEALTHY
    embeddings = model_embeddings(
        pretrained,
        [*options.findings, *compared],
        descriptions=options.descriptions,
        aspects=options.aspects,
        text_encoder=options.text_encoder,
        max_length=options.max_length,
        rebuild=options.rebuild_text,
        cache=options.text_cache,
    )
    pretrained.model.to(device)
    return MAVLScorer(name, pretrained, embeddings.to(device), options)


def model_embeddings(
    pretrained: Pretrained,
    findings: Sequence[str],
    *,
    descriptions: Sequence[str | Path],
    aspects: Sequence[str | Path],
    text_encoder: str | None = None,
    max_length: int | None = None,
    rebuild: bool = False,
    cache: Path | None = None,
) -> TextEmbeddings:
    """Embeddings of the vocabulary that the model was trained with, then of the other findings.

    The vectors of a model folder are used as they are. The rest, and all for a released file or with `rebuild`, is
    encoded from the books, and scaled as those of the training.
    """
    stored = None if rebuild else pretrained.embeddings
    new = [name for name in dict.fromkeys(findings) if name not in pretrained.findings]
    if stored is not None and not new:
        return stored
    names = pretrained.model.aspects
    books = read_books(descriptions, aspects if names != (DESCRIPTION,) else ())
    encoder = _text_encoder(pretrained, text_encoder, max_length)
    encoded = new if stored is not None else [*pretrained.findings, *new]
    anatomies = ANATOMIES if pretrained.embeddings is None else pretrained.embeddings.anatomies
    embeddings = build_embeddings(books, encoded, encoder, names, cache, anatomies)
    if stored is None:
        return embeddings.scaled(pretrained.embeddings.scaling if pretrained.embeddings else None)
    return stored.extended(embeddings)


def _text_encoder(pretrained: Pretrained, name: str | None, max_length: int | None) -> TextEncoder:
    """The encoder of the model's text, or another one of that name; with max_length it cuts sentences there."""
    text = dict(pretrained.text)
    own = text.pop("encoder")
    encoder = load_text_encoder(name or own, **text | ({"max_length": max_length} if max_length else {}))
    if max_length and "max_length" not in encoder.tokenisation:
        fix = "remove max_length from the settings, and use protocol sound, since released sets it"
        raise TextEncoderError(f"text encoder {name or own} takes no max_length: {fix}")
    return encoder
