"""Results of a sensitivity run: two tables for the terminal, CSV and JSON files, and a plot of the ranges."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.metrics.classification import METRICS
from mavl.metrics.metric import percent
from mavl.metrics.wordings import Sensitivity, Spread
from mavl.report.classification import evaluation_content
from mavl.report.figures import save_figure
from mavl.report.tables import add_row, dump_json, new_table, write_rows
from mavl.text.wordings import ABLATION, OWN, REWORDING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

SPREAD, WORDINGS, JSON, PLOT = "spread.csv", "wordings.csv", "sensitivity.json", "sensitivity.png"

_AUROC = METRICS["auroc"]
_FEW = 4
"""The largest number of new findings that have a column each in the table of the wordings."""

_STYLES = {
    "names": ("names alone", "#d55e00", "s"),
    "descriptions": ("descriptions alone", "#e69f00", "^"),
    ABLATION: ("one aspect omitted", "#999999", "o"),
    REWORDING: ("other words", "#0072b2", "o"),
    OWN: ("other books", "#009e73", "D"),
}
"""{wording or its kind: (legend, colour, marker)}; colours after Okabe and Ito."""


def write(result: Sensitivity) -> None:
    """Write all files into the folder of the result."""
    write_rows(_spread_rows(result), result.folder / SPREAD)
    write_rows(_wording_rows(result), result.folder / WORDINGS)
    wordings = [
        {
            "name": wording.name,
            "kind": wording.kind,
            "evaluation": evaluation_content(wording.evaluation),
            "flips": wording.flips,
            "changed": wording.changed,
            "reference": wording is result.wordings[0],
        }
        for wording in result.wordings
    ]
    content = {"about": result.about, "wordings": wordings, "spreads": result.spreads, "ablated": result.ablated}
    dump_json(content, result.folder / JSON)
    plot(result, result.folder / PLOT)


def spread_table(result: Sensitivity, title: str) -> Table:
    """A row for each finding and for the mean of each group.

    The columns are AUROC under the books, its range over the wordings with their full text, and over the ablations.
    """
    headings = ["finding", "books", "95 %"]
    headings += ["min", "max", "std", "flips"] if result.spreads else []
    headings += ["less", "under"] if result.ablated else []
    table = new_table(title, headings, notes(result))
    if result.ablated:
        table.columns[-1].justify = "left"
    intervals = {found.name: found.metrics["auroc"] for found in result.reference.classes}
    for name in result.findings:
        label = f"{name} (new)" if name in result.about["new_findings"] else name
        found = intervals[name]
        add_row(table, label, [percent(found.value), _AUROC.bounds(found), *_cells(result, name)])
    table.add_section()
    for kind, names in result.groups.items():
        mean = percent(float(result.areas(names)[0].mean()))
        add_row(table, f"mean, {len(names)} {kind}", [mean, "", *_cells(result, f"mean {kind}")], "bold")
    return table


def wording_table(result: Sensitivity, title: str) -> Table:
    """A row for each wording: mean AUROC of each group and, if they are few, AUROC of each new finding."""
    few = _few_new(result)
    means = [f"{len(names)} {kind}" for kind, names in result.groups.items()]
    table = new_table(title, ["mean AUROC of", *means, *(f"{name} (95 %)" for name in few), "flips"])
    for wording, row in zip(result.wordings, _wording_rows(result), strict=True):
        found = {found.name: found.metrics["auroc"] for found in wording.evaluation.classes}
        cells = [percent(row[f"mean {kind}"]) for kind in result.groups]
        cells += [f"{percent(found[name].value)} ({_AUROC.bounds(found[name])})" for name in few]
        add_row(table, wording.name, [*cells, percent(row["flips"])])
    return table


def notes(result: Sensitivity) -> list[str]:
    """How to read the tables, one sentence each."""
    changed, ablations = len(result.about["varied"]), sum(wording.ablation for wording in result.wordings)
    lines = [f"AUROC in %; the text of {changed} findings varies. 95 %: bootstrap of the images."]
    if result.spreads:
        lines += [
            f"min, max, std: over the books and {len(result.wordings) - ablations - 1} other wordings.",
            "flips: % of image pairs in another order than under the books, for the wording with the most of them.",
        ]
    if ablations:
        lines.append(
            f"less: the lowest of {ablations} ablations: names alone, descriptions alone, or one aspect omitted."
        )
    if not result.about["as_trained"]:
        lines.append("The model was trained with other text than these books, which a plain evaluation uses.")
    if result.reference.undefined:
        lines.append(f"Undefined, with one label only: {', '.join(result.reference.undefined)}.")
    return lines


def plot(result: Sensitivity, path: Path) -> None:
    """A line for each finding: its range over the wordings, a mark for each wording, and a band for the interval.

    The range is without the ablations; the interval is that of the AUROC under the books.
    """
    from matplotlib.figure import Figure

    findings = sorted(result.findings, key=lambda name: result.areas([name])[0, 0])
    rows = [*findings, *(f"mean {kind}" for kind in reversed(result.groups))]
    areas = {name: result.areas([name])[:, 0] for name in findings}
    areas |= {f"mean {kind}": result.areas(names).mean(axis=1) for kind, names in result.groups.items()}
    intervals = {found.name: found.metrics["auroc"] for found in result.reference.classes}
    axes = Figure(figsize=(8.4, 1.6 + 0.3 * len(rows))).add_subplot(xlabel="AUROC", ylim=(-0.7, len(rows) - 0.3))
    for height, name in enumerate(rows):
        if name in intervals:
            bounds = [intervals[name].low, intervals[name].high]
            axes.plot(bounds, [height, height], color="0.9", linewidth=9, zorder=1, label="95 % interval of the books")
        if spread := result.spreads.get(name):
            axes.plot([spread.low, spread.high], [height, height], color="0.45", linewidth=1.5, zorder=2)
        _draw_marks(axes, result, areas[name], height)
    axes.axhline(len(findings) - 0.5, color="0.6", linewidth=0.6)
    axes.axvline(0.5, color="0.6", linewidth=0.8, linestyle=":")
    new = result.about["new_findings"]
    axes.set_yticks(range(len(rows)), [f"{name} (new)" if name in new else name for name in rows])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.93")
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    legend = dict(zip(labels, handles, strict=True))
    axes.legend(legend.values(), legend, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    axes.set_title(f"{result.about['title']}, {result.about['head']} head: AUROC by wording", loc="left")
    save_figure(axes.figure, path, dpi=130)


def _draw_marks(axes: Axes, result: Sensitivity, areas: np.ndarray, height: float) -> None:
    for wording, area in zip(result.wordings[1:], areas[1:], strict=True):
        label, colour, marker = _STYLES.get(wording.name, _STYLES[wording.kind])
        axes.plot(area, height, marker, color=colour, markersize=5, alpha=0.85, linewidth=0, label=label, zorder=3)
    axes.plot(areas[0], height, "|", color="black", markersize=13, markeredgewidth=2.2, label="the books", zorder=4)


def _spread_rows(result: Sensitivity) -> list[dict]:
    found = {found.name: found for found in result.reference.classes}
    rows = [
        {
            "finding": name,
            "new": name in result.about["new_findings"],
            "n": found[name].n,
            "positives": found[name].positives,
            "auroc": found[name].metrics["auroc"],
            **_figures(result, name),
        }
        for name in result.findings
    ]
    for kind, names in result.groups.items():
        mean = float(result.areas(names)[0].mean())
        empty = dict.fromkeys(("new", "n", "positives", "auroc_low", "auroc_high"), "")
        rows.append({"finding": f"mean {kind}", **empty, "auroc": mean, **_figures(result, f"mean {kind}")})
    return rows


def _figures(result: Sensitivity, name: str) -> dict:
    """The columns of the spread, and with the prefix less_ those of the ablations; empty if there is none."""
    empty = dict.fromkeys((field.name for field in fields(Spread)), "")
    spread, less = (asdict(of[name]) if of else empty for of in (result.spreads, result.ablated))
    return spread | {f"less_{column}": value for column, value in less.items()}


def _wording_rows(result: Sensitivity) -> list[dict]:
    findings = result.findings
    means = {f"mean {kind}": result.areas(names).mean(axis=1) for kind, names in result.groups.items()}
    rows = []
    for i, (wording, areas) in enumerate(zip(result.wordings, result.areas(findings), strict=True)):
        row = {"wording": wording.name, "kind": wording.kind, "changed": wording.changed}
        row |= {name: float(values[i]) for name, values in means.items()}
        row["flips"] = float(np.nanmean(wording.flips)) if not np.isnan(wording.flips).all() else np.nan
        rows.append(row | dict(zip(findings, map(float, areas), strict=True)))
    return rows


def _few_new(result: Sensitivity) -> list[str]:
    new = [name for name in result.findings if name in result.about["new_findings"]]
    return new if 1 < len(new) <= _FEW else []


def _cells(result: Sensitivity, name: str) -> list[str]:
    cells = []
    if spread := result.spreads.get(name):
        cells += [percent(value) for value in (spread.low, spread.high, spread.std, spread.flips)]
    if less := result.ablated.get(name):
        cells += [percent(less.low), less.lowest]
    return cells
