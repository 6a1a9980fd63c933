"""The calibration of a classification: a table of the errors, reliability diagrams, decision curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mavl.metrics.calibration import Calibration, CalibrationErrors, DecisionCurve
from mavl.report.pictures.figures import plain_axes, save_figure
from mavl.report.tables import write_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, PLOT, DECISIONS = "calibration.csv", "reliability.png", "decisions.png"
COLUMNS = 5
"""Diagrams beside each other."""


class Calibrated(Protocol):
    """As of mavl.evaluate.validated."""

    @property
    def calibration(self) -> Calibration: ...
    @property
    def before(self) -> CalibrationErrors | None: ...
    @property
    def after(self) -> CalibrationErrors: ...
    @property
    def decisions(self) -> DecisionCurve: ...


def write_calibration(calibrated: Mapping[str, Calibrated], folder: Path) -> None:
    """Write TABLE, PLOT and DECISIONS into a result folder; nothing where no finding is calibrated."""
    if not calibrated:
        return
    rows = []
    for finding, of in calibrated.items():
        row = {"finding": finding, "slope": of.calibration.slope, "offset": of.calibration.offset}
        for name, errors in (("before", of.before), ("after", of.after)):
            row |= {f"{key}_{name}": getattr(errors, key) if errors else float("nan") for key in ("brier", "ece")}
        rows.append(row)
    write_rows(rows, folder / TABLE)
    plot(calibrated, folder / PLOT)
    plot_decisions(calibrated, folder / DECISIONS)


def plot(calibrated: Mapping[str, Calibrated], path: Path) -> None:
    """A diagram for each finding: the share with the finding against the probability, before and after."""

    def draw(axes: Axes, of: Calibrated) -> None:
        axes.set(xlabel="probability", ylabel="frequency", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
        for errors, colour, name in ((of.before, "#d55e00", "before"), (of.after, "#0072b2", "after")):
            if errors is not None:
                label = f"{name}: ECE {errors.ece.value:.3f}"
                points = errors.reliability.probability, errors.reliability.frequency
                axes.plot(*points, "o-", color=colour, markersize=3, label=label)

    _plot_each(calibrated, draw, path)


def plot_decisions(calibrated: Mapping[str, Calibrated], path: Path) -> None:
    """A diagram for each finding: the net benefit of acting by the model, on everyone, and on none."""

    def draw(axes: Axes, of: Calibrated) -> None:
        curve = of.decisions
        top = max(float(curve.model.max()), 0.01)
        axes.set(
            xlabel="act from this probability on", ylabel="net benefit", xlim=(0, 1), ylim=(-0.3 * top, 1.15 * top)
        )
        axes.plot(curve.thresholds, curve.everyone, color="0.6", linewidth=0.9, label="everyone")
        axes.axhline(0, color="0.6", linewidth=0.9, linestyle=":", label="no one")
        axes.plot(curve.thresholds, curve.model, color="#0072b2", label="by the model")

    _plot_each(calibrated, draw, path)


def _plot_each(calibrated: Mapping[str, Calibrated], draw: Callable[[Axes, Calibrated], None], path: Path) -> None:
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(calibrated))
    height = -(-len(calibrated) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.6 * height), layout="constrained")
    for number, (finding, of) in enumerate(calibrated.items(), start=1):
        axes = figure.add_subplot(height, columns, number)
        plain_axes(axes)
        draw(axes, of)
        axes.set_title(finding, fontsize=9)
        axes.legend(frameon=False, fontsize=7)
    save_figure(figure, path, dpi=110)
