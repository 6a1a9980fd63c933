"""The statistics of an evaluation on one core: intervals by bootstrap, and the released sweep of thresholds.

Times are those of the processor.
"""

import time
from collections.abc import Callable

import numpy as np

from mavl.metrics.classification import evaluate
from mavl.metrics.grounding import released_thresholds, sweep

IMAGES, RESAMPLES = 25_596, 1_000
PREVALENCES = (0.13, 0.04, 0.18, 0.24, 0.07, 0.06, 0.02, 0.1, 0.07, 0.04, 0.04, 0.02, 0.04, 0.003)
"""About those of ChestX-ray14's fourteen findings in its test split."""

SIZE, GRID, MAPS = 224, 14, 20
LOOPED = 200
"""Thresholds that the loop is timed on, spread over the range; its other time is extrapolated."""


def bootstrap() -> None:
    """Some 20 seconds: 1,000 resamples of a benchmark of ChestX-ray14's size, six metrics and their means."""
    rng = np.random.default_rng(0)
    names = [f"class {number}" for number in range(len(PREVALENCES))]
    for title, prevalences in (
        ("ChestX-ray14's prevalences", PREVALENCES),
        ("half of each class positive", [0.5] * len(names)),
    ):
        labels = (rng.random((IMAGES, len(names))) < prevalences).astype(int)
        scores = rng.normal(labels)
        took = seconds(lambda: evaluate(labels, scores, names, resamples=RESAMPLES), time.process_time)  # noqa: B023
        print(f"{RESAMPLES:,} resamples of {IMAGES:,} × {len(names)}, {title}: {took:.1f} s")


def grounding() -> None:
    """Some 5 seconds: the 9,990 thresholds on a 224×224 image by one sort, and by a loop over them."""
    thresholds, maps = released_thresholds(), heatmaps()
    swept = np.median([seconds(lambda each=each: sweep(*each, thresholds), time.process_time) for each in maps])
    some = thresholds[:: len(thresholds) // LOOPED]
    looped = np.median([seconds(lambda each=each: loop(*each, some), time.process_time) for each in maps[:5]])
    looped *= len(thresholds) / len(some)
    print(f"{len(thresholds):,} thresholds: {1000 * swept:.1f} ms an image", end="; ")
    print(f"a loop, extrapolated from {len(some)} of them: {1000 * looped:,.0f} ms")


def heatmaps() -> list[tuple[np.ndarray, np.ndarray]]:
    """(heatmap, mask): attention on a 14×14 grid (its sum is 1), interpolated to 224×224, and a box."""
    rng = np.random.default_rng(0)
    places = np.linspace(0, GRID - 1, SIZE)
    stretch = np.stack([np.interp(places, np.arange(GRID), row) for row in np.eye(GRID)], axis=1)
    grids = rng.dirichlet(np.full(GRID * GRID, 0.5), size=MAPS).reshape(MAPS, GRID, GRID)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[60:120, 30:90] = 1
    return [((stretch @ grid @ stretch.T).astype(np.float32), mask) for grid in grids]


def loop(heatmap: np.ndarray, mask: np.ndarray, thresholds: np.ndarray) -> None:
    """IoU, Dice, recall, precision and accuracy at each threshold, one after the other."""
    mask = mask.astype(bool)
    for threshold in thresholds.astype(np.float32):
        predicted = heatmap > threshold
        hit, either = (predicted & mask).sum(), (predicted | mask).sum()
        total = predicted.sum() + mask.sum()
        _ = hit / either, 2 * hit / total, hit / mask.sum(), hit / max(predicted.sum(), 1), (predicted == mask).mean()


def seconds(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    call()
    return clock() - start
