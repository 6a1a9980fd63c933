"""The released sweep of 9,990 thresholds on a 224x224 image: one sort, against a loop over the thresholds.

python -m benchmarks.grounding_sweep        some 5 seconds on one core; NumPy only
"""

import time
from collections.abc import Callable

import numpy as np

from mavl.metrics.grounding import released_thresholds, sweep

SIZE, GRID, IMAGES = 224, 14, 20
LOOPED = 200
"""Thresholds that the loop is timed on, spread over the range; the rest of its time is extrapolated."""


def images(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Attention of a 14x14 grid (sums to 1), drawn out to 224x224 with corners aligned, and a box as the mask."""
    rng = np.random.default_rng(seed)
    places = np.linspace(0, GRID - 1, SIZE)
    stretch = np.stack([np.interp(places, np.arange(GRID), row) for row in np.eye(GRID)], axis=1)
    grids = rng.dirichlet(np.full(GRID * GRID, 0.5), size=IMAGES).reshape(IMAGES, GRID, GRID)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[60:120, 30:90] = 1
    return [((stretch @ grid @ stretch.T).astype(np.float32), mask) for grid in grids]


def loop(heatmap: np.ndarray, mask: np.ndarray, thresholds: np.ndarray) -> None:
    mask = mask.astype(bool)
    for threshold in thresholds.astype(np.float32):
        predicted = heatmap > threshold
        hit, either = (predicted & mask).sum(), (predicted | mask).sum()
        total = predicted.sum() + mask.sum()
        _ = hit / either, 2 * hit / total, hit / mask.sum(), hit / max(predicted.sum(), 1), (predicted == mask).mean()


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    thresholds = released_thresholds()
    drawn = images()
    swept = np.median([milliseconds(lambda image=image: sweep(*image, thresholds)) for image in drawn])
    some = thresholds[:: len(thresholds) // LOOPED]
    looped = np.median([milliseconds(lambda image=image: loop(*image, some)) for image in drawn[:5]])
    looped *= len(thresholds) / len(some)
    print(f"  one sort, {len(thresholds)} thresholds: {swept:.1f} ms an image")
    print(
        f"  loop, extrapolated from {len(some)} of them: {looped:.0f} ms an image, {looped / swept:.0f} times as long"
    )


if __name__ == "__main__":
    main()
