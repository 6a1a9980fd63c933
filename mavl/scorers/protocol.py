"""The interface of models as the evaluation uses them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor

from mavl.backbones import PatchGrid, Preprocessing
from mavl.config.evaluation import PromptKind
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions
from mavl.text.books import Books


class ScorerError(ValueError):
    """A model that cannot be opened, or that cannot do what is needed; the message says why."""


class Scorer(Protocol):
    """A model that scores findings in images and may have heatmaps.

    preprocessing: how an image becomes its input. trained_findings: names that it was trained on. patch_grid: positions
    of the cells of its heatmaps in the input, None where the cells divide the image evenly.
    """

    preprocessing: Preprocessing
    trained_findings: tuple[str, ...]

    @property
    def patch_grid(self) -> PatchGrid | None: ...

    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        """images [B, 3, S, S], preprocessed, on its device -> [B, len(findings)], larger for a more likely finding.

        UnknownFindingError for a finding that it cannot score.
        """
        ...

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor | None:
        """images [B, 3, S, S] -> [B, len(findings), h, w], each map non-negative; None for a model without maps."""
        ...

    def describe(self) -> dict[str, Any]:
        """The conditions of its results, for JSON: "model" at least, and as "map" a phrase about its heatmaps."""
        ...


@runtime_checkable
class ListedScorer(Scorer, Protocol):
    """A Scorer that knows images by their names, and needs no pixels."""

    def listed_scores(self, images: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Names of images below the root of their benchmark -> [n, len(findings)]."""
        ...

    def listed_heatmaps(
        self, images: Sequence[str], findings: Sequence[str], cases: Sequence[tuple[int, str]]
    ) -> np.ndarray:
        """[n, len(findings), h, w], of the cases (position of an image, finding) alone."""
        ...

    def lists_any(self, images: Sequence[str]) -> bool:
        """Whether it knows one of these images."""
        ...


@runtime_checkable
class TextScorer(Scorer, Protocol):
    """A Scorer whose findings are defined by text, which can be replaced while the images are encoded once.

    vocabulary: the findings that it has text for. aspects: names of the texts of a finding.
    """

    aspects: tuple[str, ...]

    @property
    def vocabulary(self) -> tuple[str, ...]: ...

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
    """The use of a model; a model ignores what does not apply to it.

    Args:
        findings: names that it must be able to score.
        descriptions, aspects: books that define findings.
        text_encoder: name of the text encoder, by default the model's own.
        max_length: tokens of a sentence, by default the model's own.
        rebuild_text: encode all text from the books, instead of using the vectors stored with the model.
        text_cache: folder of cached text embeddings.
        head: "supervised" or "contrastive".
        map_options: the reduction of attention to a heatmap.
        prompts: of a model that compares an image with sentences, a PromptKind.
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
    prompts: PromptKind = "pairs"
