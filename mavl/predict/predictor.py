"""Any number of images -> scores of findings and their explanations; what all models that score have in common.

    predictor = mavl.load("runs/demo/best")
    [prediction] = predictor.predict("film.png", ["pneumonia", "enlarged heart"])
    prediction.scores()["pneumonia"], prediction.explanations["pneumonia"].shares

`mavl.predict.files` writes predictions to disk.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mavl.backbones import Preprocessing
from mavl.data.images.grey import equalize_histogram
from mavl.data.images.inputs import Failure, find_images
from mavl.data.images.read import ImageError, grey_picture, read_image
from mavl.data.images.transforms import eval_transform
from mavl.model.explain import Explanation
from mavl.text.embeddings import TextEmbeddings
from mavl.text.synonyms import resolve

TOP = 5
"""How many findings of an image are explained if none were named."""

ImageSource = str | os.PathLike | Image.Image
Answer = tuple[np.ndarray, np.ndarray | None, dict[str, Explanation]]
"""Of one image: probabilities [n] of the two heads, and explanations by finding."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """The scores of one image.

    name: of the file, as given. picture: the grey image in its own size.
    findings [n]: names of the embeddings. asked [n]: the names by which they were requested.
    supervised [n], contrastive [n]: probabilities by the two heads (contrastive: None for a model without this head).
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
        return ranked(self.supervised)

    def scores(self) -> dict[str, float]:
        """{finding: supervised probability}, the most probable first."""
        return {self.findings[i]: float(self.supervised[i]) for i in self.ranked()}


@dataclass(frozen=True)
class Request:
    """The findings to score, by the names given and by the model's names, and how many of an image's are explained.

    embeddings: of a model with text, its whole vocabulary and the new findings: a score depends on all queries of the
    decoder's self-attention, and with these it equals that of an evaluation.
    """

    asked: tuple[str, ...]
    findings: tuple[str, ...]
    explained: int
    embeddings: TextEmbeddings | None = None

    def most_probable(self, scores: np.ndarray) -> list[tuple[int, str]]:
        """(position, name) of the findings to explain, from the scores [n] of an image."""
        return [(i, self.findings[i]) for i in ranked(scores)[: self.explained]]


class Predictor(ABC):
    """A model on its device; made by `mavl.load`. A kind of model is a subclass with `_answer` and these attributes.

    source: what the model was loaded from. vocabulary: the findings that it was trained with; scored: those that are
    scored if none are named. known: names that a request may use; the first collection that has a name counts.
    equalize: whether histograms are equalized before the preprocessing.
    """

    source: str
    kind: str
    device: torch.device
    preprocessing: Preprocessing
    vocabulary: tuple[str, ...]
    scored: Sequence[str]
    known: Sequence[Collection[str]]
    equalize = False
    books_complete = True

    def request(self, findings: Sequence[str] | str | None = None, explained: int | None = None) -> Request:
        """A request for findings: names or synonyms, also of new findings in the books; None for `scored`.

        explained: how many of an image's most probable findings are explained, by default all of the named ones, or
        TOP. UnknownFindingError for a name that is not known.
        """
        named = [findings] if isinstance(findings, str) else findings
        meant: dict[str, str] = {}
        for name in named or self.scored:
            meant.setdefault(resolve(name, *self.known), name)
        explained = (len(meant) if named else TOP) if explained is None else max(0, explained)
        return Request(tuple(meant.values()), tuple(meant), explained, self._embeddings(tuple(meant)))

    def stream(
        self, images: Iterable[ImageSource], request: Request, *, batch_size: int = 8, workers: int = 2
    ) -> Iterator[Prediction | Failure]:
        """Predictions in the order of the images; a Failure for an unreadable one. Memory does not grow with them.

        Threads decode the next batch while the model computes.
        """
        numbered = enumerate(images, start=1)
        with ThreadPoolExecutor(workers) as pool:
            ahead = pool.map(self._decode, islice(numbered, max(1, batch_size)))
            while batch := list(ahead):
                ahead = pool.map(self._decode, islice(numbered, max(1, batch_size)))
                pixels = [item[2] for item in batch if not isinstance(item, Failure)]
                answers = iter(self._answer(torch.stack(pixels).to(self.device), request) if pixels else ())
                for item in batch:
                    if isinstance(item, Failure):
                        yield item
                    else:
                        yield Prediction(item[0], item[1], request.findings, request.asked, *next(answers))

    def predict(
        self, images: ImageSource | Iterable[ImageSource], findings: Sequence[str] | str | None = None
    ) -> list[Prediction]:
        """PIL images, image files, folders, patterns or CSV lists -> a Prediction of each image that they mean.

        ImageError for an unreadable image, NoImageError for a name without images. For very many images use `stream`.
        """
        if isinstance(images, str | os.PathLike | Image.Image):
            images = [images]
        predictions = []
        for answer in self.stream(chain.from_iterable(map(_meant, images)), self.request(findings)):
            if isinstance(answer, Failure):
                raise ImageError(str(answer))
            predictions.append(answer)
        return predictions

    def explain(self, image: ImageSource, finding: str) -> Explanation:
        """Why this finding got its score in this image."""
        [prediction] = self.predict(image, finding)
        return next(iter(prediction.explanations.values()))

    @abstractmethod
    def _answer(self, pixels: Tensor, request: Request) -> list[Answer]:
        """pixels [B, 3, S, S] -> an Answer for each image."""

    def _embeddings(self, findings: tuple[str, ...]) -> TextEmbeddings | None:
        """The embeddings with these findings; None for a model without text."""
        return None

    def _decode(self, numbered: tuple[int, ImageSource]) -> tuple[str, Image.Image, Tensor] | Failure:
        """(name, grey image, pixels)."""
        number, image = numbered
        name = getattr(image, "filename", "") or f"image {number}" if isinstance(image, Image.Image) else str(image)
        try:
            picture = grey_picture(image, name) if isinstance(image, Image.Image) else read_image(image)
        except ImageError as error:
            return Failure(name, str(error).removeprefix(f"{name}: "))
        return name, picture, to_pixels(picture, self.preprocessing, self.equalize)


def to_pixels(picture: Image.Image, preprocessing: Preprocessing, equalize: bool) -> Tensor:
    """A grey image -> the input of a model [3, S, S]."""
    if equalize:
        picture = Image.fromarray(equalize_histogram(np.asarray(picture)))
    return eval_transform(preprocessing)(picture)


def ranked(scores: np.ndarray) -> list[int]:
    """Positions of scores [n], the highest first."""
    return np.argsort(-scores, kind="stable").tolist()


def _meant(image: ImageSource) -> Sequence[ImageSource]:
    """The image itself, or the files that a name stands for."""
    if isinstance(image, Image.Image):
        return [image]
    files, failures = find_images([os.fspath(image)])
    if failures:
        raise ImageError(str(failures[0]))
    return files
