"""What people look at after grounding: a table for the terminal, CSV and JSON, and a gallery of the best and worst."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from mavl.localization import THRESHOLD_METRICS, Localization
from mavl.report import dump_json, percent, percent_bounds, write_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

Localizations = dict[str, dict[str, Localization]]
"""{finding: {map: Localization}}, the model's map first."""

WITHOUT_THRESHOLD = ("point", "95 %", "AP", "95 %", "CNR", "max.", "95 %")
WITH_THRESHOLD = ("point", "AP", "CNR", "max.", "Dice", "95 %", "IoU", "P/R", "acc.")
"""Headings of the table; an interval is that of what stands before it."""

OUTLINE = "#56d4ff"
INCHES = 2.3
"""Side of a panel of the gallery."""


@dataclass(frozen=True)
class Shown:
    """A case of the gallery: picture (mode "L"), mask bool [H, W] in any frame, grid [h, w] of attention mass."""

    picture: Image.Image
    mask: np.ndarray
    grid: np.ndarray
    caption: str


def table(localizations: Localizations, title: str, caption: str = "") -> Table:
    """A row for each finding and map, in percent (CNR is a ratio), for 80 columns; below, how to read it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    several = len(localizations) > 2  # more than one finding and, last, all of them
    shown = localizations if several else dict([*localizations.items()][:1])
    with_threshold = any(_has_threshold(found) for maps in shown.values() for found in maps.values())
    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    notes = [*([caption] if caption else []), *_notes(shown, with_threshold)]
    table.caption, table.caption_justify = Text("\n".join(["", *notes]), "dim not italic"), "left"
    table.add_column("finding", min_width=8, overflow="fold")
    table.add_column("n", justify="right")
    for heading in WITH_THRESHOLD if with_threshold else WITHOUT_THRESHOLD:
        table.add_column(heading, justify="right", no_wrap=True)
    for number, (finding, maps) in enumerate(shown.items(), start=1):
        for row, (name, found) in enumerate(maps.items()):
            label, style = (Text(finding), "") if row == 0 else (Text(f"  {name}"), "dim")
            table.add_row(label, "" if row else str(len(found.names)), *_cells(found, with_threshold), style=style)
        if several and number == len(shown) - 1:
            table.add_section()
    return table


def write_csv(localizations: Localizations, path: Path | str) -> None:
    """A row for each finding and map; an interval takes three columns, and what is undefined is an empty cell."""
    write_rows(
        [
            {"finding": finding, "map": name, "cases": len(found.names), "threshold": found.threshold, **found.means}
            for finding, maps in localizations.items()
            for name, found in maps.items()
        ],
        path,
    )


def write_json(localizations: Localizations, path: Path | str, about: dict) -> None:
    """The means after `about`; `undefined` counts the cases without a value, by metric; NaN becomes null."""
    told = {
        finding: {
            name: {
                "cases": len(found.names),
                "groups": found.groups,
                "threshold": found.threshold,
                "threshold_source": found.threshold_source,
                "nan_policy": found.nan_policy,
                "undefined": {metric: len(names) for metric, names in found.undefined.items()},
                "means": {metric: vars(interval) for metric, interval in found.means.items()},
            }
            for name, found in maps.items()
        }
        for finding, maps in localizations.items()
    }
    dump_json({"about": about, "findings": told}, path)


def plot_gallery(rows: dict[str, Sequence[Shown]], path: Path | str) -> None:
    """A PNG with a row of cases under each heading: above the radiograph with the mask's outline, below its heatmap."""
    from matplotlib.figure import Figure

    from mavl.overlay import blend

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
            _draw(below, blend(case.picture, torch.from_numpy(case.grid)), case.mask)
            above.set_title(case.caption, fontsize=7)
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


def _has_threshold(found: Localization) -> bool:
    return not all(np.isnan(found.values[metric]).all() for metric in THRESHOLD_METRICS)


def _cells(found: Localization, with_threshold: bool) -> Iterator[str]:
    """What stands under the headings."""

    def mean(metric: str) -> str:
        return percent(found.means[metric].value)

    def whole(metric: str) -> str:
        return "–" if np.isnan(value := found.means[metric].value) else f"{100 * value:.0f}"

    def bounds(metric: str) -> str:
        return percent_bounds(found.means[metric])

    value = found.means["contrast_to_noise"].value
    contrast = "–" if np.isnan(value) else f"{value:.2f}"
    if with_threshold:
        yield from (mean("pointing_game"), mean("average_precision"), contrast, mean("best_dice"))
        yield from (mean("dice"), bounds("dice"), mean("iou"))
        yield from (f"{whole('precision')}/{whole('recall')}", mean("accuracy"))
    else:
        yield from (mean("pointing_game"), bounds("pointing_game"))
        yield from (mean("average_precision"), bounds("average_precision"), contrast)
        yield from (mean("best_dice"), bounds("best_dice"))


def _notes(shown: Localizations, with_threshold: bool) -> Iterator[str]:
    """How the numbers came about, a sentence a line."""
    *_, last = shown.values()
    model, *baselines = last
    found = last[model]
    yield f"Below the model's maps, in the same run: {' and '.join(baselines)}."
    yield "n: cases. point: the map's maximum lies in the mask. AP: of its pixels."
    yield "CNR: contrast to noise inside against outside, without a sign."
    yield "max.: the largest Dice of each image over all thresholds, an upper bound."
    if with_threshold:
        data = {"test": "the test images themselves", "validation": "validation data"}[found.threshold_source]
        yield f"Dice, IoU, precision and recall (P/R), accuracy: map > a threshold chosen on {data}."
    if found.resamples:
        units = f"{found.groups} patients (images where the benchmark does not tell them)"
        yield f"95 %, of the value before it: bootstrap, {found.resamples} resamples of {units}."
