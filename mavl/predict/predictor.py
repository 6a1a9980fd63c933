"""One image, or any number of them -> scores by both heads and what explains them.

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
from mavl.checkpoint import finetuned
from mavl.checkpoint.folder import CheckpointError, Pretrained
from mavl.config.settings import EvaluationSettings
from mavl.cpu import keep_freed_memory
from mavl.data.images.inputs import Failure, find_images
from mavl.data.images.read import ImageError, grey_picture, read_image
from mavl.data.images.transforms import eval_transform
from mavl.evaluate.subject import text_embeddings
from mavl.model.explain import Explanation, explain
from mavl.model.inference import InferenceModel
from mavl.model.scores import contrastive_probability, presence_probability
from mavl.predict.available_books import AvailableBooks
from mavl.text.embeddings import TextEmbeddings
from mavl.text.synonyms import resolve
from mavl.vocab import HEALTHY, NORMALITY

TOP = 5
"""How many findings of an image are explained when none were named."""

KEPT = 16
"""How many sets of findings, the last ones asked for, stay ready to be asked again."""

ImageSource = str | os.PathLike | Image.Image


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of one image.

    name: the file's, as it was given; picture: the grey image in its own size.
    findings [n]: names of the embeddings; asked [n]: what they were called in the question.
    supervised [n], contrastive [n]: probabilities by the two heads (contrastive is None for a model without it).
    explanations: by finding, for those that were to be explained.
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
class Question:
    """Findings by their names in `embeddings`, and as they were `asked`; the first `explained` of each image are explained.

    The embeddings is the model's whole vocabulary and the new findings: queries look at one another in the decoder, so a
    score depends on which findings stand beside it, and here it is the one that an evaluation gives.
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
    """A model ready to be asked, from `load`."""

    kind = checkpoint.MAVL_KIND

    def __init__(
        self, source: str, pretrained: Pretrained, wording: AvailableBooks, text_encoder: str | None, device: str
    ):
        self.source, self.pretrained, self.books, self.text_encoder = source, pretrained, wording, text_encoder
        self.device = torch.device(device)
        self.model = pretrained.model.to(self.device).eval()
        self.transform = eval_transform(pretrained.about["model"].get("image_size", 224))
        self._embeddings_of: dict[tuple[str, ...], TextEmbeddings] = {}
        self._readers: dict[tuple[str, ...], InferenceModel] = {}

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The findings that the model was trained with."""
        return self.pretrained.findings

    @property
    def books_complete(self) -> bool:
        """Whether all the books that the model's vectors were made of are at hand."""
        return self.books.complete

    def question(self, findings: Sequence[str] | str | None = None, explained: int | None = None) -> Question:
        """What to ask: names or synonyms of findings, new ones of the books, or None for all but words of normality.

        explained: how many of an image's most probable ones are explained; all when they are named, TOP when not.
        UnknownFindingError for a name that neither the vocabulary nor the books have.
        """
        if isinstance(findings, str):
            findings = [findings]
        asked = findings or [name for name in self.vocabulary if name not in NORMALITY] or self.vocabulary
        known = [[*self.vocabulary, *self.books.given], self.books.all]
        meant: dict[str, str] = {}
        for name in asked:
            meant.setdefault(resolve(name, *known), name)
        if explained is None:
            explained = len(meant) if findings else TOP
        return Question(tuple(meant.values()), tuple(meant), self._embeddings(tuple(meant)), max(0, explained))

    def stream(
        self, images: Iterable[ImageSource], question: Question, *, batch_size: int = 8, workers: int = 2
    ) -> Iterator[Prediction | Failure]:
        """Answers in the order of the images; one that cannot be read gives a Failure. Memory does not grow with them.

        Threads decode the next images while the model is at work.
        """
        batch_size = max(1, batch_size)
        decoded = self._decode_ahead(images, batch_size, workers)
        while batch := list(islice(decoded, batch_size)):
            good = [item for item in batch if isinstance(item, _Decoded)]
            answers = iter(self._answer(good, question) if good else [])
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
        for answer in self.stream(images, self.question(findings)):
            if isinstance(answer, Failure):
                raise ImageError(str(answer))
            predictions.append(answer)
        return predictions

    def _embeddings(self, findings: tuple[str, ...]) -> TextEmbeddings:
        new = tuple(name for name in findings if name not in self.vocabulary)

        def build() -> TextEmbeddings:
            settings = EvaluationSettings(
                benchmark="none",
                descriptions=tuple(map(str, self.books.descriptions)),
                aspects=tuple(map(str, self.books.aspects)),
                text_encoder=self.text_encoder,
            )
            return text_embeddings(settings, self.pretrained, new).to(self.device)

        return _recent(self._embeddings_of, new, build)

    def _reader(self, question: Question) -> InferenceModel:
        """Of the model as it was when it was first asked anything: all inference_models share that one copy."""

        def build() -> InferenceModel:
            wanted = [*question.findings, *(name for name in HEALTHY if name in question.embeddings.findings)]
            other = next(iter(self._readers.values()), None)
            return (
                other.with_embeddings(question.embeddings, wanted)
                if other
                else InferenceModel(self.model, question.embeddings, wanted)
            )

        return _recent(self._readers, question.findings, build)

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
    def _answer(self, batch: list[_Decoded], question: Question) -> list[Prediction]:
        inference_model = self._reader(question)
        embeddings, columns = inference_model.embeddings, inference_model.embeddings.index(question.findings)
        pixels = torch.stack([item.pixels for item in batch]).to(self.device)
        output = inference_model(pixels, return_attention=question.explained > 0)
        supervised = presence_probability(output.presence_logits)[:, columns].cpu().numpy()
        contrastive = None
        if output.cosine is not None and set(HEALTHY) <= set(embeddings.findings):
            contrastive = contrastive_probability(output.cosine, embeddings.index(HEALTHY))[:, columns].cpu().numpy()
        predictions = []
        for row, item in enumerate(batch):
            top = np.argsort(-supervised[row], kind="stable")[: question.explained]
            explained = {
                name: explain(self.model, embeddings, output, name, row, self.books.sentences(name))
                for name in (question.findings[i] for i in top)
            }
            other = None if contrastive is None else contrastive[row]
            predictions.append(
                Prediction(
                    item.name, item.picture, question.findings, question.asked, supervised[row], other, explained
                )
            )
        return predictions


