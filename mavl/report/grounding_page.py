"""The page of zero-shot grounding: the model's maps beside others, Dice over thresholds, best and worst cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from mavl.evaluate.cases import ALL, MAPS, SPREADS, Measured
from mavl.metrics.margins import COMPARED, Margins, compare_to_baselines
from mavl.report import page
from mavl.report.gallery import RANKED_BY, Shown, ranking_metric
from mavl.report.grounding import Localizations, has_thresholds, notes, told_apart

TICKS = (1 / 16, 1 / 4, 1, 4, 16)
"""Thresholds written under the curves, in multiples of an even spread."""


def write_grounding_page(
    folder: Path,
    localizations: Localizations,
    margins: dict[str, Margins],
    about: dict,
    measured: Measured,
    gallery: Callable[[str], dict[str, list[Shown]]],
) -> Path:
    """The page into a result folder, with the config that lies there; gallery(finding) -> {kind: cases to show}."""
    shown = told_apart(localizations)
    sections = [*([ALL] if ALL in shown else []), *(finding for finding in shown if finding != ALL)]
    sections = sections[: page.FINDINGS_SHOWN + 1]
    patches = int(np.prod(about["grid"]))
    return page.write_report(
        folder,
        "grounding.html",
        about=about,
        all=localizations[ALL],
        localizations=shown,
        margins=margins[ALL],
        verdicts={finding: compare_to_baselines(margins[finding]) for finding in localizations},
        compared=COMPARED,
        baselines=MAPS[1:],
        with_threshold=has_thresholds(shown),
        patches=patches,
        notes=list(notes(shown)),
        findings=[
            {
                "name": finding,
                "maps": localizations[finding],
                "histogram": _histogram(measured, finding),
                "ranked_by": RANKED_BY[ranking_metric(measured.of(finding, MAPS[0]))],
                "curve": _curve(measured.dice[finding], localizations[finding][MAPS[0]].threshold, patches),
                "gallery": {} if finding == ALL else _films(gallery(finding)),
            }
            for finding in sections
        ],
        not_shown=[finding for finding in shown if finding not in sections],
    )


def _histogram(measured: Measured, finding: str) -> dict:
    metric = ranking_metric(measured.of(finding, MAPS[0]))
    values = {name: measured.of(finding, name)[metric].to_numpy(float) for name in MAPS}
    return page.histogram(values, 0, 1)


def _curve(dice: dict[str, np.ndarray], threshold: float | None, patches: int) -> dict:
    """Mean Dice [K] at SPREADS of each map -> what the template draws, from 0 to 1 both ways."""
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
    drawn = page.film(case.picture, torch.from_numpy(case.grid), masks, case.patch_grid)
    return drawn | {"name": case.name, "value": case.value}
