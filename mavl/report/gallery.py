"""The cases that grounding does best and worst: which they are, and a picture of them."""

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
from mavl.report.overlay import blend
from mavl.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTLINE = "#56d4ff"
INCHES = 2.3
"""Side of a panel of the picture."""

PIXELS = (600, 600)
"""The size to which radiographs are made smaller to be shown."""

RANKED_BY = {"dice": "Dice", "best_dice": "largest Dice"}
"""Metrics that cases are ranked by, with the name that a reader sees: the first that any case has."""


@dataclass(frozen=True)
class Shown:
    """A case to show: picture (mode "L"), mask bool [H, W] in any frame, grid [h, w] of attention mass.

    patch_grid: where its patches look; predicted: where the enlarged map is above its threshold, bool [S, S], None without
    one; metric, value: what it is ranked by.
    """

    picture: Image.Image
    mask: np.ndarray
    grid: np.ndarray
    patch_grid: PatchGrid | None
    predicted: np.ndarray | None
    finding: str
    name: str
    metric: str
    value: float


def ranking_metric(cases: pd.DataFrame) -> str:
    """The one of RANKED_BY: Dice at the threshold or, without thresholds, each image's largest."""
    return next((metric for metric in RANKED_BY if not cases[metric].isna().all()), "best_dice")


def best_and_worst(cases: pd.DataFrame, most: int, show: Callable[[int], Shown]) -> dict[str, list[Shown]]:
    """cases, a row each under its number -> {"best", "worst": at most so many, the most extreme first}.

    No case is in both.
    """
    ranked = cases[ranking_metric(cases)].sort_values(ascending=False, kind="stable").dropna().index
    half = (len(ranked) + 1) // 2
    return {
        "best": [show(case) for case in ranked[:half][:most]],
        "worst": [show(case) for case in ranked[half:][::-1][:most]],
    }


def plot_gallery(rows: dict[str, Sequence[Shown]], path: Path | str) -> None:
    """A PNG with a row of cases under each heading: above the radiograph with the mask's outline, below its heatmap."""
    from matplotlib.figure import Figure

    rows = {heading: cases for heading, cases in rows.items() if cases}
    columns = max(map(len, rows.values()))
    size = (INCHES * columns + 0.4, (2 * INCHES + 0.45) * len(rows) + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    figure.supxlabel("outline: the mask; colour: attention above an even spread", fontsize=8)
    for part, (heading, cases) in zip(np.atleast_1d(figure.subfigures(len(rows), 1)), rows.items(), strict=True):
        part.suptitle(heading, fontsize=10, fontweight="bold")
        panels = part.subplots(2, columns, squeeze=False)
        for panel in panels.flat:
            panel.set_axis_off()
        for (above, below), case in zip(panels.T, cases, strict=False):
            _draw(above, case.picture, case.mask)
            _draw(below, blend(case.picture, torch.from_numpy(case.grid), case.patch_grid), case.mask)
            above.set_title(f"{case.finding}: {case.metric} {percent(case.value)} %\n{case.name}", fontsize=7)
    figure.savefig(path, dpi=120)


def _draw(panel: Axes, picture: Image.Image, mask: np.ndarray) -> None:
    """The picture and, in its pixels, the mask's outline."""
    panel.imshow(picture, cmap="gray", vmin=0, vmax=255)
    outside = np.pad(mask.astype(float), 1)  # so that an outline is closed at the border
    x, y = (
        (np.arange(-1, length + 1) + 0.5) * side / length - 0.5
        for length, side in zip(mask.shape[::-1], picture.size, strict=True)
    )
    panel.contour(x, y, outside, levels=[0.5], colors=OUTLINE, linewidths=0.9)
    panel.set(xlim=(-0.5, picture.width - 0.5), ylim=(picture.height - 0.5, -0.5))
