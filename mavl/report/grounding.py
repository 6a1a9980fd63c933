"""Results of a grounding: table, CSV, JSON, and a page with Dice over thresholds and the best and worst cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mavl.metrics.grounding import METRICS, Localization
from mavl.metrics.margins import ALL, COMPARED, MAPS, SPREADS, Margins, Measured, compare_to_baselines
from mavl.metrics.metric import Metric, columns
from mavl.report import page
from mavl.report.gallery import RANKED_BY, Shown, ranking_metric
from mavl.report.tables import (
    SOURCES,
    add_row,
    dump_json,
    legend,
    metric_cells,
    metric_headings,
    new_table,
    write_rows,
)

if TYPE_CHECKING:
    from rich.table import Table

Localizations = dict[str, dict[str, Localization]]
"""{finding: {map: Localization}}, the model's map first."""

TICKS = (1 / 16, 1 / 4, 1, 4, 16)
"""Thresholds at the axis of the curves, in multiples of a uniform map."""

_BOUNDED = ("pointing_game", "average_precision", "best_dice")
_BOUNDED_WITH_THRESHOLD = ("dice",)
"""Metrics whose interval has a column in the terminal; the files and the page have all intervals."""


def shown_metrics(localizations: Localizations) -> list[Metric]:
    """The metrics in the order of a table, without those that need a threshold if there is none."""
    found = [found for maps in localizations.values() for found in maps.values()]
    metrics = columns(METRICS, found[0].means)
    needing = [metric.name for metric in metrics if metric.needs_threshold]
    if all(np.isnan(each.values[name]).all() for each in found for name in needing):
        return [metric for metric in metrics if not metric.needs_threshold]
    return metrics


def without_repetition(localizations: Localizations) -> Localizations:
    """Without the last entry, that of all cases, if there is only one finding."""
    return localizations if len(localizations) > 2 else dict([*localizations.items()][:1])


def table(localizations: Localizations, title: str, caption: str = "") -> Table:
    """A row for each finding and map; caption and notes are below."""
    shown = without_repetition(localizations)
    metrics = shown_metrics(shown)
    bounded = _BOUNDED_WITH_THRESHOLD if any(metric.needs_threshold for metric in metrics) else _BOUNDED
    headings = ["finding", "n", *metric_headings(metrics, bounded)]
    table = new_table(title, headings, [*([caption] if caption else []), *notes(shown)])
    for number, (finding, maps) in enumerate(shown.items(), start=1):
        for row, (name, found) in enumerate(maps.items()):
            cells = [str(len(found.names)) if row == 0 else "", *metric_cells(metrics, found.means, bounded)]
            add_row(table, f"  {name}" if row else finding, cells, "dim" if row else "")
        if number == len(shown) - 1:
            table.add_section()
    return table


def notes(shown: Localizations) -> Iterator[str]:
    """How the numbers were computed, one sentence each."""
    metrics = shown_metrics(shown)
    *_, last = shown.values()
    model, *baselines = last
    found = last[model]
    yield f"Below the model's maps, in the same run: {' and '.join(baselines)}. n: cases."
    yield legend([metric for metric in metrics if not metric.needs_threshold])
    if needing := ", ".join(metric.heading for metric in metrics if metric.needs_threshold):
        yield f"{needing}: map > a threshold chosen on {SOURCES[found.threshold_source]}."
    if found.resamples:
        units = f"{found.groups} patients (images if the benchmark has no patient ids)"
        yield f"95 %: bootstrap, {found.resamples} resamples of {units}."


def write_csv(localizations: Localizations, path: Path | str) -> None:
    """A row for each finding and map; an interval takes three columns, undefined values are empty cells."""
    write_rows(
        [
            {"finding": finding, "map": name, "cases": len(found.names), "threshold": found.threshold, **found.means}
            for finding, maps in localizations.items()
            for name, found in maps.items()
        ],
        path,
    )


