"""ROC and precision-recall curves, and the file of any figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.files import whole_file
from mavl.metrics.classification import METRICS, Evaluation, precision_recall_curve, roc_curve
from mavl.metrics.intervals import Interval
from mavl.metrics.metric import Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROC, PRECISION_RECALL = "roc.png", "pr.png"

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8c6d31")
"""After Okabe and Ito, which colour-blind readers can distinguish."""

_STYLES = [(colour, style) for style in ("-", "--") for colour in _COLOURS]
_FEW = 5
"""With more classes than styles, the number of the best and of the worst that have a colour and a name."""


def save_figure(figure: Figure, path: Path, dpi: int, tight: bool = True) -> None:
    """Write the figure in the format of the suffix; tight: fit its size to the content."""
    with whole_file(path, "wb") as file:
        figure.savefig(file, format=path.suffix[1:], dpi=dpi, bbox_inches="tight" if tight else None)


def plain_axes(axes: Axes) -> None:
    """Remove the frame at the top and right, and add a light grid behind the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)


def plot_curves(
    labels: np.ndarray, scores: np.ndarray, names: Sequence[str], evaluation: Evaluation, folder: Path
) -> None:
    """labels [n, C], scores [n, C], names [C] as given to `evaluate` -> ROC and PRECISION_RECALL in the folder.

    Raises ValueError if the evaluation is of other classes.
    """
    evaluated = [result.name for result in evaluation.classes]
    if list(names) != evaluated:
        raise ValueError(f"the evaluation is of {', '.join(evaluated)}, not of {', '.join(names)}")
    roc, precision_recall = [], []
    for y, s, result in zip(np.asarray(labels).T, np.asarray(scores).T, evaluation.classes, strict=True):
        if result.name in evaluation.undefined:
            continue
        roc.append(_Curve(result.name, result.metrics["auroc"], *roc_curve(y, s)))
        precision, recall = precision_recall_curve(y, s)
        steps = recall.repeat(2)[1:-1], precision[1:].repeat(2)
        prevalence = result.positives / result.n
        precision_recall.append(_Curve(result.name, result.metrics["average_precision"], *steps, chance=prevalence))

    axes = _axes("1 − specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    _draw(axes, METRICS["auroc"], roc, evaluation)
    save_figure(axes.figure, folder / ROC, dpi=150)

    axes = _axes("recall", "precision")
    _draw(axes, METRICS["average_precision"], precision_recall, evaluation, "; dotted: prevalence")
    save_figure(axes.figure, folder / PRECISION_RECALL, dpi=150)


@dataclass(frozen=True)
class _Curve:
    """x and y [K], joined by straight lines, x rising; `chance`: the height that random scores reach."""

    name: str
    area: Interval
    x: np.ndarray
    y: np.ndarray
    chance: float | None = None


def _axes(x: str, y: str) -> Axes:
    """An empty square plot of two rates; without pyplot, so it needs no global state and no display."""
    from matplotlib.figure import Figure

    axes = Figure(figsize=(5.4, 5.4)).add_subplot(
        aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y
    )
    plain_axes(axes)
    return axes


def _draw(axes: Axes, metric: Metric, curves: list[_Curve], evaluation: Evaluation, note: str = "") -> None:
    """Draw curves by falling area (of many, those in the middle in grey without a name), their mean, and the legend."""
    curves = sorted(curves, key=lambda curve: -curve.area.value)
    middle = range(_FEW, len(curves) - _FEW) if len(curves) > len(_STYLES) else range(0)
    styles = iter(_STYLES)
    if len(curves) > 1:
        rates = np.linspace(0, 1, 501)
        heights = np.mean([np.interp(rates, curve.x, curve.y) for curve in curves], axis=0)
        label = _entry(metric, evaluation.means[metric.name], f"mean of {len(curves)}")
        axes.plot(rates, heights, color="black", linewidth=2.2, zorder=3, label=label)
    for rank, curve in enumerate(curves):
        if rank in middle:
            label = f"({len(middle)} between)" if rank == middle[0] else None
            axes.plot(curve.x, curve.y, color="0.82", linewidth=0.7, zorder=1.5, label=label)
            continue
        colour, style = next(styles)
        label = _entry(metric, curve.area, curve.name)
        axes.plot(curve.x, curve.y, color=colour, linestyle=style, linewidth=1.2, label=label)
        if curve.chance is not None:
            axes.axhline(curve.chance, color=colour, linewidth=0.8, linestyle=":")
    if undefined := evaluation.undefined:
        names = ", ".join(undefined) if len(undefined) < _FEW else f"{len(undefined)} classes"
        axes.plot([], [], " ", label=f"undefined: {names}")
    title = f"{metric.heading}, % (95 % interval){note}"
    axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9, alignment="left")


def _entry(metric: Metric, area: Interval, name: str) -> str:
    """A line of the legend; figure spaces, as wide as a digit, align the names."""
    bounds = metric.bounds(area)
    spread = f" ({bounds})".ljust(len(" (12.3–45.6)"), "\u2007") if bounds else ""
    return f"{metric.format(area.value):\u2007>4}{spread}  {name}"
