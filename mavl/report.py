"""What people look at after an evaluation: a table for the terminal, CSV and JSON, ROC and precision-recall plots."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.metrics import METRICS, ClassResult, Evaluation, Interval, precision_recall_curve, roc_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#777777")
"""Okabe and Ito's palette without its yellow and black, told apart by colour-blind readers, too."""

_NAMED = 2 * len(_COLOURS)
"""So many curves can be told apart, with a second round of the colours dashed."""

_FEW = 5
"""Of more classes than can be told apart, so many of the best and of the worst are named."""


def table(evaluation: Evaluation, title: str, caption: str = "") -> Table:
    """A row for each class and one for the means, in percent, 80 characters wide; below, how to read them."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.caption = Text("\n".join(filter(None, (caption, *_notes(evaluation)))), "dim not italic")
    table.caption_justify = "left"
    table.add_column("finding")
    for heading in ("present", "images", "AUROC", "95 %", "AP", "max F1", "P/R", "acc.", "sens/spec"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in evaluation.classes:
        name, counts = Text(result.name), (f"{result.positives:,}", f"{result.n:,}")
        if result.name in evaluation.undefined:
            table.add_row(name, *counts, "–", "undefined", *"–––––", style="dim")
        else:
            at_best = f"{100 * result.precision:.0f}/{100 * result.recall:.0f}"
            table.add_row(name, *counts, *_cells({metric: getattr(result, metric) for metric in METRICS}, at_best))
    table.add_section()
    table.add_row("mean", "", "", *_cells(evaluation.means, ""), style="bold")
    return table


def write_csv(evaluation: Evaluation, path: Path | str) -> None:
    """A row for each class and a last one, "mean"; an interval takes three columns, what is undefined an empty cell."""
    rows = [_flat(vars(result)) for result in evaluation.classes]
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([*rows, {"name": "mean"} | _flat(evaluation.means)])


def write_json(evaluation: Evaluation, path: Path | str, about: dict) -> None:
    """All of the evaluation under `about` (protocol, head, model, books, versions); NaN becomes null."""
    whole = {"about": about, **asdict(evaluation), "without_threshold": evaluation.without_threshold}
    text = json.dumps(_plain(whole), indent=2, ensure_ascii=False, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def plot_curves(
    labels: np.ndarray,
    scores: np.ndarray,
    names: list[str],
    evaluation: Evaluation,
    path_roc: Path | str,
    path_pr: Path | str,
) -> None:
    """labels [n, C], scores [n, C], names [C] as given to `evaluate` -> two plots, in the formats of the paths' suffixes.

    Raises ValueError where the evaluation is of other classes.
    """
    if list(names) != [result.name for result in evaluation.classes]:
        raise ValueError(f"the evaluation is of {[result.name for result in evaluation.classes]}, not of {list(names)}")
    columns = zip(np.asarray(labels).T, np.asarray(scores).T, evaluation.classes, strict=True)
    defined = [column for column in columns if column[2].name not in evaluation.undefined]
    rates = np.linspace(0, 1, 501)

    roc = [_Curve(result.name, result.auroc, *roc_curve(y, s)) for y, s, result in defined]
    if roc:
        mean = np.mean([np.interp(rates, curve.x, curve.y) for curve in roc], axis=0)
        roc.append(_Curve("mean", evaluation.means["auroc"], rates, mean))
    _plot(path_roc, roc, evaluation, "AUROC", "1 − specificity", "sensitivity", chance=_diagonal)

    recall_and_precision = [(*precision_recall_curve(y, s)[::-1], result) for y, s, result in defined]
'''
'''
