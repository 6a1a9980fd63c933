"""The files of an inspection of books: a page, problems and nearest neighbours as CSV, and similarity maps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.concepts.inspection import Inspection, Problem
from mavl.concepts.similarity import Similarity
from mavl.files import whole_file, write_text
from mavl.progress import plural
from mavl.report.page import figure_uri, render
from mavl.report.tables import write_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, PROBLEMS, NEIGHBOURS = "report.html", "problems.csv", "neighbours.csv"
MAPS = ("similarity_words.png", "similarity_encoder.png")
MOST_DRAWN = 500
"""Most findings of a map of similarity."""

NEAREST, PLACES = 5, 4
"""Neighbours of a finding, and places of a problem that are shown; further places are counted."""


def write(inspection: Inspection, folder: Path) -> Path:
    """Write all files into the folder; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (PROBLEMS, NEIGHBOURS, *MAPS):  # of an earlier inspection; this one may have none to replace them
        (folder / name).unlink(missing_ok=True)
    maps, nearest, rows = {}, [], []
    for name, similarity in zip(MAPS, inspection.similarities, strict=False):
        if len(similarity.findings) <= MOST_DRAWN:
            with whole_file(folder / name, "wb") as file:
                similarity_map(similarity).savefig(file, format="png", dpi=130, bbox_inches="tight")
            maps[similarity.measure] = figure_uri(folder / name)
        nearest.append(dict(similarity.neighbours(NEAREST)))
        rows += [
            {
                "finding": finding,
                "measure": similarity.measure,
                "rank": rank,
                "neighbour": other,
                "cosine": round(value, 4),
            }
            for finding, others in nearest[-1].items()
            for rank, (other, value) in enumerate(others, start=1)
        ]
    problems = [
        {"kind": problem.kind, "where": "; ".join(problem.where), "what": problem.text, "why it stays": problem.reason}
        for problem in (*inspection.problems, *inspection.justified)
    ]
    for name, table in ((PROBLEMS, problems), (NEIGHBOURS, rows)):
        if table:
            write_rows(table, folder / name)
    html = render("inspection.html", inspection=inspection, maps=maps, nearest=nearest, places=places)
    write_text(folder / PAGE, html)
    return folder / PAGE


def lines(inspection: Inspection) -> list[str]:
    """The outcome for the terminal: a line for each problem, then the counts."""
    shown = [f"{problem.kind}: {places(problem)}: {problem.text}" for problem in inspection.problems]
    shown += [f"note: justified without need: {name}" for name in inspection.unused]
    of, compared = inspection.entries.lines, " and by ".join(each.measure for each in inspection.similarities)
    if any(len(each.findings) > MOST_DRAWN for each in inspection.similarities):
        shown.append(f"note: no map of the similarity of more than {MOST_DRAWN} findings")
    counts = f"{plural(len(of), 'finding')}, {plural(sum(map(len, of.values())), 'line')}, " + (
        f"compared by {compared}" if compared else "not compared"
    )
    return [*shown, f"{counts}: {len(inspection.problems)} to mend, {len(inspection.justified)} justified"]


def places(problem: Problem) -> str:
    """The places of a problem in one line."""
    rest = len(problem.where) - PLACES
    return ", ".join(problem.where[:PLACES]) + (f" and {rest} more" if rest > 0 else "")


def similarity_map(similarity: Similarity) -> Figure:
    """Findings × findings, similar ones side by side (average linkage); a frame marks what is too similar."""
    from matplotlib.figure import Figure
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distance = np.clip(1 - (similarity.values + similarity.values.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    order = leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))
    values, names = similarity.values[np.ix_(order, order)], [similarity.findings[i] for i in order]
    np.fill_diagonal(values, np.nan)
    side = max(5.0, 1.5 + 0.15 * len(names))
    figure = Figure(figsize=(side, side))
    axes = figure.add_subplot(facecolor="0.85")
    image = axes.imshow(values, cmap="magma_r", vmin=0, vmax=max(similarity.threshold, np.nanmax(values)))
    near = np.argwhere(values >= similarity.threshold)
    axes.plot(near[:, 1], near[:, 0], "s", markersize=9, markerfacecolor="none", markeredgecolor="#0072b2")
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label(f"cosine by {similarity.measure}; a frame from {similarity.threshold:.2f} on", parse_math=False)
    return figure
