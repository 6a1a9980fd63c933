"""Does the loader keep up? Images a second that all cores prepare, alone and feeding the training step of a GPU.

python -m benchmarks.feeding                  about a minute; without a GPU only what the loader does alone
python -m benchmarks.feeding --batch 256 --compile

The images are those of `benchmarks.loader`, in the page cache; workers, pinned memory and the copy to the device are
those of training, the operations of augmentation done by the loader or on the device.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.loader import IMAGES, Films, build_dataset, write_films
from benchmarks.steps import EPOCHS, MIMIC_IMAGES, Case, best_seconds, build_step
from mavl.data.loading import build_loader, to_device

SECONDS = 4.0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step, alone = None, 0.0
    if device == "cuda":
        step = build_step(Case("training", "fast", chosen.batch, "bf16", device, chosen.compile))
        alone = chosen.batch / best_seconds(step, device)
        print(f"  the step alone, bf16, batch {chosen.batch}: {alone:.0f} images/s")
    whole = f"{EPOCHS} epochs of {MIMIC_IMAGES:,}"
    print(f"  {chosen.workers} workers          operations  loader alone  feeding the step  {whole}")
    with tempfile.TemporaryDirectory() as name:
        films = write_films(Path(name))
        for title in films.paths:
            for on_device in (False, True):
                print("  " + _line(films, title, on_device, device, chosen, step), flush=True)


def _line(films: Films, title: str, on_device: bool, device: str, chosen: argparse.Namespace, step) -> str:
    def measured(take: Callable[[dict], object]) -> float:
        return rate(films, title, on_device, torch.device(device), chosen.batch, chosen.workers, take)

    head = f"{title:18}  {'device' if on_device else 'loader':10}  {measured(lambda batch: None):8.0f} /s"
    if step is None:
        return head
    fed = measured(lambda batch: step(batch["image"], batch["labels"], batch["locations"]))
    return f"{head}  {fed:14.0f} /s  {MIMIC_IMAGES * EPOCHS / fed / 3600:15.1f} hours"


def rate(
    films: Films,
    title: str,
    on_device: bool,
    device: torch.device,
    batch_size: int,
    workers: int,
    take: Callable[[dict], object],
) -> float:
    """Images a second of a loader whose batches `take` takes, for SECONDS after every worker has delivered some."""
    dataset = build_dataset(films.paths[title], films.labels, on_device)
    batches = [[(epoch, index % IMAGES) for index in range(batch_size)] for epoch in range(100_000)]
    loader = build_loader(dataset, batches, workers, pin_memory=device.type == "cuda", prefetch=2)
    start, taken, first = 0.0, 0, 3 * max(workers, 1)
    for number, batch in enumerate(loader):
        take(to_device(batch, device))
        if number == first:
            _wait(device)
            start = time.perf_counter()
        elif number > first:
            taken += 1
            if time.perf_counter() - start > SECONDS:
                break
    _wait(device)
    return taken * batch_size / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
