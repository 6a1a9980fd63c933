"""A scorer without knowledge, `random:SEED`: pseudo-random scores and maps of the pixels. It tests the evaluation."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mavl.backbones import Preprocessing
from mavl.scorers.protocol import ScorerError, ScorerOptions

SIDE = 7
"""Cells of a map's side."""


class RandomScorer:
    """Scores in 0..1 and maps that depend on the seed, the finding and the image's pixels alone."""

    preprocessing = Preprocessing(image_size=64)
    trained_findings: tuple[str, ...] = ()
    patch_grid = None

    def __init__(self, seed: int):
        self.seed = seed

    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        return self._draw(images, findings, ())

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        maps = self._draw(images, findings, (SIDE, SIDE))
        return maps / maps.sum(dim=(-2, -1), keepdim=True)

    def describe(self) -> dict:
        return {"model": f"random:{self.seed}", "map": "pseudo-random numbers"}

    def _draw(self, images: Tensor, findings: Sequence[str], shape: tuple[int, ...]) -> Tensor:
        seeds = [crc32(image.cpu().numpy().tobytes()) for image in images]
        drawn = [
            [np.random.default_rng((self.seed, seed, crc32(finding.encode()))).random(shape) for finding in findings]
            for seed in seeds
        ]
        return torch.tensor(np.array(drawn), dtype=torch.float32)


def open_random(seed: str, options: ScorerOptions, device: torch.device) -> RandomScorer:
    """The scorer of this seed, a whole number of at least 0; it needs neither options nor device."""
    if not seed.isdigit():
        raise ScorerError(f"random:{seed}: expected random:SEED with a whole number, such as random:0")
    return RandomScorer(int(seed))