def write_json(localizations: Localizations, margins: dict[str, Margins], path: Path | str, about: dict) -> None:
    """The means after `about`, then the margins of the model's maps; NaN becomes null.

    `undefined` is the number of cases without a value, by metric.
    """
    findings = {
        finding: {
            name: {
                "cases": len(found.names),
                "groups": found.groups,
                "threshold": found.threshold,
                "threshold_source": found.threshold_source,
                "nan_policy": found.nan_policy,
                "undefined": {metric: len(names) for metric, names in found.undefined.items()},
                "means": found.means,
            }
            for name, found in maps.items()
        }
        for finding, maps in localizations.items()
    }
    dump_json({"about": about, "findings": findings, "model_minus": margins}, path)


def write_page(
    folder: Path,
    localizations: Localizations,
    margins: dict[str, Margins],
    about: dict,
    measured: Measured,
    gallery: Callable[[str], dict[str, list[Shown]]],
) -> Path:
    """Write the page into a result folder, which holds the config; gallery(finding) -> {kind: cases to show}."""
    shown = without_repetition(localizations)
    sections = [*([ALL] if ALL in shown else []), *(finding for finding in shown if finding != ALL)]
    sections = sections[: page.FINDINGS_SHOWN + 1]
    metrics = shown_metrics(shown)
    with_threshold = any(metric.needs_threshold for metric in metrics)
    return page.write_report(
        folder,
        "grounding.html",
        about=about,
        all=localizations[ALL],
        localizations=shown,
        metrics=metrics,
        main_metric=METRICS[RANKED_BY[0] if with_threshold else RANKED_BY[-1]],
        margins=margins[ALL],
        comparisons={finding: compare_to_baselines(margins[finding]) for finding in localizations},
        compared=[METRICS[name] for name in COMPARED],
        baselines=MAPS[1:],
        with_threshold=with_threshold,
        patches=int(np.prod(about["grid"])),
        notes=list(notes(shown)),
        findings=[_section(finding, localizations, about, measured, gallery) for finding in sections],
        not_shown=[finding for finding in shown if finding not in sections],
    )


def _section(
    finding: str,
    localizations: Localizations,
    about: dict,
    measured: Measured,
    gallery: Callable[[str], dict[str, list[Shown]]],
) -> dict:
    """The section of a finding for the template."""
    metric = ranking_metric(measured.of(finding, MAPS[0]))
    values = {name: measured.of(finding, name)[metric.name].to_numpy(float) for name in MAPS}
    threshold = localizations[finding][MAPS[0]].threshold
    return {
        "name": finding,
        "maps": localizations[finding],
        "ranked_by": metric,
        "histogram": page.histogram(values, 0, 1),
        "curve": _curve(measured.dice[finding], threshold, int(np.prod(about["grid"]))),
        "gallery": {} if finding == ALL else _films(gallery(finding)),
    }


def _curve(dice: dict[str, np.ndarray], threshold: float | None, patches: int) -> dict:
    """Mean Dice [K] at SPREADS of each map -> the curves for the template, from 0 to 1 in both directions."""
    top = max(np.ceil(10 * max(values.max() for values in dice.values())) / 10, 0.1)

    def place(spread: float) -> float:
        return float(np.log(spread / SPREADS[0]) / np.log(SPREADS[-1] / SPREADS[0]))

    at = None if threshold is None else place(max(threshold * patches, 1e-9))
    return {
        "lines": {name: (values / top).tolist() for name, values in dice.items()},
        "top": top,
        "ticks": {_multiple(tick): place(tick) for tick in TICKS},
        "threshold": at if at is not None and 0 <= at <= 1 else None,
    }


def _multiple(spread: float) -> str:
    return f"{spread:g}×" if spread >= 1 else f"1/{1 / spread:g}×"


def _films(gallery: dict[str, list[Shown]]) -> dict[str, list[dict]]:
    return {kind: [_film(case) for case in cases] for kind, cases in gallery.items() if cases}


def _film(case: Shown) -> dict:
    masks = {"mask": case.mask} | ({} if case.predicted is None else {"predicted": case.predicted})
    film = page.film(case.picture, torch.from_numpy(case.grid), masks, case.patch_grid)
    return film | {"name": case.name, "value": case.value}
