"""The log of a run: losses and figures as lines of JSON in its folder, and for the trackers."""

import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from mavl.files import write_text
from mavl.progress import plural
from mavl.report.training import read_log
from mavl.train.run_folder import Progress

RESCUE = (
    "nothing was saved since. Lower optimizer.lr, set train.max_grad_norm, or use bf16 instead of fp16; --resume goes "
    "back to the last checkpoint."
)


SHOWN = {"images_per_second": "img/s", "loader_wait": "loader", "gpu_memory_gib": "GiB"}
"""The figures of the speed beside the progress, under shorter names."""
Batch = TypeVar("Batch")


class NonFiniteLossError(RuntimeError):
    """A loss or a weight that became NaN or infinite; the message names it. The last checkpoint is from before."""


class Log:
    """Losses and figures of a run, and its speed; the host waits for the device at `flush` only.

    progress: of the checkpoint that the run continues from; later lines are removed.
    """

    def __init__(self, accelerator: Accelerator, path: Path, progress: Progress):
        self.accelerator, self.path = accelerator, path
        self.once: dict[str, float] = {}  # figures for the next line alone
        self.restart()
        if accelerator.is_main_process:
            lines, damaged = read_log(path) if path.exists() else ([], 0)
            if damaged:
                print(f"note: {path}: left out what a kill has damaged, {plural(damaged, 'line')}")
            kept = [line for line in lines if line["step"] <= (progress.step if "lr" in line else progress.validated)]
            write_text(path, "".join(map(_json_line, kept)))

    def restart(self) -> None:
        """Begin the next line here: what took time before, such as a checkpoint, does not count."""
        self.pending: list[dict[str, Tensor]] = []
        self.images, self.waited, self.since = 0, 0.0, time.perf_counter()

    def timed(self, loader: Iterable[Batch]) -> Iterator[Batch]:
        """The batches of the loader; the time until each comes counts as waiting for the loader."""
        batches, last = iter(loader), object()
        while True:
            asked = time.perf_counter()
            batch = next(batches, last)
            self.waited += time.perf_counter() - asked
            if batch is last:
                return
            yield cast(Batch, batch)

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        self.pending.append({name: value.detach() for name, value in losses.items()})
        self.images += images

    def flush(self, epoch: int, step: int, lr: float) -> dict[str, str]:
        """Write the means since the last call, over all processes, and the speed; NonFiniteLossError names the step."""
        names = list(self.pending[0])
        local = torch.stack([torch.stack([losses[name].float() for name in names]) for losses in self.pending])
        values = cast(Tensor, self.accelerator.gather(local[None])).cpu().numpy()
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            process, micro, which = bad[bad[:, 1].argmin()]
            per_step = self.accelerator.gradient_accumulation_steps
            first = step - math.ceil(len(self.pending) / per_step) + micro // per_step + 1
            raise NonFiniteLossError(f"step {first}: {names[which]} is {values[process, micro, which]}; {RESCUE}")
        means = dict(zip(names, values.mean(axis=(0, 1)).tolist(), strict=True))
        speed = self._speed()
        self.write(epoch, step, {**means, "lr": lr, **speed, **self.once})
        self.once = {}
        self.restart()
        shown = {**means, "lr": lr} | {label: speed[name] for name, label in SHOWN.items() if name in speed}
        return {name: f"{value:.4g}" for name, value in shown.items()}

    def _speed(self) -> dict[str, float]:
        """Since the last line, over all processes.

        images_per_second: of all together; images_per_second_process: of the slowest one. loader_wait: the largest
        share of the time that one has waited for its loader, 0 to 1. gpu_memory_gib: the most that the tensors of one
        have taken on its GPU since its start, absent on a CPU.
        """
        device, seconds = self.accelerator.device, time.perf_counter() - self.since
        peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
        own = torch.tensor([[self.images / seconds, self.waited / seconds, peak]], device=device)
        rates, waits, peaks = cast(Tensor, self.accelerator.gather(own)).T.tolist()
        several = {"images_per_second_process": min(rates)} if len(rates) > 1 else {}
        memory = {"gpu_memory_gib": max(peaks)} if device.type == "cuda" else {}
        return {"images_per_second": sum(rates), **several, "loader_wait": max(waits), **memory}

    def write(self, epoch: int, step: int, figures: dict[str, float]) -> None:
        self.accelerator.log(figures, step=step)
        if self.accelerator.is_main_process:
            with self.path.open("a") as file:
                file.write(_json_line({"epoch": epoch + 1, "step": step, **figures}))


def _json_line(figures: dict[str, float]) -> str:
    return json.dumps(json_numbers(figures), allow_nan=False) + "\n"


def json_numbers(figures: dict[str, Any]) -> dict[str, Any]:
    """With None for NaN and infinities, which JSON does not have."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in figures.items()
    }
