"""What a model that scores is requested to do, and what it gives for an image: scores, explanations, doubts."""

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mavl.data.images.grey import FLAT, MAX_PIXELS, spread
from mavl.metrics.calibration import Calibration
from mavl.model.explain import Explanation
from mavl.model.heatmaps import HeatmapError, enlarge
from mavl.text.embeddings import TextEmbeddings

TOP = 5
"""How many findings of an image are explained if none were named."""

Answer = tuple[np.ndarray, np.ndarray | None, dict[str, Explanation]]
"""Of one image: probabilities [n] of the two heads, and explanations by finding."""


@dataclass(frozen=True)
class Point:
    """The operating point of a finding: a score from the threshold on is positive. calibration: of the score."""

    threshold: float
    calibration: Calibration | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The scores of one image.

    name: of the file, as given. picture: the grey image in its own size.
    findings [n]: names of the embeddings. asked [n]: the names by which they were requested.
    supervised [n], contrastive [n]: probabilities by the two heads (contrastive: None for a model without this head).
    explanations: by finding, for those that were explained.
    new: the findings that the model was never trained on. warnings: what makes the scores doubtful, a line each.
    points: {finding: operating point of its supervised score}, of those with one.
    """

    name: str
    picture: Image.Image
    findings: tuple[str, ...]
    asked: tuple[str, ...]
    supervised: np.ndarray
    contrastive: np.ndarray | None
    explanations: dict[str, Explanation]
    new: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()
    points: Mapping[str, Point] = field(default_factory=dict)

    def __repr__(self) -> str:
        names = {i: f"{name} (never trained on)" if name in self.new else name for i, name in enumerate(self.findings)}
        shown = [f"{names[i]} {100 * self.leading[i]:.1f} %" for i in self.ranked()[:TOP]]
        more = [f"{len(self.findings) - TOP} more"] if len(self.findings) > TOP else []
        return f"Prediction({self.name!r}: {', '.join(shown + more)})"

    @property
    def leading(self) -> np.ndarray:
        """[n] The probabilities by the head that leads for each finding (`leading`)."""
        return leading(self.supervised, self.contrastive, self.findings, self.new)

    def ranked(self) -> list[int]:
        """Positions of the findings by falling leading score, those never trained on behind the others."""
        return ranked(self.leading, self.findings, self.new)

    def positive(self, finding: str) -> bool | None:
        """Whether the supervised score of a finding, by its own name, reaches its operating point; None without one."""
        point = self.points.get(finding)
        return None if point is None else bool(self.supervised[self.findings.index(finding)] >= point.threshold)

    def calibrated(self, finding: str) -> float | None:
        """The calibrated probability of a finding, by its own name; None without a calibration."""
        point = self.points.get(finding)
        if point is None or point.calibration is None:
            return None
        return float(point.calibration(self.supervised[self.findings.index(finding)]))

    def scores(self) -> dict[str, float]:
        """{finding: leading probability}, in the order of `ranked`."""
        return {self.findings[i]: float(self.leading[i]) for i in self.ranked()}

    def heatmap(self, finding: str, size: tuple[int, int] | None = None) -> np.ndarray:
        """The heatmap of an explained finding, by one of its names, float32 [H, W] of a size, by default the film's.

        It is `Explanation.heatmap` between the centres of the patches. HeatmapError for a finding without one, and for
        a size that is not two positive integers or of more than MAX_PIXELS.
        """
        name = dict(zip(self.asked, self.findings, strict=True)).get(finding, finding)
        explanation = self.explanations.get(name)
        if explanation is None or explanation.heatmap is None:
            have = ", ".join(self.explanations) or "none"
            raise HeatmapError(f"{self.name}: no heatmap of {finding!r}; explained are: {have}. Name it in predict")
        try:
            height, width = map(operator.index, (self.picture.height, self.picture.width) if size is None else size)
        except (TypeError, ValueError):
            height = width = 0
        if min(height, width) < 1 or height * width > MAX_PIXELS:
            raise HeatmapError(f"size {size!r}: expected (height, width), of at most {MAX_PIXELS:,} pixels")
        return enlarge(explanation.heatmap[None, None], (height, width), explanation.patch_grid)[0, 0].numpy()


@dataclass(frozen=True, repr=False)
class Request:
    """The findings to score, by the names given and by the model's names, and how many of an image's are explained.

    embeddings: of a model with text, its whole vocabulary and the new findings: a score depends on all queries of the
    decoder's self-attention, and with these it equals that of an evaluation. new: those never trained on.
    """

    asked: tuple[str, ...]
    findings: tuple[str, ...]
    explained: int
    embeddings: TextEmbeddings | None = None
    new: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Request({', '.join(self.asked[:TOP])}{', …' * (len(self.asked) > TOP)}; {self.explained} explained)"

    def most_probable(self, supervised: np.ndarray, contrastive: np.ndarray | None = None) -> list[tuple[int, str]]:
        """(position, name) of the findings to explain, from the scores [n] of an image."""
        scores = leading(supervised, contrastive, self.findings, self.new)
        return [(i, self.findings[i]) for i in ranked(scores, self.findings, self.new)[: self.explained]]


def leading(
    supervised: np.ndarray, contrastive: np.ndarray | None, findings: Sequence[str], new: Collection[str]
) -> np.ndarray:
    """[n] The contrastive score of findings in `new` if there is one, else the supervised score.

    The presence head has learned nothing about a finding that it was never trained on.
    """
    return supervised if contrastive is None else np.where([name in new for name in findings], contrastive, supervised)


def ranked(scores: np.ndarray, findings: Sequence[str], new: Collection[str]) -> list[int]:
    """Positions of scores [n], the highest first, those of findings in `new` last: their scale is another one."""
    return np.lexsort(np.stack([-scores, [name in new for name in findings]])).tolist()


def doubts(picture: Image.Image) -> tuple[str, ...]:
    """What makes scores of an image doubtful, a line each."""
    low, high = picture.getextrema()
    if low == high:
        return (f"blank: every pixel has the same grey, {low} of 255; its result means nothing",)
    if (levels := spread(picture)) <= FLAT:
        return (f"nearly blank: 98 % of its pixels lie within {levels} of 255 grey levels; cut extreme pixels off",)
    return ()
