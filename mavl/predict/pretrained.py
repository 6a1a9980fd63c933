"""Pre-trained models: scores by both heads, explained by attention and aspects; new findings from books."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mavl import checkpoint
from mavl.checkpoint.folder import Pretrained
from mavl.config.loader import cache_folder
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS, TEXT_CACHE
from mavl.data.images.grey import ImageError
from mavl.data.images.inputs import Failure
from mavl.files import shipped
from mavl.model.explain import explain
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions
from mavl.model.inference import InferenceModel, for_findings
from mavl.model.scores import HeadError, scores
from mavl.predict.arrays import ImageSource, ValueRange, as_sources
from mavl.predict.prediction import Answer, Request
from mavl.predict.predictor import Predictor, meant
from mavl.provenance import training_images
from mavl.scorers.mavl import model_embeddings
from mavl.text.books import read_books
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import DESCRIPTION, NORMALITY, healthy

KEPT = 16
"""Sets of new findings, the last ones used, whose text embeddings stay in memory."""


class AvailableBooks:
    """The books of this project that are found, and the given ones, which take precedence.

    The sentences of a model's findings are those in its folder. A folder of an older version holds their vectors alone:
    they then come from the books whose hashes it states; `sentences` {finding: {aspect: sentence}} lacks those of books
    that are not found, and `complete` is then False. given: findings of the given books.
    """

    def __init__(self, pretrained: Pretrained, descriptions: Sequence[str | Path], aspects: Sequence[str | Path]):
        described, vectors = pretrained.model.aspects == (DESCRIPTION,), pretrained.embeddings
        self.descriptions = [*_own(DESCRIPTION_BOOKS), *map(Path, descriptions)]
        self.aspects = [] if described else [*_own(ASPECT_BOOKS), *map(Path, aspects)]
        self.given = list(read_books(descriptions, () if described else aspects).sentences)
        hashes = set(vectors.about["books"].values()) if vectors else set()
        trained = read_books(*(_with_hashes(paths, hashes) for paths in (self.descriptions, self.aspects)))
        stored = dict(vectors.sentences) if vectors else {}
        known = (
            {name: dict(stored.get(name) or trained.sentences.get(name, {})) for name in vectors.findings}
            if vectors
            else {}
        )
        self.sentences = read_books(self.descriptions, self.aspects).sentences | known
        self.complete = bool(stored) or hashes <= set(trained.hashes.values())


class PretrainedPredictor(Predictor):
    """A MAVL or MedKLIP with its text and that of the books. map_options: how attention becomes heatmaps."""

    def __init__(
        self,
        source: str,
        pretrained: Pretrained,
        books: AvailableBooks,
        text_encoder: str | None,
        device: str,
        map_options: MapOptions = DEFAULT_MAP,
    ):
        self.source, self.kind, self.device = source, checkpoint.MAVL_KIND, torch.device(device)
        self.pretrained, self.books, self.text_encoder, self.map_options = pretrained, books, text_encoder, map_options
        self.vocabulary, self.books_complete = pretrained.findings, books.complete
        self.scored = [name for name in self.vocabulary if name not in NORMALITY] or self.vocabulary
        self.known = [[*self.vocabulary, *books.given], books.sentences]
        self.model = pretrained.model.to(self.device).eval()
        self.preprocessing, self.trained_on = self.model.preprocessing, training_images(pretrained.about)
        self.operating_points = pretrained.about.get("operating_points")
        self._encoded = lru_cache(KEPT)(self._encode)
        self._inference: InferenceModel | None = None

    def _embeddings(self, findings: tuple[str, ...]) -> TextEmbeddings:
        """Those of the vocabulary and of new findings, for which the contrastive head leads: with what it compares."""
        new = [name for name in findings if name not in self.vocabulary]
        if new and self.model.pool is not None and not healthy(self.vocabulary):
            new += healthy(self.books.sentences)
        return self._encoded(tuple(dict.fromkeys(new)))

    def _encode(self, new: tuple[str, ...]) -> TextEmbeddings:
        return model_embeddings(
            self.pretrained,
            new,
            descriptions=self.books.descriptions,
            aspects=self.books.aspects,
            text_encoder=self.text_encoder,
            cache=cache_folder(TEXT_CACHE),
        ).to(self.device)

    @torch.no_grad()
    def encode_image(self, images: ImageSource | Iterable[ImageSource], *, value_range: ValueRange = None) -> Tensor:
        vectors = []
        for number, source in enumerate(chain.from_iterable(map(meant, as_sources(images))), start=1):
            if isinstance(item := self._decode((number, source), value_range), Failure):
                raise ImageError(str(item))
            pooled = self.model.encode_image(item[2][None].to(self.device)).pooled
            vectors.append(self._unit(pooled))
        return torch.cat(vectors)

    @torch.no_grad()
    def encode_text(self, findings: Sequence[str] | str) -> Tensor:
        request = self.request(findings)
        assert request.embeddings is not None
        rows = request.embeddings.vectors[request.embeddings.index(request.findings)]
        return self._unit(self.model.query_projection(rows) if self.model.pool is not None else None)

    def _unit(self, vectors: Tensor | None) -> Tensor:
        if vectors is None:
            raise HeadError(f"{self.source}: this model has no contrastive head (MedKLIP has none), so no such vectors")
        return F.normalize(vectors.float(), dim=-1).cpu()

    @torch.no_grad()
    def _answer(self, pixels: Tensor, request: Request) -> list[Answer]:
        text = self._embeddings(request.findings)
        self._inference = model = for_findings(self._inference, self.model, text, request.findings)
        embeddings, output = model.embeddings, model(pixels, return_attention=request.explained > 0)
        supervised = scores(output, embeddings, request.findings).cpu().numpy()
        contrastive = [None] * len(pixels)
        if output.cosine is not None and healthy(embeddings.findings):
            contrastive = scores(output, embeddings, request.findings, "contrastive").cpu().numpy()
        answers = []
        for row, (values, others) in enumerate(zip(supervised, contrastive, strict=True)):
            explained = {}
            for _, name in request.most_probable(values, others):
                sentences = self.books.sentences.get(name)
                explained[name] = explain(self.model, embeddings, output, name, row, sentences, self.map_options)
            answers.append((values, others, explained))
        return answers


def _own(names: Sequence[str]) -> list[Path]:
    """This project's books, in the working folder or else those of the package."""
    return [path for path in map(shipped, names) if path.is_file()]


def _with_hashes(paths: Sequence[Path], hashes: set[str]) -> list[Path]:
    return [path for path in paths if hashlib.sha256(path.read_bytes()).hexdigest() in hashes]
