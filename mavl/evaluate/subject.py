"""What the evaluations of a benchmark share: the model as a scorer, the benchmark's images, the folder of a result."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from mavl.config.loader import dump, load
from mavl.config.settings import EvaluationSettings, GroundingSettings, ZeroShotSettings
from mavl.cpu import prepare_device
from mavl.data.benchmarks.benchmark import Benchmark, read_split, split_file
from mavl.data.benchmarks.splits import Split
from mavl.data.classification import LabelledImages
from mavl.data.images.transforms import eval_transform
from mavl.data.loading import compute_all, to_device
from mavl.data.pretraining import bad_images, damaged_masks, write_left_out
from mavl.model.heatmaps import MapOptions
from mavl.provenance import provenance
from mavl.scorers import Scorer, ScorerOptions, open_scorer

RELEASED_MAX_LENGTH = 64


class EvaluationError(ValueError):
    """An evaluation that is not possible as configured; the message says why."""


@dataclass(frozen=True)
class Thresholds:
    """Thresholds, the data that they were chosen on (None for none), and a sentence about it for the report.

    values: by class, or by (map, finding); empty where there are none, or none yet. left_out: bad images of the data
    that they were chosen on, by split.
    """

    values: dict[Any, float]
    source: Literal["validation", "test"] | None
    note: str
    left_out: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """A model on this process's device, and the benchmark that it is evaluated on."""

    settings: ZeroShotSettings | GroundingSettings
    benchmark: Benchmark
    scorer: Scorer
    accelerator: Accelerator

    def split(self, name: str) -> Split:
        """A split of the benchmark with the findings to report. Its image files are not opened."""
        split = read_split(self.benchmark, name, self._root)
        return split.select(self.settings.findings) if self.settings.findings else split

    def usable(self, split: Split) -> tuple[Split, list[str]]:
        """The split without its bad images, and a line for each; DataError for too many (`max_bad_share`)."""
        return without_bad_images(self.settings, split, self.accelerator.is_main_process)

    def images(self, split: Split) -> LabelledImages:
        """The split's images as the model's input: dataset[0, index]."""
        transform = eval_transform(self.scorer.preprocessing, self.benchmark.interpolation)
        return LabelledImages(split, transform, self.benchmark.equalize, seed=0)

    def compute(self, split: Split, function: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, np.ndarray]:
        """function(images [b, 3, S, S]) -> {name: tensor [b, …]} over the split, in its order, on every process."""

        def compute(batch: dict) -> dict[str, Tensor]:
            with self.accelerator.autocast():
                return function(batch["image"])

        return compute_all(
            self.accelerator,
            self.images(split),
            [(0, index) for index in range(len(split))],
            compute,
            self.scorer.preprocessing,
            batch_size=self.settings.batch_size,
            workers=self.settings.workers,
            description=f"{self.benchmark.name} {split.name}",
        )

    @torch.no_grad()
    def heatmaps(self, split: Split, image: int) -> Tensor | None:
        """The heatmaps [C, h, w] of the findings in one image; computed by the calling process alone."""
        batch = {"image": self.images(split)[0, image]["image"][None]}
        pixels = to_device(batch, self.accelerator.device, self.scorer.preprocessing)["image"]
        with self.accelerator.autocast():
            maps = self.scorer.heatmaps(pixels, split.findings)
        return None if maps is None else maps[0].cpu()

    def why_no_validation(self) -> str | None:
        """Why no threshold can be chosen on a validation split; None where one can."""
        if self.settings.split == "valid":
            return "the validation split itself is evaluated"
        if "valid" not in self.benchmark.splits:
            return "the benchmark has no validation split"
        try:
            split_file(self.benchmark, "valid", self._root)
        except FileNotFoundError as error:
            return str(error)
        return None

    def describe(self, thresholds: Thresholds, left_out: list[str], **more: Any) -> dict[str, Any]:
        """The conditions of a result, for its files; `more` are those of this kind of evaluation."""
        trained = self.scorer.trained_findings
        return {
            "benchmark": self.benchmark.name,
            "title": self.benchmark.title,
            "split": self.settings.split,
            "protocol": self.settings.protocol,
            **more,
            **({"bank": None, "map": "heatmaps"} | self.scorer.describe()),
            "new_findings": [name for name in self.benchmark.findings if name not in trained],
            "thresholds": thresholds.note,
            "left_out": {self.settings.split: left_out} | thresholds.left_out,
            "provenance": provenance(),
        }

    def open_folder(self, kind: str, about: dict) -> Path:
        """Make the folder of a result, with the config and the list of bad images.

        Its name holds benchmark, kind, protocol and, unless it is test, the split.
        """
        settings = self.settings
        name = [self.benchmark.name, kind, settings.protocol, *([] if settings.split == "test" else [settings.split])]
        folder = Path(settings.output_dir) / "_".join(name)
        dump(settings, folder / "config.yaml")
        write_left_out(folder / "left_out.json", about["left_out"])
        return folder

    @property
    def _root(self) -> Path | None:
        return Path(self.settings.root) if self.settings.root else None


def prepare(settings: ZeroShotSettings | GroundingSettings) -> Subject:
    """Load the benchmark and the model that the settings name."""
    if settings.model_path is None:
        raise EvaluationError("no model: give --model_path a model folder, a released .pth or a hub id")
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    prepare_device(accelerator.device.type, accelerator.mixed_precision)
    benchmark = load(Benchmark, Path(settings.benchmark))
    with accelerator.main_process_first():
        scorer = open_scorer(settings.model_path, scorer_options(settings, benchmark), accelerator.device)
    return Subject(settings, benchmark, scorer, accelerator)


def scorer_options(settings: EvaluationSettings, benchmark: Benchmark) -> ScorerOptions:
    """The use of the model by these settings; the released protocol encodes all text anew, cut at 64 tokens."""
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


def without_bad_images(settings: EvaluationSettings, split: Split, show: bool) -> tuple[Split, list[str]]:
    """The split without its bad images, and a line for each; DataError for too many (`max_bad_share`)."""
    bad = damaged_masks(split, settings.max_bad_share)
    bad |= bad_images(split.paths, split.rows, split.name, settings, show)
    return split.without(set(bad)), list(bad.values())
