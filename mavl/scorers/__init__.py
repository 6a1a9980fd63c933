"""Models as the evaluation uses them. The evaluation knows the `Scorer` protocol alone, no kind of model.

`open_scorer` opens any of them by name. A new kind is a file in this folder and an entry in KINDS.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from mavl.backbones import PatchGrid, Preprocessing
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions
from mavl.text.books import Books

__all__ = ["KINDS", "Scorer", "ScorerError", "ScorerOptions", "TextScorer", "open_scorer"]


class ScorerError(ValueError):
    """A model that cannot be opened, or that cannot do what is needed; the message says why."""


class Scorer(Protocol):
    """A model that scores findings in images and may show where it sees them.

    preprocessing: how an image becomes its input. trained_findings: names that it was trained on. patch_grid: positions
    of the cells of its heatmaps in the input, None where the cells divide the image evenly.
    """

    preprocessing: Preprocessing
    trained_findings: tuple[str, ...]
    patch_grid: PatchGrid | None

    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """images [B, 3, S, S], preprocessed, on its device -> [B, len(findings)]; a larger score: more likely present.

        UnknownFindingError for a finding that it cannot score.
        """
        ...

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor | None:
        """images [B, 3, S, S] -> [B, len(findings), h, w], each map non-negative; None for a model without maps."""
        ...

    def describe(self) -> dict[str, Any]:
        """What its results depend on, for JSON: "model" at least, and sentences about its maps as "map"."""
        ...


@runtime_checkable
class TextScorer(Scorer, Protocol):
    """A Scorer whose findings are defined by text, which can be replaced while the images are encoded once.

    vocabulary: the findings that it has text for. aspects: the texts of a finding, by name.
    """

    vocabulary: tuple[str, ...]
    aspects: tuple[str, ...]

    def with_books(self, books: Books) -> Self:
        """The same model with other text for the findings of these books."""
        ...

    def same_text(self, other: Self) -> bool:
        """Whether both have the same text, up to rounding."""
        ...

    def encode(self, images: Tensor) -> Any:
        """images [B, 3, S, S] -> features, of use with any text of this model."""
        ...

    def score_features(self, features: Any, findings: Sequence[str]) -> Tensor:
        """The scores of `Scorer.scores` from features of `encode`."""
        ...


@dataclass(frozen=True)
class ScorerOptions:
    """How a model is used; a model ignores what does not apply to it.

    Args:
        findings: names that it must be able to score.
        descriptions, aspects: books that define findings.
        text_encoder: name of the text encoder, by default the model's own.
        max_length: tokens of a sentence, by default the model's own.
        rebuild_text: encode all text from the books, instead of using the vectors stored with the model.
        text_cache: folder of text embeddings that were computed before.
        head: "supervised" or "contrastive".
        map_options: how attention becomes a heatmap.
    """

    findings: tuple[str, ...]
    descriptions: Sequence[str | Path] = ()
    aspects: Sequence[str | Path] = ()
    text_encoder: str | None = None
    max_length: int | None = None
    rebuild_text: bool = False
    text_cache: Path | None = None
    head: str = "supervised"
    map_options: MapOptions = DEFAULT_MAP


def _open_random(name: str, options: ScorerOptions, device: torch.device) -> Scorer:
    from mavl.scorers.random import open_random

    return open_random(name, options)


def _open_mavl(name: str, options: ScorerOptions, device: torch.device) -> Scorer:
    from mavl.scorers.mavl import open_mavl

    return open_mavl(name, options, device)


KINDS: Mapping[str, Callable[[str, ScorerOptions, torch.device], Scorer]] = {"random": _open_random}
"""{prefix of a model's name, as in random:0: function that opens it}. Names without a prefix are MAVL's."""


def open_scorer(name: str, options: ScorerOptions, device: torch.device | str = "cpu") -> Scorer:
    """The model of this name on a device: a kind and its argument, as in `random:0`, or a MAVL.

    A MAVL is a model folder, a released .pth or a hub id. Errors: ScorerError, and those of the kind.
    """
    kind, colon, argument = name.partition(":")
    if colon and kind in KINDS:
        return KINDS[kind](argument, options, torch.device(device))
    return _open_mavl(name, options, torch.device(device))
