"""The interface of models as the evaluation uses them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor

from mavl.backbones import PatchGrid, Preprocessing
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions
from mavl.text.books import Books


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
        """What its results depend on, for JSON: "model" at least, and as "map" a phrase on what its heatmaps show."""
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
