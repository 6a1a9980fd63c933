"""What hundreds of thousands of images take: the tables of docs/scale.md."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks import lists
from benchmarks.data import EPOCHS, MIMIC_IMAGES, measure_samples
from mavl.config.settings import ModelSettings
from mavl.model.mavl import MAVL
from mavl.vocab import ANATOMIES, FINDINGS

MIMIC_STUDIES, TEN_MILLION = 227_827, 10_000_000
LISTS = (MIMIC_IMAGES, TEN_MILLION)
BATCH, CORES = 124, 16


@dataclass(frozen=True)
class Rates:
    """What an image takes.

    Args:
        sizes: title -> bytes on disk.
        times: title -> milliseconds of one core for a sample.
        making: milliseconds of one core to put one into the store.
        header: title -> milliseconds of one core to check a file's header.
        starts: images -> figures of `benchmarks.lists.measure`.
        parameters: of the model.
        gpu: images that a GPU trains a second.
    """

    sizes: dict[str, float]
    times: dict[str, float]
    making: float
    header: dict[str, float]
    starts: dict[int, dict[str, dict[str, float]]]
    parameters: int
    gpu: float


def scale(gpu: float, gpus: Sequence[int], images: Sequence[int]) -> None:
    """Some 10 minutes on two cores: storage, memory, cores, network and the start for MIMIC and ten million images.

    The start of ten million needs 12 GB of memory and 4 GB of disk.
    """
    films, times, _ = measure_samples()
    times = {title: times[title] for title in films.sizes}
    model = MAVL(**ModelSettings().model_dump(mode="json"), text_width=768)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    starts = {number: lists.measure(number) for number in images}
    rates = Rates(films.sizes, times, films.making, films.header, starts, parameters, gpu)
    print("\n".join(tables(rates, gpus)))


def tables(rates: Rates, gpus: Sequence[int]) -> Iterator[str]:
    """Lines of Markdown; gpus: how many for each number of images. docs/scale.md says how each is computed."""
    numbers, totals = (MIMIC_IMAGES, TEN_MILLION), [number * rates.gpu for number in gpus]
    yield from _table(
        ["measured, one core", *rates.sizes],
        ["bytes of an image", *map(_bytes, rates.sizes.values())],
        ["to decode, crop and augment it", *(f"{took:.2f} ms" for took in rates.times.values())],
        ["images a second", *(f"{1000 / took:,.0f}" for took in rates.times.values())],
        ["to check its header", *(f"{took:.2f} ms" for took in rates.header.values())],
    )
    yield (
        f"\nAlso measured: {rates.making:.0f} ms to put an image into the store, {rates.parameters:,} parameters of "
        f"MAVL with a ResNet-50. Given: {rates.gpu:,.0f} images a second on each GPU, {BATCH} images a GPU and step.\n"
    )
    disk = rates.sizes | {"labels": MIMIC_STUDIES / MIMIC_IMAGES * len(ANATOMIES) * len(FINDINGS)}
    yield from _table(
        ["", *(f"{number:,} images" for number in numbers)],
        *([f"disk: {title}", *(_bytes(number * size) for number in numbers)] for title, size in disk.items()),
        [f"time to make the store, {CORES} cores", *(_hours(n * rates.making / 1000 / CORES) for n in numbers)],
        *(
            [f"time to check all headers: {title}, {CORES} cores", *(_hours(n * took / 1000 / CORES) for n in numbers)]
            for title, took in rates.header.items()
        ),
    )
    yield ""
    yield from lists.table(rates.starts)
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
    if seconds < 120:
        return f"{seconds:.0f} s"
    hours = seconds / 3600
    return f"{60 * hours:.0f} min" if hours < 2 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.1f} days"
