"""What 377,110 and 10,000,000 images take: storage, memory, cores and network, worked out of rates measured here.

python -m benchmarks.scale                          some 50 seconds on one core, most of them benchmarks.loader's
python -m benchmarks.scale --write docs/scale.md    puts the tables where they stand in the page
python -m benchmarks.scale --gpu 900 --gpus 8 64    for GPUs that train so many images a second each

Nothing in the tables is typed: sizes and times come from `benchmarks.loader`, memory from a manifest read here, the
size of the model from the model. Given are the numbers of images and GPUs, and what a GPU trains a second.
"""

import argparse
import json
import sys
import tempfile
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.steps import EPOCHS, MIMIC_IMAGES, MIMIC_STUDIES
from mavl.config.settings import ModelSettings
from mavl.data.samples import read_reports
from mavl.vocab import ANATOMIES, FINDINGS

SIZES = (MIMIC_IMAGES, 10_000_000)
STUDIES_PER_IMAGE = MIMIC_STUDIES / MIMIC_IMAGES
LABEL_BYTES = len(ANATOMIES) * len(FINDINGS)
PATH = "files/p10/p10000032/s50414267/02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg"
BATCH, CORES = 124, 16
LISTED = 20_000
"""Images whose lists are held in memory to see what one takes."""

BEGIN, END = "<!-- tables of benchmarks/scale.py -->", "<!-- end of the tables -->"


@dataclass(frozen=True)
class Rates:
    """sizes, times: bytes and milliseconds of one core that an image takes, by where it comes from; making:
    milliseconds of one core to put one into the store; listed: bytes of memory for one in the lists of a training
    process; parameters: of the model; gpu: images that one trains a second.
    """

    sizes: dict[str, float]
    times: dict[str, float]
    making: float
    listed: float
    parameters: int
    gpu: float


def measure(gpu: float) -> Rates:
    from benchmarks import loader  # torch takes seconds; the arithmetic does without

    measured = loader.measure()
    return Rates(
        measured.sizes,
        {title: measured.times[title] for title in measured.sizes},
        measured.making,
        listed_bytes(),
        count_parameters(),
        gpu,
    )


def listed_bytes() -> float:
    """Bytes of memory that the lists of one image take in a training process (its workers hold the paths alone)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "labels.npy", np.zeros((1, len(ANATOMIES), len(FINDINGS)), np.int8))
        entries = {PATH.replace("02aa804e", f"{number:08x}"): {"labels_id": 0} for number in range(LISTED)}
        (folder / "train.json").write_text(json.dumps(entries))
        del entries
        tracemalloc.start()
        samples = read_reports(folder / "train.json", folder / "labels.npy", folder, "", None)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held / len(samples)


def count_parameters() -> int:
    """Of MAVL with a ResNet-50."""
    from mavl.model.mavl import MAVL

    model = MAVL(**ModelSettings().model_dump(mode="json"), text_width=768)
    return sum(parameter.numel() for parameter in model.parameters())


# The arithmetic -------------------------------------------------------------------------------------------------------


def storage(images: int, rates: Rates) -> dict[str, float]:
    """Bytes on disk."""
    labels = images * STUDIES_PER_IMAGE * LABEL_BYTES
    return {title: images * size for title, size in rates.sizes.items()} | {"labels": labels}


def memory(images: int, rates: Rates) -> float:
    """Bytes that the lists take in each training process. Labels are a memory map, which processes share."""
    return images * rates.listed


def making_hours(images: int, rates: Rates, cores: int) -> float:
    """To make the store from originals."""
    return images * rates.making / 1000 / cores / 3600


def cores_for(images_a_second: float, milliseconds: float) -> float:
    """Cores that decode and augment so many images a second."""
    return images_a_second * milliseconds / 1000


def gradient_bytes(rates: Rates, gpus: int) -> float:
    """What one GPU sends a second: a ring passes 2 (n - 1) / n of the gradients, of four bytes, at every step."""
    return 2 * (gpus - 1) / gpus * 4 * rates.parameters * rates.gpu / BATCH


def epoch_hours(images: int, images_a_second: float) -> float:
    return images / images_a_second / 3600


# The tables -----------------------------------------------------------------------------------------------------------


def tables(rates: Rates, gpus: Sequence[int]) -> Iterator[str]:
    """Lines of Markdown; gpus: how many for each number of images."""
    yield from _table(
        ["measured here, one core", *rates.sizes],
        [
            ["bytes of an image", *map(_bytes, rates.sizes.values())],
            ["to decode, crop and augment it", *(f"{took:.2f} ms" for took in rates.times.values())],
            ["images a second", *(f"{1000 / took:,.0f}" for took in rates.times.values())],
        ],
    )
    yield (
        f"\nAlso measured: {rates.making:.0f} ms to put an image into the store, {rates.listed:,.0f} bytes of memory "
        f"for its lists, {rates.parameters:,} parameters of MAVL with a ResNet-50. Given: {rates.gpu:,.0f} images a "
        f"second on each GPU, {BATCH} images a GPU and step.\n"
    )
    stored = [storage(images, rates) for images in SIZES]
    rows = [[f"disk: {title}", *(_bytes(of[title]) for of in stored)] for title in stored[0]]
    rows += [
        [f"time to make the store, {CORES} cores", *(_hours(making_hours(n, rates, CORES)) for n in SIZES)],
        ["memory of each training process for its lists", *(_bytes(memory(n, rates)) for n in SIZES)],
    ]
    yield from _table(["", *(f"{images:,} images" for images in SIZES)], rows)
    yield ""
    totals = [number * rates.gpu for number in gpus]
    rows = [["images a second", *(f"{total:,.0f}" for total in totals)]]
    for title, took in rates.times.items():
        rows.append([f"cores to feed them: {title}", *(f"{cores_for(total, took):,.1f}" for total in totals)])
    for title, size in rates.sizes.items():
        rows.append([f"read a second: {title}", *(_bytes(total * size) for total in totals)])
    rows += [
        ["gradients a GPU sends a second", *(_bytes(gradient_bytes(rates, number)) for number in gpus)],
        ["an epoch", *(_hours(epoch_hours(n, total)) for n, total in zip(SIZES, totals, strict=True))],
        [f"{EPOCHS} epochs", *(_hours(EPOCHS * epoch_hours(n, total)) for n, total in zip(SIZES, totals, strict=True))],
    ]
    heads = [f"{images:,} images, {number} GPUs" for images, number in zip(SIZES, gpus, strict=True)]
    yield from _table(["", *heads], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---", *["---:"] * (len(head) - 1)], *rows):
        yield "| " + " | ".join(row) + " |"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.2g} {unit}"


def _hours(hours: float) -> str:
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} days"


def write(page: Path, text: str) -> None:
    """Put the tables between their marks in a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", type=float, default=500, help="images that a GPU trains a second (%(default)s)")
    parser.add_argument("--gpus", type=int, nargs=2, default=(4, 32), help="for MIMIC, and for ten million (4 32)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="a page with the marks of the tables")
    chosen = parser.parse_args(arguments)
    text = "\n".join(tables(measure(chosen.gpu), chosen.gpus))
    print(text)
    if chosen.write is not None:
        write(chosen.write, text)


if __name__ == "__main__":
    main(sys.argv[1:])
