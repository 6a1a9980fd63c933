"""The files of an inspection of books: a page, problems and nearest neighbours as CSV, and similarity maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.concepts.inspection import Inspection, Problem
from mavl.concepts.similarity import Similarity
from mavl.files import write_text
from mavl.report.page import figure_uri, render
from mavl.report.tables import write_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, PROBLEMS, NEIGHBOURS = "report.html", "problems.csv", "neighbours.csv"
MAPS = ("similarity_words.png", "similarity_encoder.png")
NEAREST = 5
_SHOWN = 4
"""Places of a problem that its line names; the rest are counted."""


def write(inspection: Inspection, folder: Path) -> Path:
    """Write all files into the folder; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PROBLEMS, NEIGHBOURS, *MAPS):  # of a former inspection; this one may have none to replace them
        (folder / name).unlink(missing_ok=True)
    pictures = {}
    for name, similarity in zip(MAPS, inspection.similarities, strict=False):
        similarity_map(similarity).savefig(folder / name, dpi=130, bbox_inches="tight")
        pictures[similarity.measure] = figure_uri(folder / name)
    problems = [
        {"kind": problem.kind, "where": "; ".join(problem.where), "what": problem.text, "why it stays": problem.reason}
        for problem in (*inspection.problems, *inspection.justified)
    ]
    neighbours = [
        {"finding": finding, "measure": similarity.measure, "rank": rank, "neighbour": name, "cosine": round(value, 4)}
        for similarity in inspection.similarities
        for finding, nearest in similarity.neighbours(NEAREST)
        for rank, (name, value) in enumerate(nearest, start=1)
    ]
    for rows, name in ((problems, PROBLEMS), (neighbours, NEIGHBOURS)):
        if rows:
            write_rows(rows, folder / name)
    nearest = [dict(similarity.neighbours(NEAREST)) for similarity in inspection.similarities]
    html = render("inspection.html", inspection=inspection, maps=pictures, nearest=nearest, places=places)
    write_text(folder / PAGE, html)
    return folder / PAGE


def lines(inspection: Inspection) -> list[str]:
    """The outcome for the terminal: a line for each problem, then the counts."""
    entries = inspection.entries
    shown = [f"{problem.kind}: {places(problem)}: {problem.text}" for problem in inspection.problems]
    shown += [f"note: justified without need: {name}" for name in inspection.unused]
    compared = " and by ".join(similarity.measure for similarity in inspection.similarities)
    counts = f"{len(entries.lines)} findings, {sum(map(len, entries.lines.values()))} lines"
    counts += f", compared by {compared}" if compared else ", not compared"
    return [*shown, f"{counts}: {len(inspection.problems)} to mend, {len(inspection.justified)} justified"]


def places(problem: Problem) -> str:
    """The places of a problem in one line."""
    rest = len(problem.where) - _SHOWN
    return ", ".join(problem.where[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def similarity_map(similarity: Similarity) -> Figure:
    """Findings × findings, similar ones side by side (average linkage); a frame marks what is too near."""
    from matplotlib.figure import Figure

    order = clustered(similarity.values)
    values = similarity.values[np.ix_(order, order)].copy()
    np.fill_diagonal(values, np.nan)
    names = [similarity.findings[i] for i in order]
    side = max(5.0, 1.5 + 0.15 * len(names))
    figure = Figure(figsize=(side, side))
    axes = figure.add_subplot(facecolor="0.85")
    top = max(similarity.threshold, float(np.nanmax(values)))
    image = axes.imshow(values, cmap="magma_r", vmin=0, vmax=top, interpolation="none")
    near = np.argwhere(values >= similarity.threshold)
    axes.plot(near[:, 1], near[:, 0], "s", markersize=9, markerfacecolor="none", markeredgecolor="#0072b2", linewidth=0)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    edges = np.arange(-0.5, len(names))
    axes.hlines(edges, -0.5, edges[-1], "white", linewidth=0.3)
    axes.vlines(edges, -0.5, edges[-1], "white", linewidth=0.3)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label(f"cosine by {similarity.measure}; a frame from {similarity.threshold:.2f} on", parse_math=False)
    return figure


def clustered(values: np.ndarray) -> list[int]:
    """An order of [F, F] cosines in which the similar stand side by side."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = np.clip(1 - (values + values.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True)).tolist()
