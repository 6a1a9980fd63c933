"""How much AUROC depends on the wording of the findings: the results of one benchmark under several wordings."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mavl.metrics.classification import Evaluation


@dataclass(frozen=True)
class WordingResult:
    """The results under one wording.

    ablation: whether it omits a part of the text; flips: [C], for each finding the share of image pairs in another
    order than under the reference, (1 - Kendall's tau) / 2; changed: the number of findings with other text than in the
    reference.
    """

    name: str
    kind: str
    ablation: bool
    evaluation: Evaluation
    flips: np.ndarray
    changed: int


@dataclass(frozen=True)
class Spread:
    """AUROC over some wordings. std is that of these wordings, not an estimate for others.

    flips: the largest share of image pairs in another order under one of them.
    """

    low: float
    mean: float
    high: float
    std: float
    lowest: str
    highest: str
    flips: float


@dataclass(frozen=True)
class Sensitivity:
    """The results of all wordings, the reference first.

    `spreads` is over the wordings with the full text of the books, `ablated` over the ablations, which omit a part of
    it. Each is empty if there is no such wording. about: settings and versions; folder: the result folder.
    """

    wordings: list[WordingResult]
    about: dict
    folder: Path

    @property
    def reference(self) -> Evaluation:
        return self.wordings[0].evaluation

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """{"trained" or "new": the findings with both labels of, or not of, the pre-training}; no empty group."""
        defined = [found.name for found in self.reference.classes if found.name not in self.reference.undefined]
        new = self.about["new_findings"]
        groups = {
            "trained": [name for name in defined if name not in new],
            "new": [name for name in defined if name in new],
        }
        return {kind: names for kind, names in groups.items() if names}

    def areas(self, findings: Sequence[str]) -> np.ndarray:
        """AUROC [wordings, findings]."""
        of = [
            {found.name: found.metrics["auroc"].value for found in wording.evaluation.classes}
            for wording in self.wordings
        ]
        return np.array([[areas[name] for name in findings] for areas in of])

    @cached_property
    def findings(self) -> list[str]:
        """The findings with both labels, group by group."""
        return [name for names in self.groups.values() for name in names]

    @cached_property
    def spreads(self) -> dict[str, Spread]:
        """{finding, "mean trained" or "mean new": AUROC, or mean AUROC of the group, over all but the ablations}."""
        rows = [i for i, wording in enumerate(self.wordings) if not wording.ablation]
        return self._spreads(rows) if len(rows) > 1 else {}

    @cached_property
    def ablated(self) -> dict[str, Spread]:
        """As `spreads`, over the ablations alone."""
        rows = [i for i, wording in enumerate(self.wordings) if wording.ablation]
        return self._spreads(rows) if rows else {}

    def _spreads(self, rows: list[int]) -> dict[str, Spread]:
        columns = [found.name for found in self.reference.classes]
        flips = np.array([self.wordings[i].flips for i in rows])
        areas = self.areas(self.findings)[rows]
        spreads = {
            name: self._spread(rows, of, float(np.nanmax(flips[:, columns.index(name)], initial=0)))
            for name, of in zip(self.findings, areas.T, strict=True)
        }
        for kind, names in self.groups.items():
            spreads[f"mean {kind}"] = self._spread(rows, self.areas(names)[rows].mean(axis=1), np.nan)
        return spreads

    def _spread(self, rows: list[int], areas: np.ndarray, flips: float) -> Spread:
        """The spread of areas [rows]."""
        lowest, highest = (self.wordings[rows[i]].name for i in (areas.argmin(), areas.argmax()))
        low, mean, high, std = map(float, (areas.min(), areas.mean(), areas.max(), areas.std()))
        return Spread(low, mean, high, std, lowest, highest, flips)
