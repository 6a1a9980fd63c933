"""Activation checkpointing: a block keeps its input alone, and the backward pass computes its activations again."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(blocks: Iterable[nn.Module]) -> None:
    """Make each block compute its activations again in the backward pass instead of keeping them (Chen et al. 2016).

    blocks: as of `Backbone.blocks`. Results, gradients, running statistics of BatchNorm and the names of the state dict
    stay the same; random numbers, as of dropout, are repeated.
    """
    for block in blocks:
        block.forward = partial(_checkpointed, block)


def _checkpointed(block: nn.Module, *inputs: Any, **options: Any) -> Tensor:
    forward = partial(type(block).forward, block)
    if not torch.is_grad_enabled() or not _has_gradients(block, inputs):
        return forward(*inputs, **options)  # there is no backward pass, for which an input would be kept
    if torch.compiler.is_compiling():  # the compiler repeats operators, not Python, and updates no statistics again
        return checkpoint(forward, *inputs, use_reentrant=False, **options)
    contexts = partial(_contexts, block)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **options)


def _has_gradients(block: nn.Module, inputs: tuple[Any, ...]) -> bool:
    trained = any(parameter.requires_grad for parameter in block.parameters())
    return trained or any(isinstance(each, Tensor) and each.requires_grad for each in inputs)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """The contexts of the forward pass and of its repetition."""
    return nullcontext(), _buffers_kept(block)


@contextmanager
def _buffers_kept(block: nn.Module) -> Iterator[None]:
    """After the block all buffers, such as the running statistics of BatchNorm, are as before."""
    buffers = list(block.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:  # checkpoint leaves the repetition by an exception when it has what it needs
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
