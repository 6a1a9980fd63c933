"""Pre-trained models: scores by both heads, explained by attention and aspects; new findings from books."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from mavl import checkpoint
from mavl.checkpoint.folder import Pretrained
from mavl.config.settings import ASPECT_BOOKS, DESCRIPTION_BOOKS, TEXT_CACHE
from mavl.model.explain import explain
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions
from mavl.model.inference import InferenceModel
from mavl.model.scores import scores
from mavl.predict.predictor import Answer, Predictor, Request
from mavl.scorers.mavl import model_embeddings
from mavl.text.books import read_books
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import DESCRIPTION, HEALTHY, NORMALITY

REPOSITORY = Path(__file__).resolve().parents[2]

KEPT = 16
"""Sets of new findings, the last ones used, whose text embeddings stay in memory."""


class AvailableBooks:
    """The books of this project that are found, and the given ones, which take precedence.

    A model folder holds the vectors of its sentences, not the sentences. These come from the books whose hashes the
    folder states, so `sentences` {finding: {aspect: sentence}} lacks those of books that are not found, and `complete`
    is then False. given: findings of the given books. all: findings of all books.
    """

    def __init__(self, pretrained: Pretrained, descriptions: Sequence[str | Path], aspects: Sequence[str | Path]):
        described = pretrained.model.aspects == (DESCRIPTION,)
        given = list(map(Path, descriptions)), [] if described else list(map(Path, aspects))
        self.descriptions = [*_own(DESCRIPTION_BOOKS), *given[0]]
        self.aspects = given[1] if described else [*_own(ASPECT_BOOKS), *given[1]]
        embeddings, books = pretrained.embeddings, read_books(self.descriptions, self.aspects)
        self.given, self.all = list(read_books(*given).sentences), list(books.sentences)
        self.sentences, self.complete = books.sentences, True
        if embeddings is not None:
            hashes = set(embeddings.about["books"].values())
            paths = ([path for path in of if _sha256(path) in hashes] for of in (self.descriptions, self.aspects))
            trained = read_books(*paths)
            self.sentences = self.sentences | {name: trained.sentences.get(name, {}) for name in embeddings.findings}
            self.complete = hashes <= set(trained.hashes.values())


class PretrainedPredictor(Predictor):
    """A MAVL or MedKLIP with its text, beside it that of the books. map_options: how attention becomes heatmaps."""

    def __init__(
        self,
        source: str,
        pretrained: Pretrained,
        books: AvailableBooks,
        text_encoder: str | None,
        device: str,
        map_options: MapOptions = DEFAULT_MAP,
    ):
        super().__init__(
            source,
            checkpoint.MAVL_KIND,
            pretrained.findings,
            pretrained.model.preprocessing,
            device,
            scored=[name for name in pretrained.findings if name not in NORMALITY],
            known=[[*pretrained.findings, *books.given], books.all],
        )
        self.pretrained, self.books, self.text_encoder, self.map_options = pretrained, books, text_encoder, map_options
        self.books_complete = books.complete
        self.model = pretrained.model.to(self.device).eval()
        self._encoded = lru_cache(KEPT)(self._encode)
        self._inference: InferenceModel | None = None

    def _embeddings(self, findings: tuple[str, ...]) -> TextEmbeddings:
        return self._encoded(tuple(name for name in findings if name not in self.vocabulary))

    def _encode(self, new: tuple[str, ...]) -> TextEmbeddings:
        return model_embeddings(
            self.pretrained,
            new,
            descriptions=self.books.descriptions,
            aspects=self.books.aspects,
            text_encoder=self.text_encoder,
            cache=Path(TEXT_CACHE).expanduser(),
        ).to(self.device)

    def _inference_model(self, request: Request) -> InferenceModel:
        """The model for these findings; models of other findings share its weights."""
        embeddings = self._embeddings(request.findings)
        wanted = tuple(dict.fromkeys([*request.findings, *(name for name in HEALTHY if name in embeddings.findings)]))
        if self._inference is None:
            self._inference = InferenceModel(self.model, embeddings, wanted)
        elif self._inference.embeddings.findings != wanted:
            self._inference = self._inference.with_embeddings(embeddings, wanted)
        return self._inference

    @torch.no_grad()
    def _answer(self, pixels: Tensor, request: Request) -> list[Answer]:
        model = self._inference_model(request)
        embeddings, output = model.embeddings, model(pixels, return_attention=request.explained > 0)
        supervised = scores(output, embeddings, request.findings).cpu().numpy()
        contrastive = [None] * len(pixels)
        if output.cosine is not None and set(HEALTHY) <= set(embeddings.findings):
            contrastive = scores(output, embeddings, request.findings, "contrastive").cpu().numpy()
        answers = []
        for row, (values, others) in enumerate(zip(supervised, contrastive, strict=True)):
            explained = {
                name: explain(
                    self.model, embeddings, output, name, row, self.books.sentences.get(name, {}), self.map_options
                )
                for _, name in request.most_probable(values)
            }
            answers.append((values, others, explained))
        return answers


def _own(names: Sequence[str]) -> list[Path]:
    """This project's books, in the working folder or else beside the package; none where neither has them."""
    found = []
    for name in names:
        found += [path for path in (Path(name), REPOSITORY / name) if path.is_file()][:1]
    return found


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
