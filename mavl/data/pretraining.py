"""Pre-training data: samples -> seeded, sharded, resumable batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from mavl.backbones.preprocessing import Preprocessing
from mavl.config.loader import load
from mavl.config.settings import MimicData, PhantomData, PretrainSettings, TableData
from mavl.data import DataError
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.benchmarks.splits import Split
from mavl.data.images.read import Level, check_images
from mavl.data.images.transforms import TrainTransform, Transform, eval_transform
from mavl.data.labels import draw_locations, finding_labels
from mavl.data.samples import ListedSamples, PhantomSamples, finding_columns, read_reports, table_samples
from mavl.files import write_json
from mavl.progress import plural

VALID_SEED_OFFSET = 1_000_003
"""Keeps the phantoms of validation apart from those of training."""

Key = tuple[int, int]


class PretrainingDataset(Dataset):
    """dataset[epoch, index] -> {image uint8 [1, S, S], labels [F], locations [F, 8], index}, and maybe operations [2].

    `mavl.data.loading.to_device` turns a batch of them into the model's input. Everything random about an item is
    seeded by (seed, epoch, index), so it does not depend on workers, batches, processes, or what was loaded before.
    """

    def __init__(self, samples: ListedSamples | PhantomSamples, transform: Transform, seed: int):
        self.samples, self.transform, self.seed = samples, transform, seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict:
        generator = np.random.default_rng((self.seed, *key))
        image, matrix = self.samples[key]
        return self.transform.item(image, generator) | {
            "labels": torch.from_numpy(finding_labels(matrix)),
            "locations": torch.from_numpy(draw_locations(matrix, generator)),
            "index": key[1],
        }


class EpochBatches(Sampler[list[Key]]):
    """Batches of (epoch, index) for one process: a permutation seeded by (seed, epoch), distributed batch by batch.

    An epoch has only whole optimizer steps, of `accumulation` batches on every process. `start_at` begins in the
    middle of an epoch without loading what came before.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int, processes: int, accumulation: int):
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.processes, self.accumulation = rank, processes, accumulation
        self.epoch = self.first = 0
        if self.steps_per_epoch == 0:
            needed = batch_size * processes * accumulation
            raise DataError(
                f"{length} training images do not fill one optimizer step of {needed} (batch size {batch_size} × "
                f"{processes} processes × accumulation {accumulation}); lower the batch size"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps."""
        return self.length // (self.batch_size * self.processes * self.accumulation)

    def start_at(self, epoch: int, step: int = 0) -> None:
        self.epoch, self.first = epoch, step * self.accumulation

    def __len__(self) -> int:
        return self.steps_per_epoch * self.accumulation - self.first

    def __iter__(self) -> Iterator[list[Key]]:
        seed = int(np.random.SeedSequence((self.seed, self.epoch)).generate_state(1, np.uint64)[0] >> 1)
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(seed)).tolist()
        epoch = self.epoch
        for batch in range(self.first, self.steps_per_epoch * self.accumulation):
            start = (batch * self.processes + self.rank) * self.batch_size
            yield [(epoch, index) for index in order[start : start + self.batch_size]]


@dataclass(frozen=True)
class PretrainingData:
    """The datasets of a run; left_out: a line for each bad image, by split."""

    train: PretrainingDataset
    valid: PretrainingDataset
    left_out: dict[str, list[str]]


def open_data(settings: PretrainSettings, preprocessing: Preprocessing, progress: bool = True) -> PretrainingData:
    """Open both splits of the configured source; every image file is checked before anything is trained.

    DataError for files of labels that do not fit, and when more than `data.max_bad_share` of a split's images are
    missing or unreadable; fewer are left out.
    """
    data, datasets, left_out = settings.data, {}, {}
    benchmark = load(Benchmark, Path(data.benchmark)) if isinstance(data, TableData) else None
    plain = eval_transform(preprocessing, benchmark.interpolation if benchmark else None)
    augmented = TrainTransform(preprocessing, data.min_crop, data.augment == "full", data.augment_on == "device")
    for name in ("train", "valid"):
        samples, damaged = _open_split(name, settings, benchmark, preprocessing.image_size)
        bad = {}
        if isinstance(samples, ListedSamples):
            bad = bad_images(samples.paths, samples.places, name, data, progress)
            samples = samples.without(bad)
        left_out[name] = [*damaged, *bad.values()]
        transform = augmented if name == "train" and data.augment != "none" else plain
        datasets[name] = PretrainingDataset(samples, transform, settings.train.seed)
    train, valid = (set(getattr(dataset.samples, "paths", ())) for dataset in datasets.values())
    if shared := train & valid:
        raise DataError(f"train and valid have {plural(len(shared), 'image')} in common, such as {min(shared)}")
    return PretrainingData(**datasets, left_out=left_out)


def _open_split(
    name: str, settings: PretrainSettings, benchmark: Benchmark | None, size: int
) -> tuple[ListedSamples | PhantomSamples, list[str]]:
    """The samples of a split, and a line for each image that has no label because its mask is damaged."""
    data, fresh, columns = settings.data, name == "train", finding_columns(settings.findings)
    root = Path(data.root) if data.root else None
    if isinstance(data, PhantomData):
        number, seed = (data.train, data.seed) if fresh else (data.valid, data.seed + VALID_SEED_OFFSET)
        return PhantomSamples(seed, number, size, columns, data.exclude, fresh), []
    if isinstance(data, MimicData):
        manifest = Path(data.train_file if fresh else data.valid_file)
        return read_reports(manifest, Path(data.label_file), root, data.prefix, columns), []
    assert benchmark is not None
    split = read_split(benchmark, name, root)
    damaged = damaged_masks(split, data.max_bad_share)
    return table_samples(split.without(damaged), settings.findings, benchmark.equalize), list(damaged.values())


def bad_images(
    paths: Sequence, places: Sequence[str], split: str, settings, progress: bool, level: Level | None = None
) -> dict[int, str]:
    """Position -> "row: file: reason" of each bad image; DataError if they are more than `max_bad_share`, or all.

    level: of `check_image`, by default that of the settings.
    """
    reasons = check_images(paths, level or settings.check_images, workers=settings.workers, progress=progress)
    lines = {
        position: f"{places[position]}: {Path(paths[position]).name}: {reason}" for position, reason in reasons.items()
    }
    _refuse_too_many(
        lines, len(paths), f"images of the {split} split", "Repair the files or correct --root", settings.max_bad_share
    )
    return lines


def damaged_masks(split: Split, max_bad_share: float) -> dict[int, str]:
    """Position -> "row: mask: reason" of each image whose label needs a damaged mask; errors as of bad_images."""
    lines = {image: f"{split.rows[image]}: mask: {reason}" for image, reason in split.damaged_masks().items()}
    _refuse_too_many(lines, len(split), f"masks of the {split.name} split", "Repair the files", max_bad_share)
    return lines


def _refuse_too_many(lines: dict[int, str], number: int, what: str, fix: str, max_bad_share: float) -> None:
    none_left = len(lines) == number
    if none_left or len(lines) > max_bad_share * number:
        first = "\n  ".join(list(lines.values())[:10])
        raise DataError(
            f"{len(lines)} of {number} {what} are missing or unreadable:\n  {first}\n"
            f"{fix}{'' if none_left else ', or raise max_bad_share to leave them out'}."
        )


def write_left_out(path: Path, left_out: dict[str, list[str]]) -> None:
    write_json(path, left_out)
