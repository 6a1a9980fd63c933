"""Training samples on one core, and the loader beside the training step."""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Sampler
from torchvision.transforms import v2

from benchmarks.speed import DEVICE
from benchmarks.steps import Case, best_seconds, build_step, synchronize
from mavl.backbones.preprocessing import Preprocessing
from mavl.data import phantom
from mavl.data.images.read import check_image, read_image
from mavl.data.images.transforms import EvalTransform, TrainTransform, normalize
from mavl.data.labels import LabelStore, draw_locations, finding_labels
from mavl.data.lists import ImageList
from mavl.data.loading import build_loader, to_device
from mavl.data.pretraining import PretrainingDataset
from mavl.data.samples import ListedSamples
from mavl.prepare.store.sources import Sources
from mavl.prepare.store.tree import StoreSettings, write_store

MIMIC_IMAGES, EPOCHS = 377_110, 60
"""MIMIC-CXR-JPG's own number (Johnson et al., 2019), and the epochs of the schedule."""

PREPROCESSING = Preprocessing()
ORIGINAL = (2544, 3056)
NOISE = 2.0
"""Standard deviation in grey values at which such a JPEG of quality 95 has MIMIC's mean size, 1.6 MB."""

IMAGES, ROUNDS = 4, 8
TIMED = {"plain": 4, "originals": 8, "store": 64, "labels and locations": 300}
"""Samples of a round."""

FEEDING_SECONDS = 4.0
CHECKED = 200
"""Checks of a file that are timed."""


# Samples --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Films:
    """The same images as originals and in a store.

    Args:
        paths: title -> files.
        sizes: title -> bytes of an image on average.
        labels: the file of their label matrices.
        making: milliseconds of one core to put an image into the store.
        header: title -> milliseconds of one core to check a file.
    """

    paths: dict[str, list[Path]]
    sizes: dict[str, float]
    labels: Path
    making: float
    header: dict[str, float]


def write_films(folder: Path) -> Films:
    """Phantoms of 512 pixels, enlarged to MIMIC's size, with noise."""
    rng, store, labels = np.random.default_rng(0), folder / "store", folder / "labels.npy"
    originals = [folder / f"{number}.jpg" for number in range(IMAGES)]
    for number, path in enumerate(originals):
        enlarged = Image.fromarray(phantom.draw(0, number, 512).image).resize(ORIGINAL, Image.Resampling.BICUBIC)
        noisy = np.asarray(enlarged) + rng.normal(0, NOISE, enlarged.size[::-1])
        Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(path, quality=95)
    np.save(labels, np.stack([phantom.draw(0, number, 64).labels for number in range(IMAGES)]))
    start = time.process_time()
    write_store(store, StoreSettings(), Sources(images={path.name: path for path in originals}), workers=1, show=False)
    making = 1000 * (time.process_time() - start) / IMAGES
    paths = {"originals": originals, "store": [store / path.name for path in originals]}
    sizes = {title: sum(path.stat().st_size for path in files) / IMAGES for title, files in paths.items()}
    header = {title: milliseconds(check(files), 0, CHECKED) for title, files in paths.items()}
    return Films(paths, sizes, labels, making, header)


def build_dataset(
    paths: list[Path], labels: Path, on_device: bool = False, findings: Sequence[str] | None = None
) -> PretrainingDataset:
    listed = ImageList.of_paths(None, paths, (), np.arange(IMAGES))
    samples = ListedSamples(listed, LabelStore(labels, findings))
    return PretrainingDataset(samples, TrainTransform(PREPROCESSING, on_device=on_device), seed=0)


def check(paths: list[Path]) -> Callable[[int], object]:
    return lambda number: check_image(paths[number % IMAGES], "header")


def plain_sample(paths: list[Path]) -> Callable[[int], Tensor]:
    """A sample as torchvision makes it, from an image decoded to RGB at full size."""
    crop = v2.RandomResizedCrop(224, scale=(0.2, 1.0), interpolation=v2.InterpolationMode.BICUBIC)
    to_float = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
    normalization = v2.Normalize(PREPROCESSING.mean, PREPROCESSING.std)
    transform = v2.Compose([crop, v2.RandomHorizontalFlip(), v2.RandAugment(), *to_float, normalization])
    return lambda number: transform(Image.open(paths[number % IMAGES]).convert("RGB"))


def sample(dataset: PretrainingDataset) -> Callable[[int], Tensor]:
    return lambda number: normalize(dataset[divmod(number, IMAGES)]["image"], PREPROCESSING)


