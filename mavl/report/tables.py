"""What people look at after an evaluation: a table for the terminal, CSV and JSON, ROC and precision-recall plots."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.metrics.classification import METRICS, Evaluation, Interval, precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6d31")
"""After Okabe and Ito, for colour-blind readers as well."""

_STYLES = [(colour, style) for style in ("-", "--") for colour in _COLOURS]
_FEW = 5
"""Of more classes than there are styles, so many of the best and of the worst are drawn in colour and named."""

_SHORT = {"average_precision": "AP", "best_f1": "F1", "accuracy": "acc.", "sensitivity": "Se", "specificity": "Sp"}


def table(evaluation: Evaluation, title: str, caption: str = "") -> Table:
    """A row for each class and, of several, one for the means, in percent, for 80 columns; below, how to read it."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.caption = Text("\n".join(["", *([caption] if caption else []), *notes(evaluation)]), "dim not italic")
    table.caption_justify = "left"
    table.add_column("finding")
    for heading in ("pos.", "n", "AUROC", "95 %", "AP", "F1", "P/R", "acc.", "Se/Sp"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in evaluation.classes:
        name, counts = Text(result.name), (str(result.positives), str(result.n))
        if result.name in evaluation.undefined:
            table.add_row(name, *counts, "–", "undefined", *"–––––", style="dim")
        else:
            intervals = {metric: getattr(result, metric) for metric in METRICS}
            table.add_row(name, *counts, *_cells(intervals, _pair(result.precision, result.recall)))
    if len(evaluation.classes) > 1:
        table.add_section()
        table.add_row("mean", "", "", *_cells(evaluation.means, ""), style="bold")
    return table


def write_csv(evaluation: Evaluation, path: Path | str) -> None:
    """A row for each class, then "mean"; an interval takes three columns, and what is undefined is an empty cell."""
    write_rows([*map(vars, evaluation.classes), {"name": "mean", **evaluation.means}], path)


def write_json(evaluation: Evaluation, path: Path | str, about: dict) -> None:
    """The whole evaluation after `about` (protocol, head, model, books, versions); NaN becomes null."""
    dump_json({"about": about, **asdict(evaluation), "without_threshold": evaluation.without_threshold}, path)


def write_rows(rows: Sequence[dict], path: Path | str) -> None:
    """A CSV of these rows with the first one's columns; intervals and NaN as in `write_csv`."""
    flat = [_flat(row) for row in rows]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def dump_json(content: dict, path: Path | str) -> None:
    """Write `content` as JSON; NaN becomes null."""
    text = json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def percent(value: float) -> str:
    """One decimal, a dash for NaN."""
    return "–" if np.isnan(value) else f"{100 * value:.1f}"


def percent_bounds(interval: Interval) -> str:
    """Such as 12.3–45.6; empty where there is no interval."""
    return "" if np.isnan(interval.low) else f"{percent(interval.low)}–{percent(interval.high)}"


def plot_curves(
    labels: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    evaluation: Evaluation,
    path_roc: Path | str,
    path_pr: Path | str,
) -> None:
    """labels [n, C], scores [n, C], names [C] as `evaluate` had them -> two plots, in the formats of their suffixes.

    Raises ValueError where the evaluation is of other classes.
    """
    evaluated = [result.name for result in evaluation.classes]
    if list(names) != evaluated:
        raise ValueError(f"the evaluation is of {', '.join(evaluated)}, not of {', '.join(names)}")
    roc, precision_recall = [], []
    for y, s, result in zip(np.asarray(labels).T, np.asarray(scores).T, evaluation.classes, strict=True):
        if result.name in evaluation.undefined:
            continue
        roc.append(_Curve(result.name, result.auroc, *roc_curve(y, s)))
        precision, recall = precision_recall_curve(y, s)
        steps = recall.repeat(2)[1:-1], precision[1:].repeat(2)
        prevalence = result.positives / result.n
        precision_recall.append(_Curve(result.name, result.average_precision, *steps, chance=prevalence))

    axes = _axes("1 − specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    _draw(axes, roc, evaluation.means["auroc"])
    _save(axes, path_roc, "AUROC, % (95 % interval)", evaluation.undefined)

    axes = _axes("recall", "precision")
    _draw(axes, precision_recall, evaluation.means["average_precision"])
    _save(axes, path_pr, "AP, % (95 % interval); dotted: prevalence", evaluation.undefined)


def _pair(one: float, other: float) -> str:
    return "–" if np.isnan(one) else f"{100 * one:.0f}/{100 * other:.0f}"


def _cells(row: dict[str, Interval], at_best: str) -> Iterator[str]:
    yield from (percent(row["auroc"].value), percent_bounds(row["auroc"]))
    yield from (percent(row["average_precision"].value), percent(row["best_f1"].value), at_best)
    yield from (percent(row["accuracy"].value), _pair(row["sensitivity"].value, row["specificity"].value))


def notes(evaluation: Evaluation) -> Iterator[str]:
    """How the numbers came about, a sentence a line."""
    classes, undefined, without = len(evaluation.classes), evaluation.undefined, evaluation.without_threshold
    if classes > 1:
        yield f"Mean over {classes - len(undefined)} of {classes} classes."
    if undefined:
        yield f"Undefined without both labels: {', '.join(undefined)}."
    if evaluation.resamples:
        spread = [
            f"{short} {bounds}"
            for metric, short in _SHORT.items()
            if (bounds := percent_bounds(evaluation.means[metric]))
        ]
        drawn = f"{evaluation.images} images" if evaluation.groups is None else f"{evaluation.groups} groups of images"
        yield f"95 %: bootstrap, {evaluation.resamples} resamples of {drawn}."
        if spread:
            yield f"95 % of the last row: {', '.join(spread)}."
    yield "F1: the largest over all thresholds, with its precision and recall (P/R)."
    for source in sorted({result.threshold_source for result in evaluation.classes} - {None}):
        data = {"test": "the test images themselves", "validation": "validation data"}[source]
        yield f"acc., Se, Sp: score {'>' if evaluation.strict else '≥'} a threshold chosen on {data}."
    if without:
        every = len(without) == classes - len(undefined)
        yield f"No threshold, hence no acc., Se and Sp: {'all classes' if every else ', '.join(without)}."


def _flat(row: dict) -> dict:
    """Each Interval becomes three entries, NaN an empty one."""
    flat = {}
    for key, value in row.items():
        if isinstance(value, Interval):
            flat |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        else:
            flat[key] = value
    return {key: "" if isinstance(value, float) and np.isnan(value) else value for key, value in flat.items()}


def _plain(value: object) -> object:
    """`value` in what JSON knows: NaN and infinities as null, NumPy's numbers as numbers, paths as text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


@dataclass(frozen=True)
class _Curve:
    """x and y [K], joined by straight lines, x rising; `chance` is the height that random scores reach."""

    name: str
    area: Interval
    x: np.ndarray
    y: np.ndarray
    chance: float | None = None


def _axes(x: str, y: str) -> Axes:
    """An empty square plot of two rates; made without pyplot, so without global state or a display."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(5.4, 5.4)).add_subplot(
        aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    return axes


def _draw(axes: Axes, curves: list[_Curve], mean: Interval) -> None:
    """Curves by falling area, those in the middle of many in grey without a name, and their mean in black on top."""
    curves = sorted(curves, key=lambda curve: -curve.area.value)
    middle = range(_FEW, len(curves) - _FEW) if len(curves) > len(_STYLES) else range(0)
    styles = iter(_STYLES)
    if len(curves) > 1:
        rates = np.linspace(0, 1, 501)
        heights = np.mean([np.interp(rates, curve.x, curve.y) for curve in curves], axis=0)
        axes.plot(rates, heights, color="black", linewidth=2.2, zorder=3, label=_entry(mean, f"mean of {len(curves)}"))
    for rank, curve in enumerate(curves):
        if rank in middle:
            label = f"({len(middle)} between)" if rank == middle[0] else None
            axes.plot(curve.x, curve.y, color="0.82", linewidth=0.7, zorder=1.5, label=label)
            continue
        colour, style = next(styles)
        axes.plot(curve.x, curve.y, color=colour, linestyle=style, linewidth=1.2, label=_entry(curve.area, curve.name))
        if curve.chance is not None:
            axes.axhline(curve.chance, color=colour, linewidth=0.8, linestyle=":")


def _entry(area: Interval, name: str) -> str:
    """A legend's line; figure spaces, as wide as a digit, keep the names in one column."""
    bounds = percent_bounds(area)
    spread = f" ({bounds})".ljust(len(" (12.3–45.6)"), "\u2007") if bounds else ""
    return f"{percent(area.value):\u2007>4}{spread}  {name}"


def _save(axes: Axes, path: Path | str, legend: str, undefined: list[str]) -> None:
    """Write the plot with its legend beside it, which may be as wide and as long as its names make it."""
    if undefined:
        which = ", ".join(undefined) if len(undefined) < _FEW else f"{len(undefined)} classes"
        axes.plot([], [], " ", label=f"undefined: {which}")
    axes.legend(title=legend, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9, alignment="left")
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")
