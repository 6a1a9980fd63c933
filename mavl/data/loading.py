"""Loaders whose workers may start beside CUDA, gloo or OpenMP threads; outputs over a whole dataset."""

import atexit
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing import forkserver, resource_tracker
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from mavl.backbones import Preprocessing
from mavl.data.images.transforms import augment_and_normalize
from mavl.data.processes import Stopping, leave_with_parent, without_signals
from mavl.progress import progress_bar

HELD_BYTES = 2**28
"""Outputs that wait on the device for a common copy to the host: one for each batch would make the GPU wait."""


def build_loader(
    dataset: Dataset,
    batches: Sampler | Sequence,
    workers: int,
    pin_memory: bool,
    persistent: bool = False,
    prefetch: int = 2,
) -> DataLoader:
    """A DataLoader over batches of keys; each worker is `prefetch` batches ahead.

    Workers come from a fork server, which imports what they need once: a fork of the training process itself can hang
    on a lock that one of its threads held (seen with gloo). They work on while a signal to the whole job makes the
    training process save its state, and exit with it. The global random generator is left as it is.
    """
    context = None
    if workers:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["mavl.data.pretraining"])
        with without_signals():
            resource_tracker.ensure_running()  # first, since its start lets SIGTERM through again
        with without_signals():
            forkserver.ensure_running()
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=persistent and workers > 0,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        multiprocessing_context=context,
        worker_init_fn=leave_with_parent if workers else None,
        generator=torch.Generator(),
    )


@atexit.register
def _kill_workers() -> None:
    """At the exit, before Python sends them a signal that they do not get, and waits for them."""
    for process in multiprocessing.active_children():
        process.kill()


def to_device(batch: dict, device: torch.device, preprocessing: Preprocessing) -> dict:
    """A loader's batch as input of a model: moved to the device, augmented and normalized there."""
    moved = {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) and name != "operations" else value
        for name, value in batch.items()
    }
    return augment_and_normalize(moved, preprocessing)


@torch.no_grad()
def compute_all(
    accelerator: Accelerator,
    dataset: Dataset,
    keys: Sequence,
    compute: Callable[[dict], dict[str, Tensor]],
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    workers: int,
    description: str,
) -> dict[str, np.ndarray] | None:
    """compute(batch) -> {name: tensor [b, …]} over dataset[key] for every key; rows in the order of the keys.

    The items carry their position as "index". The processes take whole batches in turn, so that no number depends on
    how many they are. The main process gets every row, as float32; the others get None, since the rows of a large
    dataset in each process of a node could take its memory. StopRequested after a batch, in all processes.
    """
    batches = [list(keys[start : start + batch_size]) for start in range(0, len(keys), batch_size)]
    mine = batches[accelerator.process_index :: accelerator.num_processes]
    workers, pin_memory = min(workers, len(mine)), accelerator.device.type == "cuda"
    loader = build_loader(dataset, mine, workers, pin_memory)
    indices: list[int] = []
    held: list[dict[str, Tensor]] = []
    blocks: list[dict[str, np.ndarray]] = []
    for batch in progress_bar(loader, description=description, unit="batch", show=accelerator.is_main_process):
        results = compute(to_device(batch, accelerator.device, preprocessing))
        indices += batch["index"].tolist()
        # copies: a view would keep the memory of more than itself, and a compiled model may write its outputs again
        held.append({name: value.to(torch.float32, copy=True) for name, value in results.items()})
        if len(held) * sum(value.nbytes for value in held[0].values()) >= HELD_BYTES:
            blocks, held = [*blocks, _on_host(held)], []
        Stopping.check(accelerator)
    if len(mine) * accelerator.num_processes < len(batches):  # another process has one batch more
        Stopping.check(accelerator)
    gathered = _gather(accelerator, (indices, [*blocks, _on_host(held)] if held else blocks))
    if gathered is None:
        return None
    order = np.argsort([index for indices, _ in gathered for index in indices])
    blocks = [block for _, of_process in gathered for block in of_process]
    return {name: np.concatenate([block[name] for block in blocks])[order] for name in blocks[0]}


def _on_host(held: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    return {name: torch.cat([results[name] for results in held]).cpu().numpy() for name in held[0]}


def _gather(accelerator: Accelerator, own: Any) -> list[Any] | None:
    """On the main process what each process has, in their order; None on the others."""
    if accelerator.num_processes == 1:
        return [own]
    everyone = [None] * accelerator.num_processes if accelerator.is_main_process else None
    distributed.gather_object(own, everyone)
    return everyone
