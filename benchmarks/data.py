"""Training samples on one core, the loader beside the training step, and what hundreds of thousands of images take."""

import json
import math
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.speed import DEVICE
from benchmarks.steps import Case, best_seconds, build_step, synchronize
from mavl.backbones.preprocessing import Preprocessing
from mavl.config.settings import ModelSettings
from mavl.data import phantom
from mavl.data.images.read import read_image
from mavl.data.images.transforms import EvalTransform, TrainTransform, normalize
from mavl.data.labels import LabelStore, draw_locations, finding_labels
from mavl.data.loading import build_loader, to_device
from mavl.data.pretraining import PretrainingDataset
from mavl.data.samples import ListedSamples, read_reports
from mavl.model.mavl import MAVL
from mavl.prepare.store.sources import Sources
from mavl.prepare.store.tree import StoreSettings, write_store
from mavl.vocab import ANATOMIES, FINDINGS

MIMIC_IMAGES, MIMIC_STUDIES, EPOCHS = 377_110, 227_827, 60
"""MIMIC-CXR-JPG's own numbers (Johnson et al., 2019), and the epochs of the schedule."""
TEN_MILLION = 10_000_000

PREPROCESSING = Preprocessing()
ORIGINAL = (2544, 3056)
NOISE = 2.0
"""Standard deviation in grey values at which such a JPEG of quality 95 has MIMIC's mean size, 1.6 MB."""

IMAGES, ROUNDS = 4, 8
TIMED = {"plain": 4, "originals": 8, "store": 64, "labels and locations": 300}
"""Samples of a round."""

FEEDING_SECONDS = 4.0
PATH = "files/p10/p10000032/s50414267/02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg"
LISTED = 20_000
"""Images whose lists are held in memory, to measure what one takes."""
BATCH, CORES = 124, 16


# Samples --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Films:
    """The same images as originals and in a store.

    Args:
        paths: title -> files.
        sizes: title -> bytes of an image on average.
        labels: the file of their label matrices.
        making: milliseconds of one core to put an image into the store.
    """

    paths: dict[str, list[Path]]
    sizes: dict[str, float]
    labels: Path
    making: float


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
    return Films(paths, sizes, labels, making)


def build_dataset(
    paths: list[Path], labels: Path, on_device: bool = False, columns: list[int] | None = None
) -> PretrainingDataset:
    samples = ListedSamples(paths, [], np.arange(IMAGES), LabelStore(labels, columns))
    return PretrainingDataset(samples, TrainTransform(PREPROCESSING, on_device=on_device), seed=0)


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


def feeding_rate(dataset: PretrainingDataset, batch: int, workers: int, consume: Callable[[dict], object]) -> float:
    """Images a second that `consume` gets on the device, measured after three batches of each worker."""
    batches = [[(epoch, index % IMAGES) for index in range(batch)] for epoch in range(100_000)]
    loader = build_loader(dataset, batches, workers, pin_memory=DEVICE == "cuda", prefetch=2)
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


# Tables of docs/scale.md ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """What an image takes.

    Args:
        sizes: title -> bytes on disk.
        times: title -> milliseconds of one core for a sample.
        making: milliseconds of one core to put one into the store.
        listed: bytes of memory in the lists of a training process.
        parameters: of the model.
        gpu: images that a GPU trains a second.
    """

    sizes: dict[str, float]
    times: dict[str, float]
    making: float
    listed: float
    parameters: int
    gpu: float


def scale(gpu: float, gpus: Sequence[int]) -> None:
    """Some 50 seconds on one core: storage, memory, cores and network for MIMIC and for ten million images."""
    films, times, _ = measure_samples()
    times = {title: times[title] for title in films.sizes}
    model = MAVL(**ModelSettings().model_dump(mode="json"), text_width=768)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print("\n".join(tables(Rates(films.sizes, times, films.making, listed_bytes(), parameters, gpu), gpus)))


def listed_bytes() -> float:
    """Bytes of memory that the lists of one image take in a training process (its workers hold the paths alone)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "labels.npy", np.zeros((1, len(ANATOMIES), len(FINDINGS)), np.int8))
        entries = {PATH.replace("02aa804e", f"{number:08x}"): {"labels_id": 0} for number in range(LISTED)}
        (folder / "train.json").write_text(json.dumps(entries))
        del entries
        tracemalloc.start()
        samples = read_reports(folder / "train.json", folder / "labels.npy", folder, "", [*range(len(FINDINGS))])
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held / len(samples)


def tables(rates: Rates, gpus: Sequence[int]) -> Iterator[str]:
    """Lines of Markdown; gpus: how many for each number of images. docs/scale.md says how each is computed."""
    numbers, totals = (MIMIC_IMAGES, TEN_MILLION), [number * rates.gpu for number in gpus]
    yield from _table(
        ["measured, one core", *rates.sizes],
        ["bytes of an image", *map(_bytes, rates.sizes.values())],
        ["to decode, crop and augment it", *(f"{took:.2f} ms" for took in rates.times.values())],
        ["images a second", *(f"{1000 / took:,.0f}" for took in rates.times.values())],
    )
    yield (
        f"\nAlso measured: {rates.making:.0f} ms to put an image into the store, {rates.listed:,.0f} bytes of memory "
        f"for its lists, {rates.parameters:,} parameters of MAVL with a ResNet-50. Given: {rates.gpu:,.0f} images a "
        f"second on each GPU, {BATCH} images a GPU and step.\n"
    )
    disk = rates.sizes | {"labels": MIMIC_STUDIES / MIMIC_IMAGES * len(ANATOMIES) * len(FINDINGS)}
    yield from _table(
        ["", *(f"{number:,} images" for number in numbers)],
        *([f"disk: {title}", *(_bytes(number * size) for number in numbers)] for title, size in disk.items()),
        [f"time to make the store, {CORES} cores", *(_hours(n * rates.making / 1000 / CORES) for n in numbers)],
        ["memory of each training process for its lists", *(_bytes(number * rates.listed) for number in numbers)],
    )
    yield ""
    gradients = [2 * (number - 1) / number * 4 * rates.parameters * rates.gpu / BATCH for number in gpus]
    epochs = [number / total for number, total in zip(numbers, totals, strict=True)]
    yield from _table(
        ["", *(f"{number:,} images, {gpu} GPUs" for number, gpu in zip(numbers, gpus, strict=True))],
        ["images a second", *(f"{total:,.0f}" for total in totals)],
        *([f"cores to feed them: {t}", *(f"{n * ms / 1000:,.1f}" for n in totals)] for t, ms in rates.times.items()),
        *([f"read a second: {t}", *(_bytes(total * size) for total in totals)] for t, size in rates.sizes.items()),
        ["gradients a GPU sends a second", *map(_bytes, gradients)],
        ["an epoch", *map(_hours, epochs)],
        [f"{EPOCHS} epochs", *(_hours(EPOCHS * epoch) for epoch in epochs)],
    )


def _table(head: Sequence[str], *rows: Sequence[str]) -> Iterator[str]:
    for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows):
        yield "| " + " | ".join(row) + " |"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.2g} {unit}"


def _hours(seconds: float) -> str:
    hours = seconds / 3600
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} days"
