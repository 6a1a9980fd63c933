"""How much AUROC depends on the wording of the findings: the results of one benchmark under several wordings."""

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
    """The results of all wordings, the reference first. about: settings and versions; folder: the result folder."""

    wordings: list[WordingResult]
    about: dict
    folder: Path

    @property
    def reference(self) -> Evaluation:
        return self.wordings[0].evaluation

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """{"trained" or "new": the findings with both labels of, or not of, the pre-training}; no empty group."""
        groups = {"trained": [], "new": []}
        for found in self.reference.classes:
            if found.name not in self.reference.undefined:
                groups["new" if found.name in self.about["new_findings"] else "trained"].append(found.name)
        return {kind: findings for kind, findings in groups.items() if findings}

    @property
    def findings(self) -> list[str]:
        """The findings with both labels, group by group."""
        return [name for findings in self.groups.values() for name in findings]

    @cached_property
    def auroc(self) -> dict[str, np.ndarray]:
        """AUROC [wordings] of each finding in `groups`, and its mean over a group as "mean trained" or "mean new"."""
        columns = zip(*(wording.evaluation.classes for wording in self.wordings), strict=True)
        areas = {column[0].name: np.array([found.metrics["auroc"].value for found in column]) for column in columns}
        means = {
            f"mean {kind}": np.stack([areas[name] for name in findings], axis=1).mean(axis=1)
            for kind, findings in self.groups.items()
        }
        return {name: areas[name] for name in self.findings} | means

    @cached_property
    def spreads(self) -> dict[str, Spread]:
        """The spread of each entry of `auroc` over the wordings with the full text; empty if there is only one."""
        return self._spreads([row for row, wording in enumerate(self.wordings) if not wording.ablation], at_least=2)

    @cached_property
    def ablated(self) -> dict[str, Spread]:
        """As `spreads`, over the ablations alone, which omit a part of the text."""
        return self._spreads([row for row, wording in enumerate(self.wordings) if wording.ablation], at_least=1)

    def _spreads(self, rows: list[int], at_least: int) -> dict[str, Spread]:
        columns = {found.name: column for column, found in enumerate(self.reference.classes)}
        spreads = {}
        for name, areas in self.auroc.items() if len(rows) >= at_least else ():
            areas = areas[rows]
            lowest, highest = (self.wordings[rows[i]].name for i in (areas.argmin(), areas.argmax()))
            low, mean, high, std = map(float, (areas.min(), areas.mean(), areas.max(), areas.std()))
            flips = [self.wordings[row].flips[columns[name]] if name in columns else np.nan for row in rows]
            spreads[name] = Spread(low, mean, high, std, lowest, highest, float(np.fmax.reduce(flips)))
        return spreads
