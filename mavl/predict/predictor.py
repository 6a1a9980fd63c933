"""One image, or any number of them -> scores by both heads and explanations.

    predictor = mavl.load("runs/demo/best")
    [prediction] = predictor.predict("film.png", ["pneumonia", "enlarged heart"])
    prediction.scores()["pneumonia"], prediction.explanations["pneumonia"].shares

`mavl.predict.files` writes them.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mavl import checkpoint
from mavl.checkpoint.folder import Pretrained
from mavl.config.settings import TEXT_CACHE
from mavl.data.images.inputs import Failure, find_images
from mavl.data.images.read import ImageError, grey_picture, read_image
from mavl.data.images.transforms import eval_transform
from mavl.model.explain import Explanation, explain
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions
from mavl.model.inference import InferenceModel
from mavl.model.scores import contrastive_probability, presence_probability
from mavl.predict.available_books import AvailableBooks
from mavl.scorers.mavl import model_embeddings
from mavl.text.embeddings import TextEmbeddings
from mavl.text.synonyms import resolve
from mavl.vocab import HEALTHY, NORMALITY

TOP = 5
"""How many findings of an image are explained when none were named."""

KEPT = 16
"""How many sets of findings, the last ones used, stay in memory with their text."""

ImageSource = str | os.PathLike | Image.Image


@dataclass(frozen=True, eq=False)
class Prediction:
    """The scores of one image.

    name: the file's, as it was given; picture: the grey image in its own size.
    findings [n]: names of the embeddings; asked [n]: the names by which they were requested.
    supervised [n], contrastive [n]: probabilities by the two heads (contrastive is None for a model without it).
    explanations: by finding, for those that were explained.
    """

    name: str
    picture: Image.Image
    findings: tuple[str, ...]
    asked: tuple[str, ...]
    supervised: np.ndarray
    contrastive: np.ndarray | None
    explanations: dict[str, Explanation]

    def ranked(self) -> list[int]:
        """Positions of the findings by falling supervised score."""
        return np.argsort(-self.supervised, kind="stable").tolist()

    def scores(self) -> dict[str, float]:
        """{finding: supervised probability}, the most probable first."""
        return {self.findings[i]: float(self.supervised[i]) for i in self.ranked()}


@dataclass(frozen=True)
class Request:
    """The findings to score, the text that they are scored with, and how many of an image's findings are explained.

    asked: the names as they were given. findings: their names in `embeddings`, which holds the model's whole vocabulary
    and the new findings: a score depends on all queries of the decoder's self-attention, and with these it equals that
    of an evaluation.
    """

    asked: tuple[str, ...]
    findings: tuple[str, ...]
    embeddings: TextEmbeddings
    explained: int


@dataclass(frozen=True)
class _Decoded:
    name: str
    picture: Image.Image
    pixels: Tensor


class Predictor:
    """A model with its text, ready for images; made by `load`."""

    kind = checkpoint.MAVL_KIND

    def __init__(
        self,
        source: str,
        pretrained: Pretrained,
        books: AvailableBooks,
        text_encoder: str | None,
        device: str,
        map_options: MapOptions = DEFAULT_MAP,
    ):
        self.source, self.pretrained, self.books, self.text_encoder = source, pretrained, books, text_encoder
        self.map_options = map_options
        self.device = torch.device(device)
        self.model = pretrained.model.to(self.device).eval()
        self.transform = eval_transform(self.model.preprocessing)
        self._embeddings_of: dict[tuple[str, ...], TextEmbeddings] = {}
        self._inference: dict[tuple[str, ...], InferenceModel] = {}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The findings that the model was trained with."""
        return self.pretrained.findings

    @property
    def books_complete(self) -> bool:
        """Whether all the books of which the model's vectors were made were found."""
        return self.books.complete

    def request(self, findings: Sequence[str] | str | None = None, explained: int | None = None) -> Request:
        """The findings to score: names or synonyms, also new ones of the books; None for all but words of normality.

        explained: how many of an image's most probable findings are explained; by default all when findings are given,
        else TOP. UnknownFindingError for a name that neither the vocabulary nor the books have.
        """
        if isinstance(findings, str):
            findings = [findings]
        names = findings or [name for name in self.vocabulary if name not in NORMALITY] or self.vocabulary
        known = [[*self.vocabulary, *self.books.given], self.books.all]
        meant: dict[str, str] = {}
        for name in names:
            meant.setdefault(resolve(name, *known), name)
        if explained is None:
            explained = len(meant) if findings else TOP
        return Request(tuple(meant.values()), tuple(meant), self._embeddings(tuple(meant)), max(0, explained))

    def stream(
        self, images: Iterable[ImageSource], request: Request, *, batch_size: int = 8, workers: int = 2
    ) -> Iterator[Prediction | Failure]:
        """Predictions in the order of the images; an unreadable one gives a Failure. Memory does not grow with them.

        Threads decode the next images while the model computes.
        """
        batch_size = max(1, batch_size)
        decoded = self._decode_ahead(images, batch_size, workers)
        while batch := list(islice(decoded, batch_size)):
            good = [item for item in batch if isinstance(item, _Decoded)]
            answers = iter(self._answer(good, request) if good else [])
            for item in batch:
                yield item if isinstance(item, Failure) else next(answers)

    def predict(
        self, images: ImageSource | Iterable[ImageSource], findings: Sequence[str] | str | None = None
    ) -> list[Prediction]:
        """PIL images, image files, folders, patterns or CSV lists -> a Prediction of each image that they mean.

        ImageError for one that cannot be read, NoImageError where there is none. For very many, see `stream`.
        """
        if isinstance(images, str | os.PathLike | Image.Image):
            images = [images]
        return self._all(_each(images), findings)

    def explain(self, image: ImageSource, finding: str) -> Explanation:
        """Why this finding got its score in this image."""
        [prediction] = self._all([image], finding)
        return next(iter(prediction.explanations.values()))

    def _all(self, images: Iterable[ImageSource], findings: Sequence[str] | str | None) -> list[Prediction]:
        predictions = []
        for answer in self.stream(images, self.request(findings)):
            if isinstance(answer, Failure):
                raise ImageError(str(answer))
            predictions.append(answer)
        return predictions

    def _embeddings(self, findings: tuple[str, ...]) -> TextEmbeddings:
        new = tuple(name for name in findings if name not in self.vocabulary)

        def build() -> TextEmbeddings:
            books = {"descriptions": self.books.descriptions, "aspects": self.books.aspects}
            cache = Path(TEXT_CACHE).expanduser()
            made = model_embeddings(self.pretrained, new, **books, text_encoder=self.text_encoder, cache=cache)
            return made.to(self.device)

        return _recent(self._embeddings_of, new, build)

    def _inference_model(self, request: Request) -> InferenceModel:
        """The model for these findings; all of them share one copy of the weights, made at the first use."""

        def build() -> InferenceModel:
            wanted = [*request.findings, *(name for name in HEALTHY if name in request.embeddings.findings)]
            other = next(iter(self._inference.values()), None)
            return (
                other.with_embeddings(request.embeddings, wanted)
                if other
                else InferenceModel(self.model, request.embeddings, wanted)
            )

        return _recent(self._inference, request.findings, build)

    def _decode_ahead(
        self, images: Iterable[ImageSource], batch_size: int, workers: int
    ) -> Iterator[_Decoded | Failure]:
        pending: deque[Future] = deque()
        pool = ThreadPoolExecutor(max(1, workers))
        try:
            for number, image in enumerate(images, start=1):
                pending.append(pool.submit(self._decode, image, number))
                if len(pending) > batch_size:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, image: ImageSource, number: int) -> _Decoded | Failure:
        name = getattr(image, "filename", "") or f"image {number}" if isinstance(image, Image.Image) else str(image)
        try:
            picture = grey_picture(image, name) if isinstance(image, Image.Image) else read_image(image)
        except ImageError as error:
            return Failure(name, str(error).removeprefix(f"{name}: "))
        return _Decoded(name, picture, self.transform(picture))

    @torch.no_grad()
    def _answer(self, batch: list[_Decoded], request: Request) -> list[Prediction]:
        model = self._inference_model(request)
        embeddings, columns = model.embeddings, model.embeddings.index(request.findings)
        pixels = torch.stack([item.pixels for item in batch]).to(self.device)
        output = model(pixels, return_attention=request.explained > 0)
        supervised = presence_probability(output.presence_logits)[:, columns].cpu().numpy()
        contrastive = None
        if output.cosine is not None and set(HEALTHY) <= set(embeddings.findings):
            contrastive = contrastive_probability(output.cosine, embeddings.index(HEALTHY))[:, columns].cpu().numpy()
        predictions = []
        for row, item in enumerate(batch):
            top = np.argsort(-supervised[row], kind="stable")[: request.explained]
            explained = {
                name: explain(self.model, embeddings, output, name, row, self.books.sentences(name), self.map_options)
                for name in (request.findings[i] for i in top)
            }
            other = None if contrastive is None else contrastive[row]
            predictions.append(
                Prediction(item.name, item.picture, request.findings, request.asked, supervised[row], other, explained)
            )
        return predictions


def _each(images: Iterable[ImageSource]) -> Iterator[ImageSource]:
    """Images as they are, and the files that the names stand for."""
    for image in images:
        if isinstance(image, Image.Image):
            yield image
            continue
        files, failures = find_images([os.fspath(image)])
        if failures:
            raise ImageError(str(failures[0]))
        yield from files


def _recent(kept: dict[tuple[str, ...], Any], key: tuple[str, ...], build: Callable[[], Any]) -> Any:
    """kept[key], built where it is missing; of more than KEPT the one used the longest ago is dropped."""
    kept[key] = made = kept.pop(key) if key in kept else build()
    if len(kept) > KEPT:
        del kept[next(iter(kept))]
    return made
