"""The calibration of a classification: a table of the errors, and reliability diagrams."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mavl.metrics.calibration import Calibration, CalibrationErrors
from mavl.report.pictures.figures import plain_axes, save_figure
from mavl.report.tables import write_rows

TABLE, PLOT = "calibration.csv", "reliability.png"
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


def write_calibration(calibrated: Mapping[str, Calibrated], folder: Path) -> None:
    """Write TABLE and PLOT into a result folder; nothing where no finding is calibrated."""
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


def plot(calibrated: Mapping[str, Calibrated], path: Path) -> None:
    """A diagram for each finding: the share with the finding against the probability, before and after."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(calibrated))
    height = -(-len(calibrated) // columns)
    figure = Figure(figsize=(2.4 * columns, 2.6 * height), layout="constrained")
    for number, (finding, of) in enumerate(calibrated.items(), start=1):
        axes = figure.add_subplot(height, columns, number, aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        plain_axes(axes)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":")
        for errors, colour, name in ((of.before, "#d55e00", "before"), (of.after, "#0072b2", "after")):
            if errors is not None:
                reliability = errors.reliability
                label = f"{name}: ECE {errors.ece.value:.3f}"
                axes.plot(reliability.probability, reliability.frequency, "o-", color=colour, markersize=3, label=label)
        axes.set_title(finding, fontsize=9)
        axes.legend(frameon=False, fontsize=7, loc="upper left")
        axes.set(xlabel="probability", ylabel="frequency")
    save_figure(figure, path, dpi=110)