def _each(images: Iterable[ImageSource]) -> Iterator[ImageSource]:
    """Images as they are, and the files that names mean."""
    for image in images:
        if isinstance(image, Image.Image):
            yield image
            continue
        files, failures = find_images([os.fspath(image)])
        if failures:
            raise ImageError(str(failures[0]))
        yield from files


def _recent(kept: dict[tuple[str, ...], Any], key: tuple[str, ...], build: Callable[[], Any]) -> Any:
    """kept[key], built where it is not there; of more than KEPT the one that was asked for the longest ago goes."""
    kept[key] = made = kept.pop(key) if key in kept else build()
    if len(kept) > KEPT:
        del kept[next(iter(kept))]
    return made


def load(
    source: str | os.PathLike,
    *,
    descriptions: Sequence[str | Path] = (),
    aspects: Sequence[str | Path] = (),
    text_encoder: str | None = None,
    device: str | None = None,
) -> Predictor:
    """A model folder, a released .pth or a hub id, pre-trained or fine-tuned -> Predictor, on the GPU if there is one.

    descriptions, aspects: books with findings of one's own, beside this project's. The findings that a model folder was
    trained with keep their vectors, whatever the books say. text_encoder: a folder or hub id, if not the model's
    own; it is only needed for new findings, and for released files, which hold no vectors. A fine-tuned model has
    findings of its own, without books. On a CPU the process keeps freed memory from then on (mavl.cpu).
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    if finetuned.source_kind(source) in finetuned.KINDS:
        from mavl.predict import classifier as predict_finetuned  # which stands on this module

        if descriptions or aspects or text_encoder:
            raise CheckpointError(
                f"{source}: a fine-tuned model has findings of its own and takes no books and no text encoder"
            )
        return predict_finetuned.load(str(source), device)
    pretrained = checkpoint.load(str(source))
    return Predictor(str(source), pretrained, AvailableBooks(pretrained, descriptions, aspects), text_encoder, device)
