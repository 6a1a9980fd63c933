"""A scorer of pseudo-random numbers, `random:SEED`, to test the evaluation."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from mavl.backbones import PatchGrid, Preprocessing
from mavl.scorers.protocol import ScorerError, ScorerOptions

SIDE = 7
"""Cells of a map's side."""


class RandomScorer:
    """Scores in 0..1, and maps that sum to 1; they depend on the seed, the finding and the image's pixels alone."""

    preprocessing = Preprocessing(image_size=64)
    trained_findings: tuple[str, ...] = ()
    patch_grid: PatchGrid | None = None

    def __init__(self, seed: int):
        self.seed = seed

    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        return self._numbers(images, findings, ())

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        maps = self._numbers(images, findings, (SIDE, SIDE))
        return maps / maps.sum(dim=(-2, -1), keepdim=True)

    def describe(self) -> dict:
        return {"model": f"random:{self.seed}", "map": "pseudo-random numbers"}

    def _numbers(self, images: Tensor, findings: Sequence[str], shape: tuple[int, ...]) -> Tensor:
        seeds = [crc32(image.cpu().numpy().tobytes()) for image in images]
        numbers = [
            [np.random.default_rng((self.seed, seed, crc32(finding.encode()))).random(shape) for finding in findings]
            for seed in seeds
        ]
        return torch.tensor(np.array(numbers), dtype=torch.float32)


def open_random(seed: str, options: ScorerOptions, device: torch.device) -> RandomScorer:
    """The scorer of this seed, a whole number of at least 0."""
    if not seed.isdecimal():
        raise ScorerError(f"random:{seed}: expected random:SEED with a whole number, such as random:0")
    return RandomScorer(int(seed))
