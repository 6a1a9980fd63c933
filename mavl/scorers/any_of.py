"""Findings of a benchmark that a model is asked as several findings, the largest of whose scores counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mavl.scorers.protocol import Scorer


def expand(findings: Sequence[str], any_of: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The findings that a model is asked, each once: of a class its parts.

    >>> expand(["edema", "nodule or mass", "mass"], {"nodule or mass": ["nodule", "mass"]})
    ('edema', 'nodule', 'mass')
    """
    return tuple(dict.fromkeys(part for finding in findings for part in any_of.get(finding, (finding,))))


class AnyOf:
    """A scorer that has the largest score of several findings as that of a class, and the largest value of their maps.

    any_of: {class: findings}. A class counts as trained where all its findings do.
    """

    def __init__(self, scorer: Scorer, any_of: Mapping[str, Sequence[str]]):
        self.scorer, self.any_of = scorer, any_of
        self.preprocessing, self.patch_grid = scorer.preprocessing, scorer.patch_grid
        trained = set(scorer.trained_findings)
        classes = (name for name, parts in any_of.items() if trained.issuperset(parts))
        self.trained_findings = (*scorer.trained_findings, *classes)

    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        return self._largest(self.scorer.scores(images, expand(findings, self.any_of)), findings)

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor | None:
        maps = self.scorer.heatmaps(images, expand(findings, self.any_of))
        return None if maps is None else self._largest(maps, findings)

    def describe(self) -> dict[str, Any]:
        return self.scorer.describe() | {"any_of": {name: list(parts) for name, parts in self.any_of.items()}}

    def _largest(self, values: Tensor, findings: Sequence[str]) -> Tensor:
        """values [B, asked findings, …] -> [B, len(findings), …]."""
        place = {name: position for position, name in enumerate(expand(findings, self.any_of))}
        columns = [[place[part] for part in self.any_of.get(finding, (finding,))] for finding in findings]
        return torch.stack([values[:, of].amax(dim=1) for of in columns], dim=1)
