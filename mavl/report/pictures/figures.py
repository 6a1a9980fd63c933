"""ROC and precision-recall curves, and the file of any figure."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.files import printable, whole_file
from mavl.metrics.classification import METRICS, Evaluation
from mavl.metrics.intervals import Interval
from mavl.metrics.metric import Metric
from mavl.report.tables import NEW
from mavl.vocab import PRESENT, UNKNOWN

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
    """Write the figure in the format of the suffix, with its texts as they are; tight: fit its size to the content."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)  # a name may hold $
        text.set_text(printable(text.get_text()))
    with whole_file(path, "wb") as file:
        figure.savefig(file, format=path.suffix[1:], dpi=dpi, bbox_inches="tight" if tight else None)


def plain_axes(axes: Axes) -> None:
    """Remove the frame at the top and right, and add a light grid behind the curves."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)


def plot_curves(
    labels: np.ndarray, scores: np.ndarray, evaluation: Evaluation, folder: Path, new: Collection[str] = ()
) -> None:
    """labels [n, C], scores [n, C] as given to `evaluate` -> ROC and PRECISION_RECALL in the folder.

    new: classes that the model was never trained on, which are marked.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    roc, precision_recall = [], []
    for column, result in enumerate(evaluation.classes):
        if result.name in evaluation.undefined:
            continue
        known = labels[:, column] != UNKNOWN
        present, of_class = labels[known, column] == PRESENT, scores[known, column]
        roc.append((result, *roc_curve(present, of_class)[:2]))
        precision, recall, _ = (values[::-1] for values in precision_recall_curve(present, of_class))
        gains = np.flatnonzero(np.diff(recall)) + 1  # the thresholds that add recall
        steps = np.r_[0, recall[gains]].repeat(2)[1:-1], precision[gains].repeat(2)
        precision_recall.append((result, *steps))
    _plot(METRICS["auroc"], roc, evaluation, folder / ROC, ("1 − specificity", "sensitivity"), new)
    axes = "recall", "precision"
    _plot(METRICS["average_precision"], precision_recall, evaluation, folder / PRECISION_RECALL, axes, new)


def _plot(
    metric: Metric, curves: list, evaluation: Evaluation, path: Path, labels: tuple[str, str], new: Collection[str]
) -> None:
    """Plot curves by falling area, of many those in the middle in grey without a name, with their mean.

    A curve is (ClassResult, x [K], y [K]): points joined by straight lines, x rising.
    """
    from matplotlib.figure import Figure  # not pyplot, which needs global state and a display

    figure = Figure(figsize=(5.4, 5.4))
    axes = figure.add_subplot(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set(xlabel=labels[0], ylabel=labels[1])
    plain_axes(axes)
    if metric.name == "auroc":
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle=":")
    curves = sorted(curves, key=lambda curve: -curve[0].metrics[metric.name].value)
    middle = range(_FEW, len(curves) - _FEW) if len(curves) > len(_STYLES) else range(0)
    styles = iter(_STYLES)
    if len(curves) > 1:
        rates = np.linspace(0, 1, 501)
        heights = np.mean([np.interp(rates, x, y) for _, x, y in curves], axis=0)
        label = _entry(metric, evaluation.means[metric.name], f"mean of {len(curves)}")
        axes.plot(rates, heights, color="black", linewidth=2.2, zorder=3, label=label)
    for rank, (result, x, y) in enumerate(curves):
        if rank in middle:
            label = f"({len(middle)} between)" if rank == middle[0] else None
            axes.plot(x, y, color="0.82", linewidth=0.7, zorder=1.5, label=label)
            continue
        colour, style = next(styles)
        name = f"{result.name} {NEW}" if result.name in new else result.name
        label = _entry(metric, result.metrics[metric.name], name)
        axes.plot(x, y, color=colour, linestyle=style, linewidth=1.2, label=label)
        if metric.name == "average_precision":
            axes.axhline(result.positives / result.n, color=colour, linewidth=0.8, linestyle=":")
    if undefined := evaluation.undefined:
        names = ", ".join(undefined) if len(undefined) < _FEW else f"{len(undefined)} classes"
        axes.plot([], [], " ", label=f"undefined: {names}")
    if any(result.name in new for result, *_ in curves):
        axes.plot([], [], " ", label=f"{NEW} never trained on")
    title = f"{metric.heading}, % (95 % interval){'' if metric.name == 'auroc' else '; dotted: prevalence'}"
    axes.legend(title=title, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9, alignment="left")
    save_figure(figure, path, dpi=150)


def _entry(metric: Metric, area: Interval, name: str) -> str:
    """A line of the legend; figure spaces, as wide as a digit, align the names."""
    bounds = metric.bounds(area)
    spread = f" ({bounds})".ljust(len(" (12.3–45.6)"), "\u2007") if bounds else ""
    return f"{metric.format(area.value):\u2007>4}{spread}  {name}"
