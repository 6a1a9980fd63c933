"""A random share of a split, by patient and label.

It depends on the seed, the labels and the names of the patients (or images) alone: not on the order of the rows, the
machine, the number of processes or the version of a random generator. SPEC §12.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from mavl.vocab import PRESENT


def draw_share(
    labels: np.ndarray, names: Sequence[str], share: float, seed: int, purpose: str, spare: int = 0
) -> list[int]:
    """Positions of the images of a share of the patients, rising, stratified by label.

    The findings take turns, the rarest first: each wants its share of the patients who have it, rounded, but at least
    one, and adds what those chosen for rarer ones do not hold. Then the patients without any finding give their share
    in the same way. A share of 1 is all of them.

    Args:
        labels: [n, C] in {1, 0, -1}; a patient has a finding that one of the patient's images has.
        names: [n], of each image's patient, or of the image itself, where patients are not known.
        purpose: different purposes choose differently.
        spare: number of patients that a turn leaves to others.
    """
    if share == 1:
        return list(range(len(names)))
    positive = pd.DataFrame(labels == PRESENT).groupby(np.array(names)).any()
    positive = positive.loc[drawing_order(positive.index, seed, purpose)]
    rarest_first = np.argsort(positive.sum().to_numpy(), kind="stable")
    chosen = np.zeros(len(positive), dtype=bool)
    for has in [*positive.to_numpy().T[rarest_first], ~positive.to_numpy().any(axis=1)]:
        number = int(has.sum())
        wanted = min(max(1, round(share * number)), number - spare) - int((has & chosen).sum())
        chosen[np.flatnonzero(has & ~chosen)[: max(0, wanted)]] = True
    return np.flatnonzero(np.isin(np.array(names), positive.index[chosen])).tolist()


def drawing_order(names: Iterable[str], seed: int, purpose: str) -> list[str]:
    """The names in the order in which a seed chooses them: by a hash of seed, purpose and name."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest())
