"""A heatmap and its mask: pixels ranked by heat, and the pixel counts above thresholds. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mavl.metrics.intervals import Ranking, rank


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of an image at K thresholds: predicted [K], and hit [K] (also in the mask); in the mask; in all."""

    predicted: np.ndarray
    hit: np.ndarray
    positives: int
    pixels: int

    @property
    def dice(self) -> np.ndarray:
        return 2 * self.hit / (self.predicted + self.positives)


@dataclass(frozen=True)
class MaskedMap:
    """An image: heatmap float [H, W], mask bool [H, W] with a pixel or more, and its pixels ranked by falling heat."""

    heatmap: np.ndarray
    mask: np.ndarray
    ranking: Ranking

    def above(self, thresholds: Sequence[float] | np.ndarray) -> Overlap:
        """The overlap at thresholds [K] in any order."""
        thresholds = _rounded(thresholds, self.heatmap.dtype)
        return self._of_first(np.searchsorted(-self.ranking.scores, -thresholds, side="left"))

    def at_hits(self) -> Overlap:
        """The overlap after each of the runs of equal heat with a pixel of the mask."""
        return self._of_first(self.ranking.ends)

    def _of_first(self, predicted: np.ndarray) -> Overlap:
        """The overlap of the first pixels of the ranking."""
        ranking = self.ranking
        return Overlap(predicted, ranking.positives_before[predicted], len(ranking.positive), len(ranking.scores))


def rank_pixels(heatmap: np.ndarray, mask: np.ndarray, name: str = "") -> MaskedMap:
    """heatmap [H, W], mask [H, W] -> the map as float32 (float16 is widened) or float64, with the mask as bool.

    Raises ValueError with the name of the image if the shapes differ, the map is not finite, or the mask is empty.
    """
    heatmap, mask = np.asarray(heatmap), np.asarray(mask).astype(bool)
    image = f"image {name!r}: " if name else ""
    if heatmap.ndim != 2 or heatmap.shape != mask.shape:
        raise ValueError(f"{image}heatmap {heatmap.shape} and mask {mask.shape} must both be [H, W] of one size")
    if not (finite := np.isfinite(heatmap)).all():
        row, column = np.argwhere(~finite)[0].tolist()
        raise ValueError(f"{image}heatmap is {heatmap[row, column]} at ({row}, {column}); every pixel must be finite")
    if not mask.any():
        raise ValueError(f"{image}mask is empty; leave out images without the finding, as only positive ones count")
    heatmap = heatmap.astype(np.result_type(heatmap, np.float32), copy=False)
    return MaskedMap(heatmap, mask, rank(mask.ravel().astype(np.int8), heatmap.ravel()))


def _rounded(thresholds: Sequence[float] | np.ndarray, dtype: np.dtype) -> np.ndarray:
    thresholds = np.asarray(thresholds, dtype=float)
    if thresholds.ndim != 1 or np.isnan(thresholds).any():
        raise ValueError(f"thresholds must be a vector without NaN, not {thresholds}")
    return thresholds.astype(dtype).astype(float)