@cache
def measure_samples() -> tuple[Films, dict[str, float], float]:
    """The films, milliseconds of a sample by title, and the mean grey-value difference of the store's test images.

    Times are those of the processor, the least of several rounds in which all take turns. Files are in the page cache.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        films = write_films(Path(name))
        matrices, rng = np.load(films.labels), np.random.default_rng(0)
        calls: dict[str, Callable[[int], object]] = {"plain": plain_sample(films.paths["originals"])}
        calls |= {title: sample(build_dataset(paths, films.labels)) for title, paths in films.paths.items()}
        calls["labels and locations"] = lambda number: (
            finding_labels(matrices[number % IMAGES]),
            draw_locations(matrices[number % IMAGES], rng),
        )
        times = dict.fromkeys(calls, math.inf)
        for number in range(ROUNDS):
            for title, call in calls.items():
                count = TIMED[title]
                times[title] = min(times[title], milliseconds(call, number * count, count))
        transform = EvalTransform(PREPROCESSING)
        test = [torch.stack([transform.pixels(read_image(path)) for path in each]) for each in films.paths.values()]
        difference = (test[0].float() - test[1].float()).abs().mean().item()
    torch.set_num_threads(threads)
    return films, times, difference


def milliseconds(call: Callable[[int], object], first: int, count: int) -> float:
    start = time.process_time()
    for number in range(first, first + count):
        call(number)
    return 1000 * (time.process_time() - start) / count


def loader() -> None:
    """Some 30 seconds on one core: a training sample from JPEGs of MIMIC's size, from their store, in plain PyTorch.

    It is decoded, cropped, augmented and normalized to float [3, 224, 224], with labels and locations.
    """
    films, times, difference = measure_samples()
    for title, took in times.items():
        ratio = f", {times['plain'] / took:.1f} times plain" if title in films.sizes else ""
        print(f"{title}: {took:.2f} ms an image, {1000 / took:,.0f} images/s{ratio}")
    print(f"test image of the store: mean difference {difference:.2f} / 255")


# The loader beside the step -------------------------------------------------------------------------------------------


def feeding(batch: int, workers: int, compiled: bool) -> None:
    """Images a second from all cores, alone and feeding the training step (bf16 on a GPU), about a minute."""
    step = build_step(Case("training", "bf16" if DEVICE == "cuda" else "fp32", DEVICE, batch, compile=compiled))

    def train(images: dict) -> None:
        step(images["image"], images["labels"], images["locations"])

    print(f"the step alone, batch {batch}: {batch / best_seconds(step, DEVICE, repeats=1):.1f} images/s")
    with tempfile.TemporaryDirectory() as name:
        films = write_films(Path(name))
        for title, paths in films.paths.items():
            for on_device in (False, True):
                dataset = build_dataset(paths, films.labels, on_device)
                alone = feeding_rate(dataset, batch, workers, lambda _: None)
                fed = feeding_rate(dataset, batch, workers, train)
                hours = MIMIC_IMAGES * EPOCHS / fed / 3600
                print(f"{title}, {workers} workers, operations of the {'device' if on_device else 'loader'}", end=": ")
                print(f"{alone:.1f} images/s alone, {fed:.1f} feeding the step", end=", ")
                print(f"{hours:,.1f} hours for {EPOCHS} epochs of {MIMIC_IMAGES:,}", flush=True)


class EndlessBatches(Sampler[list[tuple[int, int]]]):
    """Batches of keys, each of an epoch of its own, made one by one."""

    def __init__(self, batch: int):
        self.batch = batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in count():
            yield [(epoch, index % IMAGES) for index in range(self.batch)]


def feeding_rate(dataset: PretrainingDataset, batch: int, workers: int, consume: Callable[[dict], object]) -> float:
    """Images a second that `consume` gets on the device, measured after three batches of each worker."""
    loader = build_loader(dataset, EndlessBatches(batch), workers, pin_memory=DEVICE == "cuda", prefetch=2)
    start, taken, first = 0.0, 0, 3 * max(workers, 1)
    for number, images in enumerate(loader):
        consume(to_device(images, torch.device(DEVICE), PREPROCESSING))
        if number == first:
            synchronize(DEVICE)
            start = time.perf_counter()
        elif number > first:
            taken += 1
            if time.perf_counter() - start > FEEDING_SECONDS:
                break
    synchronize(DEVICE)
    return taken * batch / (time.perf_counter() - start)
