"""Loader workers that may be started at any time, beside CUDA, gloo or OpenMP threads."""

import multiprocessing
from collections.abc import Sequence

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

PRELOADED = ["mavl.data.pretraining"]


def build_loader(
    dataset: Dataset, batches: Sampler | Sequence, workers: int, pin_memory: bool, persistent: bool = False
) -> DataLoader:
    """A DataLoader over batches of keys.

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
        pin_memory=pin_memory,
        multiprocessing_context=context,
        generator=torch.Generator(),
    )
