"""The numbers of studies that report a finding at an anatomy: a table and a picture."""

import csv
from typing import IO

import numpy as np

from mavl.prepare.radgraph.labels import Totals
from mavl.vocab import ANATOMIES, FINDINGS

COLUMNS = ["finding", "anatomy", "present", "absent"]

_COLOURS = {"present": "Reds", "absent": "Blues"}


def write_table(totals: Totals, file: IO[str]) -> None:
    """A row for each finding and anatomy: the number of studies where it is present there, and where it is absent."""
    rows = csv.writer(file)
    rows.writerow(COLUMNS)
    for column, finding in enumerate(FINDINGS):
        for row, anatomy in enumerate(ANATOMIES):
            rows.writerow([finding, anatomy, totals.present[row, column], totals.absent[row, column]])


def draw_picture(totals: Totals, file: IO[bytes]) -> None:
    """Two PNG heatmaps, findings × anatomies: studies with the finding present, and absent. Zero is blank."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(22, 16))
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.11, top=0.94, wspace=0.02)
    figure.suptitle(f"Findings by anatomy in the reports of {len(totals.studies):,} studies", fontsize=17)
    for number, (name, colours) in enumerate(_COLOURS.items()):
        counts = getattr(totals, name).T
        axes = figure.add_subplot(1, 2, number + 1, title=f"{name}: {counts.sum():,} labels")
        scale = LogNorm(1, max(10, int(counts.max())))
        image = axes.imshow(np.ma.masked_less(counts, 1), colours, scale, aspect="auto", interpolation="none")
        axes.set_xticks(range(len(ANATOMIES)), ANATOMIES, rotation=90, fontsize=9)
        axes.set_yticks(range(len(FINDINGS)), FINDINGS if number == 0 else [], fontsize=9)
        axes.hlines(np.arange(0.5, len(FINDINGS)), -0.5, len(ANATOMIES) - 0.5, color="0.9", linewidth=0.5)
        axes.vlines(np.arange(0.5, len(ANATOMIES)), -0.5, len(FINDINGS) - 0.5, color="0.9", linewidth=0.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label="studies", shrink=0.5, pad=0.01)
    figure.savefig(file, format="png", dpi=110)
