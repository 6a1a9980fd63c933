"""Prediction for single images. Public: `load`, also as `mavl.load`."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from mavl import checkpoint
from mavl.checkpoint import CheckpointError, finetuned
from mavl.cpu import keep_freed_memory
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions
from mavl.predict.classifier import ClassifierPredictor
from mavl.predict.predictor import Predictor
from mavl.predict.pretrained import AvailableBooks, PretrainedPredictor

__all__ = ["load"]


def load(
    source: str | os.PathLike,
    *,
    descriptions: Sequence[str | Path] = (),
    aspects: Sequence[str | Path] = (),
    text_encoder: str | None = None,
    device: str | None = None,
    map_options: MapOptions = DEFAULT_MAP,
) -> Predictor:
    """A model folder, a released .pth or a hub id, pre-trained or fine-tuned -> Predictor.

    Args:
        descriptions, aspects: books with more findings, beside this project's. The findings that a model folder was
            trained with keep their vectors, whatever the books say. A fine-tuned model takes no books.
        text_encoder: a folder or hub id, by default the model's own; only new findings need it, and released files,
            which hold no vectors.
        device: by default the GPU if there is one. On a CPU the process keeps freed memory from then on (mavl.cpu).
        map_options: how attention becomes heatmaps.
    """
    source, device = str(source), device or ("cuda" if torch.cuda.is_available() else "cpu")
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    if finetuned.source_kind(source) in finetuned.KINDS:
        if descriptions or aspects or text_encoder:
            raise CheckpointError(
                f"{source}: a fine-tuned model has findings of its own and takes no books and no text encoder"
            )
        return ClassifierPredictor(source, finetuned.load(source), device)
    pretrained = checkpoint.load(source)
    books = AvailableBooks(pretrained, descriptions, aspects)
    return PretrainedPredictor(source, pretrained, books, text_encoder, device, map_options)
