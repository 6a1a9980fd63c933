"""What people look at after a sensitivity run: two tables for the terminal, CSV and JSON, and a dot-range plot."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.evaluate.wordings import Sensitivity, Spread
from mavl.report.tables import dump_json, percent, percent_bounds, write_rows
from mavl.text.wordings import ABLATION, OWN, REWORDING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

SPREAD, WORDINGS, JSON, PLOT = "spread.csv", "wordings.csv", "sensitivity.json", "sensitivity.png"

_FEW = 4
"""So many new findings have a column each in the table of the wordings."""

_STYLES = {
    "names": ("names alone", "#d55e00", "s"),
    "descriptions": ("descriptions alone", "#e69f00", "^"),
    ABLATION: ("one aspect left out", "#999999", "o"),
    REWORDING: ("said otherwise", "#0072b2", "o"),
    OWN: ("other books", "#009e73", "D"),
}
"""{wording or its kind: (legend, colour, marker)}; colours after Okabe and Ito."""


def write(result: Sensitivity) -> None:
    """Everything into the result's folder."""
    write_rows(_spread_rows(result), result.folder / SPREAD)
    write_rows(_wording_rows(result), result.folder / WORDINGS)
    content = {
        "about": result.about,
        "wordings": [asdict(wording) | {"reference": wording is result.wordings[0]} for wording in result.wordings],
        "spreads": {name: asdict(spread) for name, spread in result.spreads.items()},
        "ablated": {name: asdict(spread) for name, spread in result.ablated.items()},
    }
    dump_json(content, result.folder / JSON)
    plot(result, result.folder / PLOT)


def spread_table(result: Sensitivity, title: str) -> Table:
    """A row for each finding and for the mean of each group: AUROC in percent under the books, over the wordings that
    say as much, and over the ablations.
    """
    table = _table(title, "finding", "books", "95 %", *(["min", "max", "std", "flips"] if result.spreads else []))
    if result.ablated:
        table.add_column("less", justify="right")
        table.add_column("under", no_wrap=True)
    intervals = {found.name: found.auroc for found in result.reference.classes}
    for name in result.findings:
        label = f"{name} (new)" if name in result.about["new_findings"] else name
        table.add_row(label, percent(intervals[name].value), percent_bounds(intervals[name]), *_cells(result, name))
    table.add_section()
    for kind, names in result.groups.items():
        mean = percent(float(result.areas(names)[0].mean()))
        table.add_row(f"mean, {len(names)} {kind}", mean, "", *_cells(result, f"mean {kind}"), style="bold")
    table.caption = "\n".join(["", *notes(result)])
    return table


def wording_table(result: Sensitivity, title: str) -> Table:
    """A row for each wording: mean AUROC of each group and, when they are few, that of each new finding, in percent."""
    few = _few_new(result)
    means = [f"{len(names)} {kind}" for kind, names in result.groups.items()]
    table = _table(title, "mean AUROC of", *means, *[f"{name} (95 %)" for name in few], "flips")
    for wording, row in zip(result.wordings, _wording_rows(result), strict=True):
        found = {found.name: found.auroc for found in wording.evaluation.classes}
        figures = [percent(row[f"mean {kind}"]) for kind in result.groups]
        figures += [f"{percent(found[name].value)} ({percent_bounds(found[name])})" for name in few]
        table.add_row(wording.name, *figures, percent(row["flips"]))
    return table


def notes(result: Sensitivity) -> list[str]:
    """How to read the tables."""
    varied, less = len(result.about["varied"]), sum(wording.kind == ABLATION for wording in result.wordings)
    lines = [f"AUROC in %, {varied} findings in other words. 95 %: bootstrap of the images."]
    if result.spreads:
        lines += [
            f"min to std: over the books and {len(result.wordings) - less - 1} other wordings, not of all there are.",
            "flips: % of image pairs in another order than under the books, for",
            "the wording with the most of them.",
        ]
    if less:
        lines.append(f"less: the lowest of {less} ablations, by names, descriptions or no aspect.")
    if not result.about["as_trained"]:
        lines.append("The model was trained with other text, which a plain evaluation uses.")
    if result.reference.undefined:
        lines.append(f"Undefined, with one label only: {', '.join(result.reference.undefined)}.")
    return lines


def plot(result: Sensitivity, path: Path) -> None:
    """A line for each finding: the range over wordings that say as much, a mark for each and for each ablation, and a
    band for the interval of the books.
    """
    from matplotlib.figure import Figure

    findings = sorted(result.findings, key=lambda name: result.areas([name])[0, 0])
    rows = [*findings, *(f"mean {kind}" for kind in reversed(result.groups))]
    areas = {name: result.areas([name])[:, 0] for name in findings}
    areas |= {f"mean {kind}": result.areas(names).mean(axis=1) for kind, names in result.groups.items()}
    intervals = {found.name: found.auroc for found in result.reference.classes}
    axes = Figure(figsize=(8.4, 1.6 + 0.3 * len(rows))).add_subplot(xlabel="AUROC", ylim=(-0.7, len(rows) - 0.3))
    for height, name in enumerate(rows):
        if name in intervals:
            bounds = [intervals[name].low, intervals[name].high]
            axes.plot(bounds, [height, height], color="0.9", linewidth=9, zorder=1, label="95 % by the images")
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
    axes.set_title(
        f"{result.about['title']}, {result.about['head']} head: how far the words move the AUROC", loc="left"
    )
    axes.figure.savefig(path, dpi=130, bbox_inches="tight")


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
            "auroc": found[name].auroc,
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
    """Columns of the spread, and of that of the ablations as less_…; empty where there is none."""
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


def _table(title: str, first: str, *numbers: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, show_edge=False, padding=0, pad_edge=False)
    table.caption_justify, table.caption_style = "left", "dim"
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table
