"""The log of a training run as a plot: losses and validation metrics over the epochs."""

from collections.abc import Mapping
from pathlib import Path

from mavl.files import parse_json
from mavl.report.pictures.figures import plain_axes, save_figure

TRAINING = "training.png"
COLOURS = ("#0072b2", "#d55e00")


def read_log(path: Path) -> tuple[list[dict], int]:
    """The lines of a run's log, and how many others there are, which a kill or a full disk has torn."""
    lines, damaged = [], 0
    for text in path.read_bytes().splitlines():
        try:
            line = parse_json(text, path.name)
            lines.append(line | {name: int(line[name]) for name in ("epoch", "step")})
        except (ValueError, KeyError, TypeError):
            damaged += 1
    return lines, damaged


def plot_training(log: Path, path: Path, best_step: int, plots: Mapping[str, Mapping[str, str]]) -> None:
    """Plot the log.jsonl of a run into `path`, with a line at the model that was kept.

    plots: {title: {label: name in the log}}, at most two curves each.
    """
    from matplotlib.figure import Figure

    lines, _ = read_log(log)
    steps_per_epoch = lines[-1]["step"] / lines[-1]["epoch"]  # the last line is the validation at the end of an epoch
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, (title, curves) in zip(figure.subplots(1, len(plots)), plots.items(), strict=True):
        for (label, name), colour in zip(curves.items(), COLOURS, strict=False):
            points = [(line["step"] / steps_per_epoch, line[name]) for line in lines if line.get(name) is not None]
            marker = "." if name.startswith("valid") else None
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, marker=marker, label=label)
        axes.axvline(best_step / steps_per_epoch, color="0.5", linewidth=1, linestyle=":", label="model kept")
        axes.set(title=title, xlabel="epoch")
        plain_axes(axes)
        axes.legend(frameon=False, fontsize=9)
    save_figure(figure, path, dpi=150, tight=False)
