"""The cases with the best and the worst heatmaps: their choice, and a figure of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from PIL import Image

from mavl.backbones import PatchGrid
from mavl.metrics.grounding import METRICS
from mavl.metrics.metric import Metric
from mavl.report.pictures.figures import save_figure
from mavl.report.pictures.overlay import STRONGEST, blend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = 2.3
"""Side of a panel of the figure."""

PIXELS = 600
"""The longest side to which radiographs are reduced for the figure."""

RANKED_BY = ("dice", "best_dice")
"""The metrics for the ranking of cases: the first that any case has."""


@dataclass(frozen=True)
class Shown:
    """A case to show: picture (mode "L"), mask bool [H, W] of any size, grid [h, w] of attention mass.

    patch_grid: position of the patches in the picture; predicted: bool [S, S], where the enlarged map is above its
    threshold, None without one; value: that of `metric`, by which the cases are ranked.
    """

    picture: Image.Image
    mask: np.ndarray
    grid: np.ndarray
    patch_grid: PatchGrid | None
    predicted: np.ndarray | None
    finding: str
    name: str
    metric: Metric
    value: float


def ranking_metric(cases: pd.DataFrame) -> Metric:
    """The one of RANKED_BY: Dice at the threshold or, without thresholds, the largest Dice of each image."""
    return METRICS[RANKED_BY[0] if len(cases.dropna(subset=RANKED_BY[:1])) else RANKED_BY[1]]


def best_and_worst(cases: pd.DataFrame, most: int, show: Callable[[int], Shown]) -> dict[str, list[Shown]]:
    """{"best", "worst": at most `most` cases, the most extreme first}; no case is in both.

    cases: a row for each, with its number as the index, which is the argument of `show`.
    """
    metric = ranking_metric(cases).name
    ranked = cases.dropna(subset=[metric]).sort_values(metric, ascending=False, kind="stable").index
    half = (len(ranked) + 1) // 2
    chosen = {"best": ranked[:half], "worst": ranked[half:][::-1]}
    return {kind: [show(case) for case in numbers[:most]] for kind, numbers in chosen.items()}


def plot_gallery(rows: dict[str, Sequence[Shown]], path: Path) -> None:
    """A figure with a row of cases for each heading: radiographs with the outline of the mask, heatmaps below them."""
    from matplotlib.figure import Figure

    rows = {heading: cases for heading, cases in rows.items() if cases}
    columns = max(map(len, rows.values()))
    size = (INCHES * columns + 0.4, (2 * INCHES + 0.45) * len(rows) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    scale = f"attention from 1 (clear) to {STRONGEST} times a uniform map, the same scale everywhere"
    figure.supxlabel(f"outline: the mask; colour: {scale}", fontsize=8)
    for part, (heading, cases) in zip(figure.subfigures(len(rows), squeeze=False).flat, rows.items(), strict=True):
        part.suptitle(heading, fontsize=10, fontweight="bold")
        panels = part.subplots(2, columns, squeeze=False)
        for panel in panels.flat:
            panel.set_axis_off()
        for (above, below), case in zip(panels.T, cases, strict=False):
            _draw(above, case.picture, case.mask)
            _draw(below, blend(case.picture, torch.from_numpy(case.grid), case.patch_grid), case.mask)
            value = f"{case.metric.heading} {case.metric.format(case.value)} %"
            above.set_title(f"{case.finding}: {value}\n{case.name}", fontsize=7)
    save_figure(figure, path, dpi=120, tight=False)


def _draw(panel: Axes, picture: Image.Image, mask: np.ndarray) -> None:
    """The picture with the outline of the mask."""
    panel.imshow(picture, cmap="gray", vmin=0, vmax=255)
    outside = np.pad(mask.astype(float), 1)  # closes outlines at the border
    x, y = (
        (np.arange(-1, length + 1) + 0.5) * side / length - 0.5
        for length, side in zip(mask.shape[::-1], picture.size, strict=True)
    )
    panel.contour(x, y, outside, levels=[0.5], colors="#56d4ff", linewidths=0.9)
    panel.set(xlim=(-0.5, picture.width - 0.5), ylim=(picture.height - 0.5, -0.5))
