"""What the evaluations of a benchmark share: the model with its text vectors, its images, and how they came about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import Dataset

from mavl import checkpoint
from mavl.backbones.build import PatchGrid
from mavl.config.loader import load
from mavl.config.settings import EvaluationSettings
from mavl.data.benchmarks.benchmark import Benchmark, Split, read_split, split_file
from mavl.data.images.read import read_image
from mavl.data.images.transforms import EvalTransform, eval_transform
from mavl.data.pretraining import bad_images, damaged_masks
from mavl.model.inference import InferenceModel
from mavl.provenance import provenance
from mavl.text.books import read_books
from mavl.text.embeddings import TextEmbeddings, build_embeddings
from mavl.text.encoder import TextEncoder
from mavl.train.engine import check_device, predict
from mavl.vocab import DESCRIPTION, HEALTHY

RELEASED_MAX_LENGTH = 64


class EvaluationError(ValueError):
    """An evaluation that cannot be done as asked; the message says why."""


class EvaluationImages(Dataset):
    """dataset[i] -> {image uint8 [1, S, S], index}; mavl.data.loading.to_device normalises a batch of them."""

    def __init__(self, paths: Sequence[Path], transform: EvalTransform, equalize: bool):
        self.paths, self.transform, self.equalize = paths, transform, equalize

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        image = read_image(self.paths[index], equalize=self.equalize)
        return {"image": self.transform.pixels(image), "index": index}


@dataclass(frozen=True)
class Subject:
    """A model ready to be evaluated on a benchmark: on this process's device, with the text vectors it needs.

    trained: the findings of its pre-training.
    """

    benchmark: Benchmark
    model: nn.Module
    embeddings: TextEmbeddings
    image_size: int
    accelerator: Accelerator
    trained: tuple[str, ...]

    @property
    def patch_grid(self) -> PatchGrid:
        """Where the patches of the model's grid look in its input."""
        return self.model.patch_grid((self.image_size, self.image_size))

    def inference_model(self, findings: Sequence[str]) -> InferenceModel:
        """What reads images for these findings, and for those that the contrastive head compares them with."""
        compared = [name for name in HEALTHY if name in self.embeddings.findings]
        return InferenceModel(self.model, self.embeddings, [*findings, *compared])

    def predict(
        self, settings: EvaluationSettings, split: Split, compute: Callable[[dict], dict[str, Tensor]]
    ) -> dict[str, np.ndarray]:
        """compute({image, index}) -> {name: tensor [b, …]} for every image of the split, in its order."""
        transform = eval_transform(self.image_size, self.benchmark.interpolation)
        return predict(
            self.accelerator,
            EvaluationImages(split.paths, transform, self.benchmark.equalize),
            range(len(split)),
            compute,
            batch_size=settings.batch_size,
            workers=settings.workers,
            description=f"{self.benchmark.name} {split.name}",
        )


@dataclass(frozen=True)
class Thresholds:
    """The thresholds, the data they were chosen on (None for nowhere), a sentence on it for the report.

    values: one a class [C], or one by (map, finding); None where there are none, or none yet. left_out: bad images of
    the data they were chosen on, by split.
    """

    values: np.ndarray | dict[tuple[str, str], float] | None
    source: Literal["validation", "test"] | None
    note: str
    left_out: dict[str, list[str]] = field(default_factory=dict)


def open_model(settings: EvaluationSettings) -> checkpoint.Pretrained:
    """The model that the settings name."""
    if settings.model_path is None:
        raise EvaluationError("no model: give --model_path a model folder, a released .pth or a hub id")
    return checkpoint.load(settings.model_path)


def prepare(settings: EvaluationSettings, pretrained: checkpoint.Pretrained | None = None) -> Subject:
    """Load the benchmark and, unless it is given, the model that the settings name."""
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    check_device(accelerator)
    benchmark = load(Benchmark, Path(settings.benchmark))
    pretrained = pretrained or open_model(settings)
    with accelerator.main_process_first():
        embeddings = text_embeddings(settings, pretrained, benchmark.findings)
    model = accelerator.prepare_model(pretrained.model, evaluation_mode=True).eval()
    image_size = pretrained.about["model"].get("image_size", 224)
    return Subject(benchmark, model, embeddings.to(accelerator.device), image_size, accelerator, pretrained.findings)


