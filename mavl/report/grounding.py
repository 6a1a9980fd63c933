"""Results of a grounding: table, CSV, JSON, and a page with Dice over thresholds and the best and worst cases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mavl.metrics.grounding import METRICS, Localization
from mavl.metrics.intervals import FEWEST
from mavl.metrics.margins import ALL, COMPARED, MAPS, SPREADS, Margins, Measured, compare_to_baselines
from mavl.metrics.metric import Metric, columns
from mavl.progress import plural
from mavl.report import page
from mavl.report.pictures.gallery import RANKED_BY, Shown, ranking_metric
from mavl.report.tables import (
    NEW,
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

Gallery = Callable[[str], dict[str, list[Shown]]]
"""finding -> {kind: cases to show}"""

TICKS = (1 / 16, 1 / 4, 1, 4, 16)
"""Thresholds at the axis of the curves, in multiples of a uniform map."""

_BOUNDED = ("pointing_game", "average_precision", "best_dice")
_BOUNDED_WITH_THRESHOLD = ("dice",)
"""Metrics whose interval has a column in the terminal; the files and the page have all intervals."""


def shown_metrics(localizations: Localizations) -> list[Metric]:
    """The metrics in the order of a table, without those that need a threshold if there is none."""
    found = localizations[ALL][MAPS[0]]
    return [metric for metric in columns(METRICS, found.means) if found.threshold_source or not metric.needs_threshold]


def without_repetition(localizations: Localizations) -> Localizations:
    """Without the last entry, that of all cases, if there is only one finding."""
    return localizations if len(localizations) > 2 else dict([*localizations.items()][:1])


def table(localizations: Localizations, title: str, caption: str = "", new: Collection[str] = ()) -> Table:
    """A row for each finding and map; caption and notes are below. new: findings never trained on, which are marked."""
    metrics = shown_metrics(localizations)
    bounded = _BOUNDED_WITH_THRESHOLD if metrics[-1].needs_threshold else _BOUNDED
    headings = ["finding", "n", *metric_headings(metrics, bounded)]
    table = new_table(title, headings, [caption, *notes(localizations, new)])
    for finding, maps in without_repetition(localizations).items():
        if finding == ALL:
            table.add_section()
        for row, (name, found) in enumerate(maps.items()):
            cells = ["" if row else str(found.cases), *metric_cells(metrics, found.means, bounded)]
            add_row(table, f"  {name}" if row else marked(finding, new), *cells, style="dim" if row else "")
    return table


def marked(finding: str, new: Collection[str]) -> str:
    """The name of a finding, with a mark for one never trained on."""
    return f"{finding} {NEW}" if finding in new else finding


def notes(localizations: Localizations, new: Collection[str] = ()) -> Iterator[str]:
    """How the numbers were computed, one sentence each."""
    metrics, found = shown_metrics(localizations), localizations[ALL][MAPS[0]]
    yield f"Below the model's maps, in the same run: {' and '.join(MAPS[1:])}. n: cases."
    yield legend([metric for metric in metrics if not metric.needs_threshold])
    if any(finding in new for finding in localizations):
        yield f"{NEW} never trained on."
    if found.threshold_source:
        needing = ", ".join(metric.heading for metric in metrics if metric.needs_threshold)
        yield f"{needing}: map > a threshold chosen on {SOURCES[found.threshold_source]}."
    if found.resamples:
        units = f"{plural(found.groups or found.cases, 'patient')} (images if the benchmark has no patient ids)"
        yield f"95 %: bias-corrected bootstrap, {found.resamples} resamples of {units}, from {FEWEST} on."


def write_csv(localizations: Localizations, path: Path | str) -> None:
    """A row for each finding and map; an interval takes three columns, undefined values are empty cells."""
    write_rows(
        [
            {"finding": finding, "map": name, "cases": found.cases, "threshold": found.threshold, **found.means}
            for finding, maps in localizations.items()
            for name, found in maps.items()
        ],
        path,
    )


def write_json(localizations: Localizations, margins: dict[str, Margins], path: Path | str, about: dict) -> None:
    """The means after `about`, then the margins of the model's maps; NaN becomes null."""
    findings = {
        finding: {
            name: {key: value for key, value in vars(found).items() if key != "resamples"}
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
    gallery: Gallery,
) -> Path:
    """Write the page into a result folder, which holds the config."""
    shown = without_repetition(localizations)
    sections = sorted(shown, key=lambda finding: finding != ALL)[: page.FINDINGS_SHOWN + 1]
    metrics = shown_metrics(localizations)
    patches, new = int(np.prod(about["grid"])), about.get("new_findings", ())
    return page.write_report(
        folder,
        "grounding.html",
        about=about,
        all=localizations[ALL],
        localizations=shown,
        metrics=metrics,
        main_metric=METRICS[RANKED_BY[0] if metrics[-1].needs_threshold else RANKED_BY[1]],
        margins=margins[ALL],
        comparisons={finding: compare_to_baselines(margins[finding]) for finding in localizations},
        compared=[METRICS[name] for name in COMPARED],
        baselines=MAPS[1:],
        with_threshold=metrics[-1].needs_threshold,
        patches=patches,
        notes=list(notes(localizations, new)),
        marked=partial(marked, new=new),
        findings=[_section(finding, localizations[finding], measured, patches, gallery) for finding in sections],
        not_shown=[finding for finding in shown if finding not in sections],
    )


def _section(finding: str, maps: dict[str, Localization], measured: Measured, patches: int, gallery: Gallery) -> dict:
    """The section of a finding for the template."""
    metric = ranking_metric(measured.of(finding, MAPS[0]))
    values = {name: measured.of(finding, name)[metric.name].to_numpy(float) for name in MAPS}
    cases = {} if finding == ALL else gallery(finding)
    return {
        "name": finding,
        "maps": maps,
        "ranked_by": metric,
        "histogram": page.histogram(values, 0, 1),
        "curve": _curve(measured.dice[finding], maps[MAPS[0]].threshold, patches),
        "gallery": {kind: [_film(case) for case in shown] for kind, shown in cases.items() if shown},
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
        "ticks": {f"{tick:g}×" if tick >= 1 else f"1/{1 / tick:g}×": place(tick) for tick in TICKS},
        "threshold": at if at is not None and 0 <= at <= 1 else None,
    }


def _film(case: Shown) -> dict:
    masks = {"mask": case.mask} | ({} if case.predicted is None else {"predicted": case.predicted})
    return page.film(
        case.picture, torch.from_numpy(case.grid), masks, case.patch_grid, name=case.name, value=case.value
    )
