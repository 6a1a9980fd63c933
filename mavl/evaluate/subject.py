"""What the evaluations of a benchmark share: the model as a scorer, the benchmark's images, a result's description."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import Dataset

from mavl.config.loader import load
from mavl.config.settings import EvaluationSettings, ZeroShotSettings
from mavl.cpu import prepare_device
from mavl.data.benchmarks.benchmark import Benchmark, read_split, split_file
from mavl.data.benchmarks.splits import Split
from mavl.data.images.read import read_image
from mavl.data.images.transforms import EvalTransform, eval_transform
from mavl.data.loading import compute_all
from mavl.data.pretraining import bad_images, damaged_masks
from mavl.model.heatmaps import MapOptions
from mavl.provenance import provenance
from mavl.scorers import Scorer, ScorerOptions, open_scorer

RELEASED_MAX_LENGTH = 64


class EvaluationError(ValueError):
    """An evaluation that cannot be done as configured; the message says why."""


class EvaluationImages(Dataset):
    """dataset[i] -> {image uint8 [1, S, S], index}; mavl.data.loading.to_device normalizes a batch of them."""

    def __init__(self, paths: Sequence[Path], transform: EvalTransform, equalize: bool):
        self.paths, self.transform, self.equalize = paths, transform, equalize

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        image = read_image(self.paths[index], equalize=self.equalize)
        return {"image": self.transform.pixels(image), "index": index}


@dataclass(frozen=True)
class Subject:
    """A model on this process's device, ready to be evaluated on a benchmark."""

    benchmark: Benchmark
    scorer: Scorer
    accelerator: Accelerator

    def images(self, split: Split, positions: list[int] | None = None) -> EvaluationImages:
        """The split's images, or those at these positions, as the model's input."""
        paths = split.paths if positions is None else [split.paths[position] for position in positions]
        transform = eval_transform(self.scorer.preprocessing, self.benchmark.interpolation)
        return EvaluationImages(paths, transform, self.benchmark.equalize)

    def compute(
        self, settings: EvaluationSettings, split: Split, function: Callable[[Tensor], dict[str, Tensor]]
    ) -> dict[str, np.ndarray]:
        """function(images [b, 3, S, S]) -> {name: tensor [b, …]} over the split, in its order, on every process."""

        def compute(batch: dict) -> dict[str, Tensor]:
            with self.accelerator.autocast():
                return function(batch["image"])

        return compute_all(
            self.accelerator,
            self.images(split),
            range(len(split)),
            compute,
            self.scorer.preprocessing,
            batch_size=settings.batch_size,
            workers=settings.workers,
            description=f"{self.benchmark.name} {split.name}",
        )


@dataclass(frozen=True)
class Thresholds:
    """Thresholds, the data that they were chosen on (None for none), and a sentence about it for the report.

    values: one for each class [C], or one by (map, finding); None where there are none, or none yet. left_out: bad
    images of the data that they were chosen on, by split.
    """

    values: np.ndarray | dict[tuple[str, str], float] | None
    source: Literal["validation", "test"] | None
    note: str
    left_out: dict[str, list[str]] = field(default_factory=dict)


def prepare(settings: EvaluationSettings) -> Subject:
    """Load the benchmark and the model that the settings name."""
    if settings.model_path is None:
        raise EvaluationError("no model: give --model_path a model folder, a released .pth or a hub id")
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    prepare_device(accelerator.device.type, accelerator.mixed_precision)
    benchmark = load(Benchmark, Path(settings.benchmark))
    with accelerator.main_process_first():
        scorer = open_scorer(settings.model_path, scorer_options(settings, benchmark), accelerator.device)
    return Subject(benchmark, scorer, accelerator)


def scorer_options(settings: EvaluationSettings, benchmark: Benchmark) -> ScorerOptions:
    """How the settings use the model; the released protocol encodes all text anew, cut at 64 tokens."""
    released = settings.protocol == "released"
    return ScorerOptions(
        findings=benchmark.findings,
        descriptions=settings.descriptions,
        aspects=settings.aspects,
        text_encoder=settings.text_encoder,
        max_length=settings.max_length or (RELEASED_MAX_LENGTH if released else None),
        rebuild_text=released or settings.max_length is not None,
        text_cache=Path(settings.text_cache).expanduser() if settings.text_cache else None,
        head=settings.head if isinstance(settings, ZeroShotSettings) else "supervised",
        map_options=MapOptions(settings.map_aspects, settings.aggregation, settings.layers),
    )


def open_split(settings: EvaluationSettings, benchmark: Benchmark, name: str) -> Split:
    """A split of the benchmark with the findings to report. Its image files are not opened."""
    split = read_split(benchmark, name, _root(settings))
    return split.select(settings.findings) if settings.findings else split


def without_bad_images(settings: EvaluationSettings, split: Split, show: bool) -> tuple[Split, list[str]]:
    """The split without its bad images and a line for each, or DataError (`max_bad_share`)."""
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
    settings: EvaluationSettings, subject: Subject, thresholds: Thresholds, left_out: list[str], **more: Any
) -> dict[str, Any]:
    """The conditions of a result, for its files; `more` are those of this kind of evaluation."""
    trained = subject.scorer.trained_findings
    return {
        "benchmark": subject.benchmark.name,
        "title": subject.benchmark.title,
        "split": settings.split,
        "protocol": settings.protocol,
        **more,
        **({"bank": None, "map": "heatmaps"} | subject.scorer.describe()),
        "new_findings": [name for name in subject.benchmark.findings if name not in trained],
        "thresholds": thresholds.note,
        "left_out": {settings.split: left_out} | thresholds.left_out,
        "provenance": provenance(),
    }


def result_folder(settings: EvaluationSettings, benchmark: Benchmark, kind: str) -> Path:
    """Make the folder of a result; its name holds benchmark, kind, protocol and, unless it is test, the split."""
    name = [benchmark.name, kind, settings.protocol, *([] if settings.split == "test" else [settings.split])]
    folder = Path(settings.output_dir) / "_".join(name)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _root(settings: EvaluationSettings) -> Path | None:
    return Path(settings.root) if settings.root else None
