"""What people look at after grounding: a table for the terminal, CSV and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.metrics.grounding import THRESHOLD_METRICS, Localization
from mavl.metrics.margins import Margins
from mavl.report.tables import dump_json, percent, percent_bounds, write_rows

if TYPE_CHECKING:
    from rich.table import Table

Localizations = dict[str, dict[str, Localization]]
"""{finding: {map: Localization}}, the model's map first."""

WITHOUT_THRESHOLD = ("point", "95 %", "AP", "95 %", "CNR", "max.", "95 %")
WITH_THRESHOLD = ("point", "AP", "CNR", "max.", "Dice", "95 %", "IoU", "P/R", "acc.")
"""Headings of the table; an interval is that of what stands before it."""


def table(localizations: Localizations, title: str, caption: str = "") -> Table:
    """A row for each finding and map, in percent (CNR is a ratio), for 80 columns; below, how to read it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    shown = told_apart(localizations)
    several, with_threshold = len(shown) > 1, has_thresholds(shown)
    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    below = [*([caption] if caption else []), *notes(shown)]
    table.caption, table.caption_justify = Text("\n".join(["", *below]), "dim not italic"), "left"
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


def told_apart(localizations: Localizations) -> Localizations:
    """Without the last, of all cases, where it would repeat a single finding."""
    return localizations if len(localizations) > 2 else dict([*localizations.items()][:1])


def has_thresholds(localizations: Localizations) -> bool:
    """Whether any map of any finding has values at a threshold."""
    return any(
        not np.isnan(found.values[metric]).all()
        for maps in localizations.values()
        for found in maps.values()
        for metric in THRESHOLD_METRICS
    )


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


def write_json(localizations: Localizations, margins: dict[str, Margins], path: Path | str, about: dict) -> None:
    """The means after `about`, then how far the model's maps are above the others; NaN becomes null.

    `undefined` counts the cases without a value, by metric.
    """
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
    above = {
        finding: {
            baseline: {metric: vars(interval) for metric, interval in differences.items()}
            for baseline, differences in of_finding.items()
        }
        for finding, of_finding in margins.items()
    }
    dump_json({"about": about, "findings": told, "model_minus": above}, path)


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


def notes(shown: Localizations) -> Iterator[str]:
    """How the numbers came about, a sentence a line."""
    *_, last = shown.values()
    model, *baselines = last
    found = last[model]
    yield f"Below the model's maps, in the same run: {' and '.join(baselines)}."
    yield "n: cases. point: the map's maximum lies in the mask. AP: of its pixels."
    yield "CNR: contrast to noise inside against outside, without a sign."
    yield "max.: the largest Dice of each image over all thresholds, an upper bound."
    if has_thresholds(shown):
        data = {"test": "the test images themselves", "validation": "validation data"}[found.threshold_source]
        yield f"Dice, IoU, precision and recall (P/R), accuracy: map > a threshold chosen on {data}."
    if found.resamples:
        units = f"{found.groups} patients (images where the benchmark does not tell them)"
        yield f"95 %, of the value before it: bootstrap, {found.resamples} resamples of {units}."
