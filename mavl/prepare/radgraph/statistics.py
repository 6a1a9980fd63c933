"""The numbers of studies with each finding present, and absent, at each anatomy: a table and a picture."""

import csv
from collections.abc import Mapping
from typing import IO

import numpy as np

from mavl.vocab import ANATOMIES, FINDINGS

COLOURS = {"present": "Reds", "absent": "Blues"}


def write_table(counts: Mapping[str, np.ndarray], file: IO[str]) -> None:
    """Write a CSV row for each finding and anatomy. counts: int [51, 75] each."""
    rows = csv.writer(file)
    rows.writerow(["finding", "anatomy", *counts])
    for column, finding in enumerate(FINDINGS):
        for row, anatomy in enumerate(ANATOMIES):
            rows.writerow([finding, anatomy, *(of_name[row, column] for of_name in counts.values())])


def draw_picture(counts: Mapping[str, np.ndarray], studies: int, file: IO[bytes]) -> None:
    """Draw two PNG heatmaps, findings × anatomies: studies with the finding present, and absent. Zero is blank."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(22, 16))
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.11, top=0.94, wspace=0.02)
    figure.suptitle(f"Findings by anatomy in the reports of {studies:,} studies", fontsize=17)
    for number, (name, of_name) in enumerate(counts.items()):
        axes = figure.add_subplot(1, 2, number + 1, title=f"{name}: {of_name.sum():,} labels")
        scale = LogNorm(1, max(10, int(of_name.max())))
        cells = np.ma.masked_less(of_name.T, 1)
        image = axes.imshow(cells, COLOURS[name], scale, aspect="auto", interpolation="none")
        axes.set_xticks(range(len(ANATOMIES)), ANATOMIES, rotation=90, fontsize=9)
        axes.set_yticks(range(len(FINDINGS)), FINDINGS if number == 0 else [], fontsize=9)
        axes.hlines(np.arange(0.5, len(FINDINGS)), -0.5, len(ANATOMIES) - 0.5, color="0.9", linewidth=0.5)
        axes.vlines(np.arange(0.5, len(ANATOMIES)), -0.5, len(FINDINGS) - 0.5, color="0.9", linewidth=0.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label="studies", shrink=0.5, pad=0.01)
    figure.savefig(file, format="png", dpi=110)
