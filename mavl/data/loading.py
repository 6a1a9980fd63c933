"""Loader workers that may be started at any time, beside CUDA, gloo or OpenMP threads."""

import multiprocessing
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mavl.data.images.transforms import augment_and_normalize

PRELOADED = ["mavl.data.pretraining"]


def build_loader(
    dataset: Dataset,
    batches: Sampler | Sequence,
    workers: int,
    pin_memory: bool,
    persistent: bool = False,
    prefetch: int = 2,
) -> DataLoader:
    """A DataLoader over batches of keys; each worker is `prefetch` batches ahead.

    Workers come from a fork server: a fork of the training process itself can hang for ever on a lock that one of its
    threads held (seen with gloo). The server imports what workers need once, so that starting one stays cheap.
    The generator is the loader's own, so that starting an iterator draws nothing from the global one.
    """
    context = None
    if workers:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=persistent and workers > 0,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        multiprocessing_context=context,
        generator=torch.Generator(),
    )


def to_device(batch: dict, device: torch.device) -> dict:
    """A batch of a loader as the model takes it; what the loader left to the device is done there."""
    moved = {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) and name != "operations" else value
        for name, value in batch.items()
    }
    return augment_and_normalize(moved)
