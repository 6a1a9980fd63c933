"""Parts of a split: a share drawn by patient and label, and splits that share no patient.

A drawing depends on the seed, the labels and the names of the patients (or images) alone: not on the order of the
rows, the machine, the number of processes or the version of a random generator. SPEC §12.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mavl.vocab import PRESENT


@dataclass(frozen=True, eq=False)
class SamplingUnits:
    """What is drawn as a whole: patients where they are known, else images.

    names [u], sorted; of_image [n]: the position in `names` of each image's unit; positive [u, C]: whether one of its
    images has the finding.
    """

    names: list[str]
    of_image: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, names: Sequence[str]) -> "SamplingUnits":
        """labels [n, C] in {1, 0, -1}, names [n]: of each image's patient, or of the image itself."""
        known, of_image = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
        positive = np.zeros((len(known), labels.shape[1]), dtype=bool)
        np.logical_or.at(positive, of_image, labels == PRESENT)
        return cls(known.tolist(), of_image, positive)

    def images(self, drawn: set[int]) -> np.ndarray:
        """Positions of the images of these units, rising."""
        return np.flatnonzero(np.isin(self.of_image, list(drawn)))


def draw_share(units: SamplingUnits, share: float, seed: int, purpose: str, spare: int = 0) -> set[int]:
    """Positions of a share of the units, stratified by label.

    The findings take their turns, the rarest first: each wants its share of the units that have it, rounded, but at
    least one, and adds what those already drawn for rarer ones do not hold. Then the units without any finding give
    their share in the same way. A share of 1 is all of them. A turn leaves `spare` of its units to others. Different
    purposes draw differently.
    """
    if share == 1:
        return set(range(len(units.names)))
    turn = drawing_order(units.names, seed, purpose)
    drawn: set[int] = set()
    rarest_first = np.argsort(units.positive.sum(axis=0), kind="stable")
    strata = [units.positive[:, column] for column in rarest_first] + [~units.positive.any(axis=1)]
    for stratum in strata:
        members = turn[stratum[turn]].tolist()
        wanted = min(max(1, round(share * len(members))), len(members) - spare) - len(drawn.intersection(members))
        drawn.update([unit for unit in members if unit not in drawn][: max(0, wanted)])
    return drawn


def drawing_order(names: Sequence[str], seed: int, purpose: str) -> np.ndarray:
    """Positions of the names in the order in which a seed draws them: by a hash of seed, purpose and name."""
    digests = [hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest() for name in names]
    return np.array(sorted(range(len(names)), key=digests.__getitem__), dtype=int)