def text_embeddings(
    settings: EvaluationSettings, pretrained: checkpoint.Pretrained, findings: Sequence[str]
) -> TextEmbeddings:
    """The vocabulary the model was trained with, then the other findings, then those that they are compared with.

    A model folder brings the vectors it was trained with; the rest, and all for a released file or under the released
    protocol (which cut texts at 64 tokens), is encoded from the books.
    """
    known = pretrained.findings
    new = [name for name in dict.fromkeys([*findings, *settings.compared_with]) if name not in known]
    rebuild = pretrained.embeddings is None or settings.protocol == "released" or settings.max_length is not None
    if not rebuild and not new:
        return pretrained.embeddings
    aspects = pretrained.model.aspects
    books = read_books(settings.descriptions, settings.aspects if aspects != (DESCRIPTION,) else ())
    encoder, cache = text_encoder(settings, pretrained), bank_cache(settings)
    build = partial(build_embeddings, books, encoder=encoder, aspects=aspects, cache=cache)
    return build([*known, *new]) if rebuild else pretrained.embeddings.extended(build(new))


def text_encoder(settings: EvaluationSettings, pretrained: checkpoint.Pretrained) -> TextEncoder:
    """The encoder of the model's text, or the one that the settings name; it cuts texts where they say."""
    text = dict(pretrained.text)
    name = text.pop("encoder")
    text["max_length"] = settings.max_length or (
        RELEASED_MAX_LENGTH if settings.protocol == "released" else text["max_length"]
    )
    return TextEncoder(settings.text_encoder or name, **text)


def bank_cache(settings: EvaluationSettings) -> Path | None:
    """The folder of text embeddings that were built before."""
    return Path(settings.bank_cache).expanduser() if settings.bank_cache else None


def open_split(settings: EvaluationSettings, benchmark: Benchmark, name: str) -> Split:
    """A split of the benchmark with the findings to report. Its images are not looked at."""
    split = read_split(benchmark, name, _root(settings))
    return split.select(settings.findings) if settings.findings else split


def without_bad_images(settings: EvaluationSettings, split: Split, show: bool) -> tuple[Split, list[str]]:
    """The split without its bad images and a line for each, or BadImagesError (`max_bad_share`)."""
    bad = damaged_masks(split, settings.max_bad_share)
    bad |= bad_images(split.paths, split.rows, split.name, settings, show)
    return (split.without(set(bad)) if bad else split), list(bad.values())


def why_no_validation(settings: EvaluationSettings, benchmark: Benchmark) -> str | None:
    """Why no threshold can be chosen on a validation split; None where one can."""
    if settings.split == "valid":
        return "the validation split itself is evaluated"
    if "valid" not in benchmark.splits:
        return "the benchmark has no validation split"
    try:
        split_file(benchmark, "valid", _root(settings))
    except FileNotFoundError as error:
        return str(error)
    return None


def describe(
    settings: EvaluationSettings, subject: Subject, thresholds: Thresholds, left_out: list[str], **more
) -> dict:
    """What a result was computed with, for its files; `more` says what else this kind of evaluation depends on."""
    return {
        "benchmark": subject.benchmark.name,
        "title": subject.benchmark.title,
        "split": settings.split,
        "protocol": settings.protocol,
        **more,
        "model": str(settings.model_path),
        "bank": subject.embeddings.about,
        "findings_in_bank": len(subject.embeddings.findings),
        "new_findings": [name for name in subject.benchmark.findings if name not in subject.trained],
        "thresholds": thresholds.note,
        "left_out": {settings.split: left_out} | thresholds.left_out,
        "provenance": provenance(),
    }


def result_folder(settings: EvaluationSettings, benchmark: Benchmark, kind: str) -> Path:
    """Make the folder of a result, its name telling benchmark, kind, protocol and, unless it is test, the split."""
    name = [benchmark.name, kind, settings.protocol, *([] if settings.split == "test" else [settings.split])]
    folder = Path(settings.output_dir) / "_".join(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _root(settings: EvaluationSettings) -> Path | None:
    return Path(settings.root) if settings.root else None
