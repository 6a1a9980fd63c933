"""What the evaluations of a benchmark share: the model as a scorer, the benchmark's images, the folder of a result."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from mavl.checkpoint.folder import BUNDLED_FOLDER, WEIGHTS
from mavl.config.evaluation import EvaluationSettings, GroundingSettings, ZeroShotSettings
from mavl.config.loader import cache_folder, dump, load
from mavl.config.settings import BUNDLED
from mavl.data.benchmarks.benchmark import Benchmark, read_split, split_file
from mavl.data.benchmarks.splits import Split
from mavl.data.benchmarks.tables import normal_path
from mavl.data.checks import Share, bad_images, damaged_masks
from mavl.data.classification import LabelledImages, without_shared
from mavl.data.images.perturb import PerturbedTransform
from mavl.data.images.transforms import eval_transform
from mavl.data.launch import main_process_first, open_accelerator
from mavl.data.loading import compute_all, to_device
from mavl.data.pretraining import write_left_out
from mavl.model.heatmaps import MapOptions
from mavl.progress import plural
from mavl.provenance import provenance, training_sentence
from mavl.report.folder import EVALUATED, check_free, whole_folder
from mavl.scorers import AnyOf, ListedScorer, Scorer, ScorerOptions, expand, open_scorer

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
    folder: Path
    """Where the result appears."""
    perturbation: str | None = None
    """The change of every image, one of mavl.data.images.perturb."""

    def split(self, name: str) -> Split:
        """A split of the benchmark with the findings to report. Its image files are not opened."""
        split = read_split(self.benchmark, name, self._root)
        return split.select(self.settings.findings) if self.settings.findings else split

    def usable(self, split: Split) -> tuple[Split, list[str]]:
        """The split without its bad images, and a line for each; DataError for too many (`max_bad_share`).

        All processes call it at once.
        """
        share = Share.of_run(self.accelerator)
        return without_bad_images(self.settings, split, self.accelerator.is_main_process, share)

    def images(self, split: Split) -> LabelledImages:
        """The split's images as the model's input: dataset[0, index]."""
        transform = eval_transform(self.scorer.preprocessing, self.benchmark.interpolation)
        if self.perturbation is not None:
            transform = PerturbedTransform(transform.preprocessing, self.perturbation)
        return LabelledImages(split, transform, self.benchmark.equalize, seed=0)

    def compute(self, split: Split, function: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, np.ndarray] | None:
        """function(images [b, 3, S, S]) -> {name: tensor [b, …]} over the split, in its order.

        EvaluationError for values that are not finite, which names the first image. None but on the main process.
        """

        def compute(batch: dict) -> dict[str, Tensor]:
            with self.accelerator.autocast():
                return function(batch["image"])

        computed = compute_all(
            self.accelerator,
            self.images(split),
            [(0, index) for index in range(len(split))],
            compute,
            self.scorer.preprocessing,
            batch_size=self.settings.batch_size,
            workers=self.settings.workers,
            description=f"{self.benchmark.name} {split.name}",
        )
        with main_process_first(self.accelerator):
            for values in computed.values() if computed else ():
                _require_finite(split, values)
        return computed

    def listed_scores(self, scorer: ListedScorer, split: Split) -> np.ndarray | None:
        """[n, C] of a model that knows the images by their names; None but on the main process."""
        if not self.accelerator.is_main_process:
            return None
        return scorer.listed_scores(self.names(split), split.findings)

    def listed_heatmaps(self, scorer: ListedScorer, split: Split, cases: Sequence[tuple[int, str]]) -> np.ndarray:
        """[n, C, h, w] of a model that knows the images by their names; of no image but on the main process."""
        if not self.accelerator.is_main_process:
            return np.zeros((0, len(split.findings), 1, 1), np.float32)
        return scorer.listed_heatmaps(self.names(split), split.findings, cases)

    def names(self, split: Split) -> list[str]:
        """The paths of the images below the root."""
        root = self._root or self.benchmark.root or Path()
        return [normal_path(os.path.relpath(path, root)) for path in split.paths]

    @torch.no_grad()
    def heatmaps(self, split: Split, image: int) -> Tensor | None:
        """The heatmaps [C, h, w] of the findings in one image; computed by the calling process alone."""
        batch = {"image": self.images(split)[0, image]["image"][None]}
        pixels = to_device(batch, self.accelerator.device, self.scorer.preprocessing)["image"]
        with self.accelerator.autocast():
            maps = self.scorer.heatmaps(pixels, split.findings)
        return None if maps is None else maps[0].cpu()

    def validation(self, tested: Split) -> tuple[Split | None, str]:
        """The validation split without images and patients of `tested`, and a clause on how many these are.

        Where no threshold can be chosen on it, None and the reason.
        """
        if self.settings.split == "valid":
            return None, "the validation split itself is evaluated"
        if "valid" not in self.benchmark.splits:
            return None, "the benchmark has no validation split"
        try:
            split_file(self.benchmark, "valid", self._root)
        except FileNotFoundError as error:
            return None, str(error)
        valid, shared = without_shared(self.split("valid"), [tested], self._root)
        clause = "".join(f"; {line}" for line in shared)
        return (valid, clause) if len(valid) else (None, f"no image of the validation split is usable{clause}")

    def describe(self, thresholds: Thresholds, left_out: list[str], **more: Any) -> dict[str, Any]:
        """The conditions of a result, for its files; `more` are those of this kind of evaluation."""
        trained = self.scorer.trained_findings
        return {
            "benchmark": self.benchmark.name,
            "version": self.benchmark.version,
            "collection": self.benchmark.collection,
            "title": self.benchmark.title,
            "split": self.settings.split,
            "protocol": self.settings.protocol,
            **more,
            **(described := {"bank": None, "map": "heatmaps", "trained_on": None} | self.scorer.describe()),
            "training_images": training_sentence(described["trained_on"]),
            "new_findings": [name for name in self.benchmark.findings if name not in trained],
            "thresholds": thresholds.note,
            "left_out": {self.settings.split: left_out} | thresholds.left_out,
            "provenance": provenance(),
        }

    @contextmanager
    def result_folder(self, about: dict) -> Iterator[Path]:
        """A draft of the result, with the config and the list of bad images; it becomes `folder` with the block."""
        with whole_folder(self.folder, made=EVALUATED, overwrite=self.settings.overwrite) as draft:
            dump(self.settings.model_copy(update={"overwrite": False}), draft / "config.yaml")
            write_left_out(draft / "left_out.json", about["left_out"])
            yield draft

    @property
    def _root(self) -> Path | None:
        return Path(self.settings.root) if self.settings.root else None


def prepare(settings: ZeroShotSettings | GroundingSettings, kind: str) -> Subject:
    """Load the benchmark and the model that the settings name, unless the place of the result is not free.

    kind: names the result, with the protocol and, unless it is test, the split.
    """
    if settings.model_path is None:
        raise EvaluationError("no model: give --model_path a model folder, a released .pth or a hub id")
    accelerator = open_accelerator(settings.mixed_precision)
    benchmark = load(Benchmark, Path(settings.benchmark))
    name = "_".join([kind, settings.protocol, *([] if settings.split == "test" else [settings.split])])
    folder = Path(settings.output_dir) / benchmark_folder(benchmark.name) / model_name(settings.model_path) / name
    check_free(folder, made=EVALUATED, overwrite=settings.overwrite)
    with main_process_first(accelerator):
        scorer = open_scorer(settings.model_path, scorer_options(settings, benchmark), accelerator.device)
    if benchmark.any_of and not isinstance(scorer, ListedScorer):  # a table has the scores of the benchmark's findings
        scorer = AnyOf(scorer, benchmark.any_of)
    return Subject(settings, benchmark, scorer, accelerator, folder)


def model_name(source: str) -> str:
    """A folder's name for the results of a model: the end of its path, and a part of the hash of its weights.

    Of a model that is no file or folder here, the hash of its name.
    """
    path = BUNDLED_FOLDER if source == BUNDLED else Path(source)
    weights = path / WEIGHTS if path.is_dir() else path
    if weights.is_file():
        parts = path.resolve().with_suffix("" if path.suffix == ".pth" else path.suffix).parts
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
    else:
        parts, digest = (source,), hashlib.sha256(source.encode(errors="surrogateescape"))
    return f"{slug('-'.join(parts[-2:]))[-60:]}-{digest.hexdigest()[:8]}"


def benchmark_folder(name: str) -> str:
    """A folder's name for the results of a benchmark: its name, or where no folder has such a name, one with its hash.

    >>> benchmark_folder("a-b"), benchmark_folder("a/b")
    ('a-b', 'a-b-c14cddc0')
    """
    part = slug(name)
    return part if part == name else f"{part}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"


def slug(name: str) -> str:
    """A part of a file name: letters, digits, and -, _ and . inside."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"


