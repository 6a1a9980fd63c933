"""Pre-training data: samples -> seeded, sharded, resumable batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from mavl.backbones.preprocessing import Preprocessing
from mavl.config.data import MimicData, PhantomData, ReportData, TableData
from mavl.config.loader import cache_folder, load
from mavl.config.settings import PretrainSettings
from mavl.data import DataError
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.checks import Share, bad_images, damaged_masks
from mavl.data.images.transforms import TrainTransform, Transform, eval_transform
from mavl.data.labels import LabelStore, Selection, Vocabulary, draw_locations, finding_labels
from mavl.data.samples import ListedSamples, PhantomSamples, read_reports, table_samples
from mavl.files import write_json
from mavl.progress import plural
from mavl.text.reports import ReportVectors
from mavl.vocab import mirrored

VALID_SEED_OFFSET = 1_000_003
"""Keeps the phantoms of validation apart from those of training."""

Key = tuple[int, int]


class PretrainingDataset(Dataset):
    """dataset[epoch, index] -> {image uint8 [1, S, S], labels [F], locations [F, 8], index}, and maybe operations [2].

    With reports also {report [T], zeros where there is none, study: -1 then}.

    `mavl.data.loading.to_device` turns a batch of them into the model's input. Everything random about an item is
    seeded by (seed, epoch, index), so it does not depend on workers, batches, processes, or what was loaded before.
    mirrored: for each anatomy the one whose labels it has in a flipped image (mavl.vocab.mirrored); None: its own.
    """

    def __init__(
        self,
        samples: ListedSamples | PhantomSamples,
        transform: Transform,
        seed: int,
        mirrored: Sequence[int] | None = None,
        reports: ReportVectors | None = None,
    ):
        self.samples, self.transform, self.seed, self.mirrored = samples, transform, seed, mirrored
        self.reports = reports

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict:
        generator = np.random.default_rng((self.seed, *key))
        image, matrix = self.samples[key]
        item, flipped = self.transform.item_and_flip(image, generator)
        if flipped and self.mirrored is not None:
            matrix = matrix[self.mirrored]
        if self.reports is not None:
            item |= self._report(key[1])
        return item | {
            "labels": torch.from_numpy(finding_labels(matrix)),
            "locations": torch.from_numpy(draw_locations(matrix, generator)),
            "index": key[1],
        }

    def _report(self, index: int) -> dict:
        assert self.reports is not None
        assert isinstance(self.samples, ListedSamples)
        study = self.samples.study(index)
        vector = torch.from_numpy(self.reports[study])
        return {"report": vector.nan_to_num(), "study": -1 if vector.isnan().any() else study}


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
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(seed))
        epoch = self.epoch
        for batch in range(self.first, self.steps_per_epoch * self.accumulation):
            start = (batch * self.processes + self.rank) * self.batch_size
            yield [(epoch, index) for index in order[start : start + self.batch_size].tolist()]


@dataclass(frozen=True)
class PretrainingData:
    """The datasets of a run; left_out: a line for each bad image, by split."""

    train: PretrainingDataset
    valid: PretrainingDataset
    left_out: dict[str, list[str]]


def open_data(
    settings: PretrainSettings,
    preprocessing: Preprocessing,
    progress: bool = True,
    share: Share | None = None,
    reports: ReportVectors | None = None,
) -> PretrainingData:
    """Open both splits of the configured source; every image file is checked before anything is trained.

    DataError for files of labels that do not fit, and when more than `data.max_bad_share` of a split's images are
    missing or unreadable; fewer are left out. All processes of a run call it at once.

    Args:
        share: the part of the image files that this process checks; by default all.
        reports: of each study of the label file, for the contrast of images and reports.
    """
    data, datasets, left_out = settings.data, {}, {}
    benchmark = load(Benchmark, Path(data.benchmark)) if isinstance(data, TableData) else None
    plain = eval_transform(preprocessing, benchmark.interpolation if benchmark else None)
    flips = data.flips or ("swap" if settings.recipe == "sound" else "plain")
    augment, on_device = data.augment == "full", data.augment_on == "device"
    augmented = TrainTransform(preprocessing, data.min_crop, augment, on_device, flip=flips != "none")
    mirror = mirrored(settings.anatomies) if flips == "swap" else None
    for name in ("train", "valid"):
        samples, damaged = _open_split(name, settings, benchmark, preprocessing.image_size)
        bad = {}
        if isinstance(samples, ListedSamples):
            images = samples.images
            seen = images.folder and images.folder / f"{data.check_images}.seen"
            bad = bad_images(images, images.place, name, data, progress, share=share, seen=seen)
            samples = samples.without(bad)
        left_out[name] = [*damaged, *bad.values()]
        transform = augmented if name == "train" and data.augment != "none" else plain
        datasets[name] = PretrainingDataset(samples, transform, settings.train.seed, mirror, reports)
    train, valid = (dataset.samples for dataset in datasets.values())
    if isinstance(train, ListedSamples) and (shared := train.images.common(valid.images)):
        raise DataError(f"train and valid have {plural(len(shared), 'image')} in common, such as {min(shared)}")
    return PretrainingData(**datasets, left_out=left_out)


def _open_split(
    name: str, settings: PretrainSettings, benchmark: Benchmark | None, size: int
) -> tuple[ListedSamples | PhantomSamples, list[str]]:
    """The samples of a split, and a line for each image that has no label because its mask is damaged."""
    data, fresh, names = settings.data, name == "train", (settings.findings, settings.anatomies)
    root, cache = Path(data.root) if data.root else None, cache_folder(data.cache)
    if isinstance(data, PhantomData):
        number, seed = (data.train, data.seed) if fresh else (data.valid, data.seed + VALID_SEED_OFFSET)
        return PhantomSamples(seed, number, size, Selection.of(*names, Vocabulary()), data.exclude, fresh), []
    if isinstance(data, MimicData | ReportData):
        store = LabelStore(Path(data.label_file), *names)
        manifest = Path(data.train_file if fresh else data.valid_file)
        return read_reports(manifest, store, root, data.prefix, cache), []
    assert benchmark is not None
    split = read_split(benchmark, name, root)
    damaged = damaged_masks(split, data.max_bad_share)
    kept, root = split.without(damaged) if damaged else split, root or benchmark.root
    return table_samples(kept, *names, benchmark.equalize, root, cache), list(damaged.values())


def write_left_out(path: Path, left_out: dict[str, list[str]]) -> None:
    write_json(path, left_out)
