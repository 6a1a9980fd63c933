"""Grounding metrics of single images and of lists of them, as mavl.evaluate.cases computes them map by map."""

from collections.abc import Iterable

import numpy as np

from mavl.metrics.grounding import METRICS, Localization, measure_and_sweep, summarize, sweep

Image = tuple[str, np.ndarray, np.ndarray]
"""(name, heatmap [H, W], mask [H, W])"""


def measure(heatmap, mask, threshold: float | None = None, name: str = "") -> dict[str, float]:
    """METRICS of one image."""
    return measure_and_sweep(heatmap, mask, threshold, (), name)[0]


def mean_sweep(images: Iterable[Image], thresholds) -> dict[str, np.ndarray]:
    """The mean over the images of each metric that needs a threshold [K]."""
    swept = [sweep(heatmap, mask, thresholds, name) for name, heatmap, mask in images]
    return {metric: np.mean([values[metric] for values in swept], axis=0) for metric in swept[0]}


def best_threshold(images: Iterable[Image], thresholds) -> float:
    """The threshold with the largest mean Dice over the images; of several that reach it, the first."""
    return float(thresholds[mean_sweep(images, thresholds)["dice"].argmax()])


def localize(images: Iterable[Image], threshold: float | None = None, **options) -> Localization:
    """The means over the images."""
    measured = [measure(heatmap, mask, threshold, name) for name, heatmap, mask in images]
    return summarize({name: np.array([values[name] for values in measured]) for name in METRICS}, threshold, **options)
