"""95 % intervals of a benchmark of ChestX-ray14's size: ranked once and reweighted, against scikit-learn in a loop.

python -m benchmarks.bootstrap        some 10 seconds on one core; NumPy and scikit-learn
"""

import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from mavl.metrics.classification import evaluate

IMAGES, RESAMPLES = 25_596, 1_000
PREVALENCES = (0.13, 0.04, 0.18, 0.24, 0.07, 0.06, 0.02, 0.1, 0.07, 0.04, 0.04, 0.02, 0.04, 0.003)
"""About those of ChestX-ray14's fourteen findings in its test split."""

LOOPED = 2
"""Resamples that the loop is timed on; the rest of its time is extrapolated."""


def table(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """labels, scores [IMAGES, 14]: two normal distributions, a standard deviation apart."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((IMAGES, len(PREVALENCES))) < PREVALENCES).astype(int)
    return labels, rng.normal(labels)


def loop(labels: np.ndarray, scores: np.ndarray, resamples: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = rng.integers(len(labels), size=len(labels))
        for label, score in zip(labels[drawn].T, scores[drawn].T, strict=True):
            roc_auc_score(label, score)
            average_precision_score(label, score)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    labels, scores = table()
    names = [f"class {number}" for number in range(labels.shape[1])]
    fast = seconds(lambda: evaluate(labels, scores, names, resamples=RESAMPLES))
    looped = seconds(lambda: loop(labels, scores, LOOPED)) * RESAMPLES / LOOPED
    print(f"  {RESAMPLES:,} resamples of {IMAGES:,} × {len(names)}, six metrics and their means: {fast:.1f} s")
    print(
        f"  scikit-learn in a loop, two metrics, extrapolated from {LOOPED}: {looped:.0f} s, {looped / fast:.0f} times"
    )


if __name__ == "__main__":
    main()