def scorer_options(settings: EvaluationSettings, benchmark: Benchmark) -> ScorerOptions:
    """The use of the model by these settings; the released protocol encodes all text anew, cut at 64 tokens."""
    released = settings.protocol == "released"
    return ScorerOptions(
        findings=expand(benchmark.findings, benchmark.any_of),
        descriptions=settings.descriptions,
        aspects=settings.aspects,
        text_encoder=settings.text_encoder,
        max_length=settings.max_length or (RELEASED_MAX_LENGTH if released else None),
        rebuild_text=released or settings.max_length is not None,
        text_cache=cache_folder(settings.text_cache),
        head=settings.head if isinstance(settings, ZeroShotSettings) else "supervised",
        map_options=MapOptions(settings.map_aspects, settings.aggregation, settings.layers),
        prompts=settings.prompts,
    )


def _require_finite(split: Split, computed: np.ndarray) -> None:
    bad = np.flatnonzero([not np.isfinite(of_image).all() for of_image in computed]).tolist()
    if bad:
        images = f"{plural(len(bad), 'image')} of the {split.name} split, the first {split.paths[bad[0]]}"
        raise EvaluationError(f"the model gives values that are not finite numbers for {images}: use another model")


def without_bad_images(
    settings: EvaluationSettings, split: Split, show: bool, share: Share | None = None
) -> tuple[Split, list[str]]:
    """The split without its bad images, and a line for each; DataError for too many (`max_bad_share`).

    share: the part of the files that this process checks, by default all.
    """
    bad = damaged_masks(split, settings.max_bad_share)
    bad |= bad_images(split.paths, split.rows.__getitem__, split.name, settings, show, share=share)
    return split.without(set(bad)), list(bad.values())
