"""Training samples a second on one core: originals of MIMIC's size, their store, and a loader in plain PyTorch.

python -m benchmarks.loader        some 30 seconds on one core

A sample is all that a loader does: decode, crop, augment, normalise to float [3, 224, 224], labels, locations. Plain is
the same recipe as torchvision has it, on a JPEG decoded to RGB in full. Times are the processor's, the least of several
rounds in which all take turns, so that a busy machine spoils the ratios little. Files come from the page cache.
"""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from mavl.data import phantom
from mavl.data.images import augment
from mavl.data.images.read import read_image
from mavl.data.images.transforms import IMAGENET_MEAN, IMAGENET_STD, EvalTransform, normalise, train_transform
from mavl.data.labels import LabelStore, draw_locations, finding_labels
from mavl.data.pretraining import PretrainingDataset
from mavl.data.samples import ReportSamples
from mavl.prepare.store.sources import Sources
from mavl.prepare.store.tree import StoreSettings, write_store

ORIGINAL = (2544, 3056)
NOISE = 2.0
"""Standard deviation in grey values at which such a JPEG of quality 95 has MIMIC's mean size, 1.5 MB."""

IMAGES, ROUNDS = 4, 8
SAMPLES = {"plain": 4, "originals": 8, "store": 64, "labels and locations": 300}
"""Timed in a round."""

TARGETS = {"originals": 3.5, "store": 35}


class PlainOperations(torch.nn.Module):
    """The operations of mavl.data.images.augment by torchvision, on an RGB image."""

    def forward(self, image: Image.Image) -> Image.Image:
        slant, moved = math.degrees(math.atan(augment.SHEAR)), augment.TRANSLATE_PIXELS
        for _ in range(augment.DRAWS):
            number, sign = torch.randint(10, ()).item(), 1 if torch.rand(()).item() < 0.5 else -1
            if torch.rand(()).item() >= augment.PROBABILITY:
                continue
            if number in (1, 2):
                image = (F.autocontrast, F.equalize)[number - 1](image)
            elif number in (3, 4):
                adjust = (F.adjust_brightness, F.adjust_sharpness)[number - 3]
                image = adjust(image, augment.ENHANCE_FACTOR)
            elif number > 4:
                shear = {5: [sign * slant, 0.0], 6: [0.0, sign * slant]}.get(number, [0.0, 0.0])
                shift = {7: [sign * moved, 0], 8: [0, sign * moved]}.get(number, [0, 0])
                angle = sign * augment.ROTATE_DEGREES if number == 9 else 0.0
                fill = [augment.FILL] * 3
                image = F.affine(image, angle, shift, 1.0, shear, interpolation=InterpolationMode.BILINEAR, fill=fill)
        return image


def plain_sample(paths: list[Path]) -> Callable[[int], Tensor]:
    crop = v2.RandomResizedCrop(224, scale=(0.2, 1.0), interpolation=InterpolationMode.BICUBIC)
    to_float = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    transform = v2.Compose([crop, v2.RandomHorizontalFlip(), PlainOperations(), *to_float])
    return lambda number: transform(Image.open(paths[number % IMAGES]).convert("RGB"))


def build_dataset(paths: list[Path], labels: Path, on_device: bool = False) -> PretrainingDataset:
    """Of IMAGES images."""
    samples = ReportSamples(paths, LabelStore(labels), np.arange(IMAGES), [])
    return PretrainingDataset(samples, train_transform(224, on_device=on_device), seed=0)


def sample(paths: list[Path], labels: Path) -> Callable[[int], Tensor]:
    dataset = build_dataset(paths, labels)
    return lambda number: normalise(dataset[divmod(number, IMAGES)]["image"])


@dataclass(frozen=True)
class Films:
    """IMAGES images as originals and in a store. paths, sizes: by title, the files and the bytes that one takes on
    average; labels: the file of their label matrices; making: milliseconds of one core to put one into the store.
    """

    paths: dict[str, list[Path]]
    sizes: dict[str, float]
    labels: Path
    making: float


def write_films(folder: Path) -> Films:
    originals, store, labels = write_originals(folder), folder / "store", folder / "labels.npy"
    np.save(labels, np.stack([phantom.draw(0, number, 64).labels for number in range(IMAGES)]))
    sources = Sources(images={path.name: path for path in originals})
    start = time.process_time()
    write_store(store, StoreSettings(), sources, workers=1, show=False)
    making = 1000 * (time.process_time() - start) / IMAGES
    paths = {"originals": originals, "store": [store / path.name for path in originals]}
    sizes = {title: sum(path.stat().st_size for path in files) / IMAGES for title, files in paths.items()}
    return Films(paths, sizes, labels, making)


def write_originals(folder: Path) -> list[Path]:
    """Phantoms of 512 pixels drawn out to MIMIC's size, with noise."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(IMAGES)]
    for number, path in enumerate(paths):
        drawn = Image.fromarray(phantom.draw(0, number, 512).image).resize(ORIGINAL, Image.Resampling.BICUBIC)
        noisy = np.asarray(drawn) + rng.normal(0, NOISE, drawn.size[::-1])
        Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(path, quality=95)
    return paths


def milliseconds(call: Callable[[int], object], first: int, count: int) -> float:
    start = time.process_time()
    for number in range(first, first + count):
        call(number)
    return 1000 * (time.process_time() - start) / count


def difference(paths: list[Path], originals: list[Path]) -> float:
    """Mean absolute difference of the 224-pixel test images, in grey values."""
    transform = EvalTransform(224, "bilinear")
    a, b = (torch.stack([transform.pixels(read_image(path)) for path in files]).float() for files in (paths, originals))
    return (a - b).abs().mean().item()


@dataclass(frozen=True)
class Measured:
    """By title: milliseconds of one core and bytes that an image takes, and how far its test image is off, of 255.

    making: milliseconds of one core to put an original into a store.
    """

    times: dict[str, float]
    sizes: dict[str, float]
    differences: dict[str, float]
    making: float


@cache
def measure() -> Measured:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        films = write_films(Path(name))
        matrices = np.load(films.labels)
        generator = np.random.default_rng(0)
        originals = films.paths["originals"]
        calls = {"plain": plain_sample(originals)}
        calls |= {title: sample(paths, films.labels) for title, paths in films.paths.items()}
        calls["labels and locations"] = lambda number: (
            finding_labels(matrices[number % IMAGES]),
            draw_locations(matrices[number % IMAGES], generator),
        )
        times = dict.fromkeys(calls, math.inf)
        for number in range(ROUNDS):
            for title, call in calls.items():
                count = SAMPLES[title]
                times[title] = min(times[title], milliseconds(call, number * count, count))
        differences = {title: difference(paths, originals) for title, paths in films.paths.items()}
    return Measured(times, films.sizes, differences, films.making)


def main() -> None:
    measured = measure()
    times, differences = measured.times, measured.differences
    print(f"  {'making the store':22} {measured.making:7.2f} ms an image")
    for title, took in times.items():
        if title not in TARGETS:
            print(f"  {title:22} {took:7.2f} ms an image" + (f"  {1000 / took:6.1f} images/s" if took > 1 else ""))
            continue
        ratio = f"{times['plain'] / took:5.1f} times plain, wanted {TARGETS[title]:g}"
        apart = f"; test image {differences[title]:.2f}/255 apart" if title != "originals" else ""
        print(f"  {title:22} {took:7.2f} ms an image  {1000 / took:6.1f} images/s  {ratio}{apart}")


if __name__ == "__main__":
    main()
