"""Prediction for single images. Public: `load`, also as `mavl.load`."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from mavl import checkpoint
from mavl.checkpoint import CheckpointError, finetuned
from mavl.config.settings import BUNDLED
from mavl.cpu import prepare_device
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions
from mavl.predict.classifier import ClassifierPredictor
from mavl.predict.predictor import Predictor
from mavl.predict.pretrained import AvailableBooks, PretrainedPredictor
from mavl.text.books import in_sentences

__all__ = ["load"]

Paths = str | os.PathLike | Sequence[str | Path]


def load(
    source: str | os.PathLike = BUNDLED,
    *,
    books: Paths = (),
    descriptions: Paths = (),
    aspects: Paths = (),
    text_encoder: str | None = None,
    device: str | None = None,
    map_options: MapOptions = DEFAULT_MAP,
) -> Predictor:
    """A model folder, a released .pth or a hub id, pre-trained or fine-tuned -> Predictor.

    Without a source, the model that comes with the package: small, of 128 pixels, trained on public radiographs
    (docs/films.md).

    Args:
        books: a file or several with more findings, beside this project's, as of concept_gen/generate.py, which hold
            both parts of a finding, or a sentence for each finding; descriptions, aspects: files with one part. The
            findings that a model folder was trained with keep their vectors, whatever the books say. A fine-tuned
            model takes no books.
        text_encoder: a folder or hub id, by default the model's own; only new findings need it, and released files,
            which hold no vectors.
        device: by default the GPU if there is one. From then on the process keeps freed memory on a CPU, and computes
            fp32 without TF32 on a GPU (mavl.cpu).
        map_options: how attention becomes heatmaps.
    """
    source, device = str(source), device or ("cuda" if torch.cuda.is_available() else "cpu")
    prepare_device(torch.device(device).type)
    if finetuned.source_kind(source) in finetuned.KINDS:
        if books or descriptions or aspects or text_encoder:
            raise CheckpointError(
                f"{source}: a fine-tuned model has findings of its own and takes no books and no text encoder"
            )
        return ClassifierPredictor(source, finetuned.load(source), device)
    pretrained = checkpoint.load(source)
    of_aspects = [book for book in _paths(books) if not in_sentences(book)]
    described, listed = [*_paths(books), *_paths(descriptions)], [*of_aspects, *_paths(aspects)]
    available = AvailableBooks(pretrained, described, listed)
    return PretrainedPredictor(source, pretrained, available, text_encoder, device, map_options)


def _paths(paths: Paths) -> list[str | Path]:
    return [Path(paths)] if isinstance(paths, str | os.PathLike) else list(paths)
