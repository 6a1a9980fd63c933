"""Agreement of two label matrices, finding by finding."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Agreement(NamedTuple):
    """A finding: the numbers of studies in which both, one, or neither of the two state that it is present."""

    finding: str
    both: int
    labels_only: int
    reference_only: int
    neither: int

    @property
    def counts(self) -> tuple[int, ...]:
        return self.both, self.labels_only, self.reference_only, self.neither

    @property
    def precision(self) -> float:
        return _share(self.both, self.both + self.labels_only)

    @property
    def recall(self) -> float:
        return _share(self.both, self.both + self.reference_only)

    @property
    def f1(self) -> float:
        return _share(2 * self.both, 2 * self.both + self.labels_only + self.reference_only)

    @property
    def kappa(self) -> float:
        """Cohen's kappa of present against not present."""
        total = sum(self.counts)
        ours, theirs = self.both + self.labels_only, self.both + self.reference_only
        chance = ours * theirs + (total - ours) * (total - theirs)
        return _share(total * (self.both + self.neither) - chance, total * total - chance)

    def cells(self) -> list[str | int | float]:
        """The row of a table: name, counts, precision, recall, F1, kappa; "" for what is not defined."""
        rates = (self.precision, self.recall, self.f1, self.kappa)
        return [*self, *rounded(rates)]


def rounded(rates: Iterable[float]) -> list[float | str]:
    """Cells of a table; "" for what is not defined."""
    return ["" if np.isnan(rate) else round(rate, 4) for rate in rates]


HEADINGS = (*Agreement._fields, "precision", "recall", "f1", "kappa")


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def agreement_of(labels: np.ndarray, reference: np.ndarray, findings: Sequence[str]) -> list[Agreement]:
    """The agreement on each finding. labels, reference: bool [studies, F], whether it is present."""
    counts = [(ours & theirs).sum(axis=0) for ours in (labels, ~labels) for theirs in (reference, ~reference)]
    both, labels_only, reference_only, neither = (count.tolist() for count in counts)
    return list(map(Agreement, findings, both, labels_only, reference_only, neither))


def micro(found: Sequence[Agreement]) -> Agreement:
    """The agreement over all findings and studies together."""
    return Agreement("micro", *np.array([each.counts for each in found]).sum(axis=0).tolist())


def macro(found: Sequence[Agreement]) -> dict[str, float]:
    """The means of precision, recall, F1 and kappa over the findings that the reference has, where they are defined."""
    known = [each for each in found if each.both + each.reference_only]
    values = {name: [value for each in known if not np.isnan(value := getattr(each, name))] for name in HEADINGS[-4:]}
    return {name: _share(sum(of), len(of)) for name, of in values.items()}
