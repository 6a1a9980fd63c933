"""Results of a sensitivity run: two tables for the terminal, CSV and JSON files, and a plot of the ranges."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.files import printable
from mavl.metrics.classification import METRICS, ClassResult
from mavl.metrics.metric import percent
from mavl.metrics.wordings import Sensitivity, Spread
from mavl.progress import plural
from mavl.report.classification import evaluation_content
from mavl.report.pictures.figures import save_figure
from mavl.report.tables import add_row, dump_json, new_table, write_rows
from mavl.text.wordings import ABLATION, OWN, REWORDING

if TYPE_CHECKING:
    from rich.table import Table

SPREAD, WORDINGS, JSON, PLOT = "spread.csv", "wordings.csv", "sensitivity.json", "sensitivity.png"

_bounds = METRICS["auroc"].bounds
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
    wordings = []
    for number, wording in enumerate(result.wordings):
        content = {key: value for key, value in vars(wording).items() if key != "ablation"}
        content["evaluation"] = evaluation_content(wording.evaluation)
        wordings.append(content | {"reference": number == 0})
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
    classes = _classes(result)
    means = {f"mean {kind}": f"mean, {len(names)} {kind}" for kind, names in result.groups.items()}
    for row, (name, areas) in enumerate(result.auroc.items()):
        if row == len(result.findings):
            table.add_section()
        cells = [percent(areas[0]), "" if name in means else _bounds(classes[name].metrics["auroc"])]
        if spread := result.spreads.get(name):
            cells += map(percent, (spread.low, spread.high, spread.std, spread.flips))
        if less := result.ablated.get(name):
            cells += [percent(less.low), less.lowest]
        add_row(table, means.get(name) or _label(result, name), *cells, style="bold" if name in means else "")
    return table


def wording_table(result: Sensitivity, title: str) -> Table:
    """A row for each wording: mean AUROC of each group and, if they are few, AUROC of each new finding."""
    new = result.groups.get("new", [])
    few = new if 1 < len(new) <= _FEW else []
    means = [f"{len(names)} {kind}" for kind, names in result.groups.items()]
    table = new_table(title, ["mean AUROC of", *means, *(f"{name} (95 %)" for name in few), "flips"])
    for wording, row in zip(result.wordings, _wording_rows(result), strict=True):
        found = {found.name: found.metrics["auroc"] for found in wording.evaluation.classes}
        cells = [percent(row[f"mean {kind}"]) for kind in result.groups]
        cells += [f"{percent(found[name].value)} ({_bounds(found[name])})" for name in few]
        add_row(table, wording.name, *cells, percent(row["flips"]))
    return table


def notes(result: Sensitivity) -> list[str]:
    """How to read the tables, one sentence each."""
    ablations = sum(wording.ablation for wording in result.wordings)
    findings = plural(len(result.about["varied"]), "finding")
    lines = [f"AUROC in %; the text of {findings} is varied. 95 %: Newcombe's score interval."]
    if training := result.about.get("training_images"):
        lines.insert(0, training)
    if result.spreads:
        lines += [
            f"min, max, std: over the books and {len(result.wordings) - ablations - 1} other wordings.",
            "flips: % of image pairs in another order than under the books, for the wording with the most of them.",
        ]
    if ablations:
        kinds = "names alone, descriptions alone, or one aspect omitted"
        lines.append(f"less: the lowest of {ablations} ablations: {kinds}.")
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

    findings = sorted(result.findings, key=lambda name: result.auroc[name][0])
    rows = [*findings, *(f"mean {kind}" for kind in reversed(result.groups))]
    classes = _classes(result)
    figure = Figure(figsize=(8.4, 1.6 + 0.3 * len(rows)))
    axes = figure.add_subplot(xlabel="AUROC", ylim=(-0.7, len(rows) - 0.3))
    for height, name in enumerate(rows):
        if name in classes:
            bounds = [classes[name].metrics["auroc"].low, classes[name].metrics["auroc"].high]
            axes.plot(bounds, [height, height], color="0.9", linewidth=9, zorder=1, label="95 % interval of the books")
        if spread := result.spreads.get(name):
            axes.plot([spread.low, spread.high], [height, height], color="0.45", linewidth=1.5, zorder=2)
        books, *others = result.auroc[name]
        for wording, area in zip(result.wordings[1:], others, strict=True):
            label, colour, marker = _STYLES.get(wording.name, _STYLES[wording.kind])
            axes.plot(area, height, marker, color=colour, markersize=5, alpha=0.85, linewidth=0, label=label, zorder=3)
        axes.plot(books, height, "|", color="black", markersize=13, markeredgewidth=2.2, label="the books", zorder=4)
    axes.axhline(len(findings) - 0.5, color="0.6", linewidth=0.6)
    axes.axvline(0.5, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [printable(_label(result, name)) for name in rows])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="0.93")
    axes.set_axisbelow(True)
    legend = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(legend.values(), legend, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    axes.set_title(f"{result.about['title']}, {result.about['head']} head: AUROC by wording", loc="left")
    save_figure(figure, path, dpi=130)


def _label(result: Sensitivity, name: str) -> str:
    return f"{name} (new)" if name in result.about["new_findings"] else name


def _classes(result: Sensitivity) -> dict[str, ClassResult]:
    return {found.name: found for found in result.reference.classes}


def _spread_rows(result: Sensitivity) -> list[dict]:
    """The columns of the spread, and with the prefix less_ those of the ablations; empty if there is none."""
    classes, rows = _classes(result), []
    empty = dict.fromkeys((field.name for field in fields(Spread)), "")
    for name, areas in result.auroc.items():
        row = {"finding": name, "auroc": float(areas[0])}
        if found := classes.get(name):
            row = {"finding": name, "new": name in result.about["new_findings"], "n": found.n}
            row |= {"positives": found.positives, "auroc": found.metrics["auroc"]}
        spread, less = (asdict(of[name]) if of else empty for of in (result.spreads, result.ablated))
        rows.append(row | spread | {f"less_{column}": value for column, value in less.items()})
    return rows


def _wording_rows(result: Sensitivity) -> list[dict]:
    rows = []
    for number, wording in enumerate(result.wordings):
        areas = {name: float(values[number]) for name, values in result.auroc.items()}
        means = {f"mean {kind}": areas.pop(f"mean {kind}") for kind in result.groups}
        known = wording.flips[~np.isnan(wording.flips)]
        row = {"wording": wording.name, "kind": wording.kind, "changed": wording.changed, **means}
        rows.append(row | {"flips": float(known.mean()) if len(known) else np.nan} | areas)
    return rows
