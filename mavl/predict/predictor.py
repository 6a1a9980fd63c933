"""Any number of images -> scores of findings and their explanations; what all models that score have in common.

    predictor = mavl.load("runs/demo/best")
    [prediction] = predictor.predict("film.png", ["pneumonia", "enlarged heart"])
    prediction.scores()["pneumonia"], prediction.explanations["pneumonia"].shares
    prediction.heatmap("pneumonia")                                    # [H, W] of the film

`mavl.predict.files` writes predictions to disk.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import chain, islice

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mavl.backbones import Preprocessing
from mavl.data.images.grey import equalize_histogram
from mavl.data.images.inputs import Failure, find_images
from mavl.data.images.read import ImageError
from mavl.data.images.transforms import eval_transform
from mavl.metrics.calibration import Calibration
from mavl.model.explain import Explanation
from mavl.model.scores import HeadError
from mavl.predict.arrays import ImageSource, ValueRange, as_sources, read_picture
from mavl.predict.prediction import TOP, Answer, Point, Prediction, Request, doubts
from mavl.progress import plural
from mavl.provenance import training_sentence
from mavl.text.embeddings import TextEmbeddings
from mavl.text.synonyms import resolve


class Predictor(ABC):
    """A model on its device; made by `mavl.load`. A kind of model is a subclass with `_answer` and these attributes.

    source: what the model was loaded from. vocabulary: the findings that it was trained with; scored: those that are
    scored if none are named. known: names that a request may use; the first collection that has a name counts.
    equalize: whether histograms are equalized before the preprocessing. trained_on: what the model folder says of the
    training images, None if it does not; unit: what the heatmaps measure. operating_points: as
    mavl.checkpoint.about.OperatingPoints, None where the folder has none.
    """

    source: str
    kind: str
    device: torch.device
    preprocessing: Preprocessing
    vocabulary: tuple[str, ...]
    scored: Sequence[str]
    known: Sequence[Collection[str]]
    trained_on: dict | None = None
    operating_points: dict | None = None
    unit = "attention"
    equalize = False
    books_complete = True

    def __repr__(self) -> str:
        parts = [f"{plural(len(self.vocabulary), 'finding')}, on {self.device}", training_sentence(self.trained_on)]
        return f"{type(self).__name__}({self.source!r}: {'. '.join(filter(None, parts))})"

    @cached_property
    def points(self) -> dict[str, Point]:
        """{finding: its operating point}."""
        points = {}
        for finding, stored in (self.operating_points or {"findings": {}})["findings"].items():
            calibration = Calibration(**stored["calibration"]) if stored.get("calibration") else None
            points[finding] = Point(stored["threshold"], calibration)
        return points

    def request(self, findings: Sequence[str] | str | None = None, explained: int | None = None) -> Request:
        """A request for findings: names or synonyms, also of new findings in the books; None for `scored`.

        explained: how many of an image's most probable findings are explained, by default all of the named ones, or
        TOP. UnknownFindingError for a name that is not known, TypeError for what is no name.
        """
        named = [findings] if isinstance(findings, str) or not isinstance(findings, Iterable | None) else findings
        meant: dict[str, str] = {}
        for name in named or self.scored:
            if not isinstance(name, str):
                raise TypeError(f"finding {name!r} is of type {type(name).__name__}; expected a name")
            meant.setdefault(resolve(name, *self.known), name)
        explained = (len(meant) if named else TOP) if explained is None else max(0, explained)
        new = frozenset(meant) - set(self.vocabulary)
        return Request(tuple(meant.values()), tuple(meant), explained, self._embeddings(tuple(meant)), new)

    def stream(
        self,
        images: Iterable[ImageSource],
        request: Request,
        *,
        batch_size: int = 8,
        workers: int = 2,
        value_range: ValueRange = None,
    ) -> Iterator[Prediction | Failure]:
        """Predictions in the order of the images; a Failure for one that is unreadable or has no finite scores.

        Threads decode the next batch while the model computes. Memory does not grow with the images.
        """
        numbered = enumerate(images, start=1)
        decode = partial(self._decode, value_range=value_range)
        with ThreadPoolExecutor(workers) as pool:
            ahead = pool.map(decode, islice(numbered, max(1, batch_size)))
            while batch := list(ahead):
                ahead = pool.map(decode, islice(numbered, max(1, batch_size)))
                pixels = [item[2] for item in batch if not isinstance(item, Failure)]
                answers = iter(self._answer(torch.stack(pixels).to(self.device), request) if pixels else ())
                for item in batch:
                    if isinstance(item, Failure):
                        yield item
                        continue
                    name, picture, _ = item
                    answer = supervised, contrastive, _ = next(answers)
                    if not np.isfinite([supervised, supervised if contrastive is None else contrastive]).all():
                        yield Failure(name, "the model gives a score that is not a finite number")
                        continue
                    warnings = doubts(picture)
                    asked = request.findings, request.asked
                    yield Prediction(name, picture, *asked, *answer, request.new, warnings, self.points)

    def predict(
        self,
        images: ImageSource | Iterable[ImageSource],
        findings: Sequence[str] | str | None = None,
        *,
        value_range: ValueRange = None,
    ) -> list[Prediction]:
        """Files, folders, patterns, CSV lists, PIL images, arrays or tensors -> a Prediction of each image.

        value_range: (black, white) of arrays that are neither uint8 nor uint16 (mavl.predict.arrays). ImageError for an
        unreadable image, NoImageError for a name without images. For very many images use `stream`.
        """
        named = chain.from_iterable(map(meant, as_sources(images)))
        return list(map(_raise_failure, self.stream(named, self.request(findings), value_range=value_range)))

    def explain(self, image: ImageSource, finding: str, *, value_range: ValueRange = None) -> Explanation:
        """Why this finding got its score in this image; TypeError for several images or findings."""
        sources = list(chain.from_iterable(map(meant, as_sources(image))))
        if len(sources) != 1 or not isinstance(finding, str):
            asked = f"{plural(len(sources), 'image')} and {finding!r}"
            raise TypeError(f"explain takes one image and the name of one finding, not {asked}; predict takes several")
        [prediction] = self.predict(sources, finding, value_range=value_range)
        return next(iter(prediction.explanations.values()))

    def encode_image(self, images: ImageSource | Iterable[ImageSource], *, value_range: ValueRange = None) -> Tensor:
        """Images as of `predict` -> unit vectors [n, D]; HeadError for a model without a contrastive head.

        Their products with the vectors of `encode_text` are the cosines of the contrastive head.
        """
        raise HeadError(f"{self.source}: a fine-tuned model has no vectors of images and texts")

    def encode_text(self, findings: Sequence[str] | str) -> Tensor:
        """Names of findings -> unit vectors [n, A, D], one for each aspect; errors as of `encode_image`."""
        raise HeadError(f"{self.source}: a fine-tuned model has no vectors of images and texts")

    @abstractmethod
    def _answer(self, pixels: Tensor, request: Request) -> list[Answer]:
        """pixels [B, 3, S, S] -> an Answer for each image."""

    def _embeddings(self, findings: tuple[str, ...]) -> TextEmbeddings | None:
        """The embeddings with these findings; None for a model without text."""
        return None

    def _decode(
        self, numbered: tuple[int, ImageSource], value_range: ValueRange = None
    ) -> tuple[str, Image.Image, Tensor] | Failure:
        """(name, grey image, pixels)."""
        number, image = numbered
        named = isinstance(image, str | os.PathLike)
        name = os.fspath(image) if named else getattr(image, "filename", "") or f"image {number}"
        try:
            picture = read_picture(image, name, value_range)
        except ImageError as error:
            return Failure(name, str(error).removeprefix(f"{name}: "))
        return name, picture, to_pixels(picture, self.preprocessing, self.equalize)


def to_pixels(picture: Image.Image, preprocessing: Preprocessing, equalize: bool) -> Tensor:
    """A grey image -> the input of a model [3, S, S]."""
    if equalize:
        picture = Image.fromarray(equalize_histogram(np.asarray(picture)))
    return eval_transform(preprocessing)(picture)


def _raise_failure(answer: Prediction | Failure) -> Prediction:
    """The prediction; ImageError for a failure."""
    if isinstance(answer, Failure):
        raise ImageError(str(answer))
    return answer


def meant(image: ImageSource) -> Sequence[ImageSource]:
    """The image itself, or the files that a name stands for."""
    if not isinstance(image, str | os.PathLike):
        return [image]
    files, failures = find_images([os.fspath(image)])
    if failures:
        raise ImageError(str(failures[0]))
    return files
