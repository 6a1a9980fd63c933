"""What people look at after a segmentation: table, CSV and JSON, a page with outlined images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mavl.metrics.segmentation import SegmentationResult
from mavl.report import page
from mavl.report.tables import dump_json, percent, percent_bounds, write_rows
from mavl.train.finetune import plus_minus

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = {"dice": "Dice", "dice_positive": "pos.", "dice_empty": "empty", "iou": "IoU"}
LONG_HEADINGS = HEADINGS | {"dice_positive": "Dice, with a mask", "dice_empty": "Dice, empty mask"}


@dataclass(frozen=True)
class Case:
    """An image of the gallery: picture (mode "L"), masks bool [h, w] in any frame over it, the share that ranks it."""

    name: str
    picture: Image.Image
    true: np.ndarray
    predicted: np.ndarray
    value: float


def table(results: Mapping[str, SegmentationResult], title: str, caption: Sequence[str] = ()) -> Table:
    """A row for each prediction, the model's first, in percent, for 80 columns; below, how to read it."""
    columns = [text for heading in HEADINGS.values() for text in (heading, "95 %")]
    rows = {
        name: [cell for mean in result.means.values() for cell in (percent(mean.value), percent_bounds(mean))]
        for name, result in results.items()
    }
    return _table(columns, rows, title, [*caption, *notes(results)])


def seeds_table(summary: Mapping[str, Mapping[str, dict]], title: str, caption: Sequence[str] = ()) -> Table:
    """A row for each prediction: mean and standard deviation over seeds, in percent."""
    rows = {name: [plus_minus(figure) for figure in figures.values()] for name, figures in summary.items()}
    return _table(list(HEADINGS.values()), rows, title, caption)


def _table(columns: Sequence[str], rows: Mapping[str, Sequence[str]], title: str, caption: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.caption, table.caption_justify = Text("\n".join(["", *caption]), "dim not italic"), "left"
    table.add_column("prediction")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for row, (name, cells) in enumerate(rows.items()):
        table.add_row(Text(name), *cells, style="dim" if row else "")
    return table


def notes(results: Mapping[str, SegmentationResult]) -> list[str]:
    """How the numbers came about, a sentence each."""
    result = next(iter(results.values()))
    lines = [
        f"{result.images} images, {result.positives} with a mask.",
        "Dice: mean over images; of an empty mask 1 where nothing is predicted, or 0.",
        "pos., empty: over the images with a mask, and over those without.",
        "IoU: (both + 1) / (either + 1), mean over images.",
    ]
    if result.resamples:
        drawn = "images" if result.groups is None else f"{result.groups} patients"
        lines.append(f"95 %: bootstrap, {result.resamples} resamples of {drawn}.")
    return lines


def write_csv(results: Mapping[str, SegmentationResult], path: Path) -> None:
    """A row for each prediction; an interval takes three columns, and what is undefined is an empty cell."""
    write_rows(
        [
            {"prediction": name, "images": result.images, "positives": result.positives, **result.means}
            for name, result in results.items()
        ],
        path,
    )


def write_json(results: Mapping[str, SegmentationResult], path: Path, about: dict) -> None:
    """The results after `about`; NaN becomes null."""
    told = {
        name: vars(result) | {"means": {metric: vars(mean) for metric, mean in result.means.items()}}
        for name, result in results.items()
    }
    dump_json({"about": about, "predictions": told}, path)


def write_page(
    folder: Path,
    results: Mapping[str, SegmentationResult],
    about: dict,
    curves: Path,
    gallery: Mapping[str, Sequence[Case]],
) -> Path:
    """The page into a run folder: table, training curves, the cases under their headings, where all comes from."""
    shown = {
        kind: [
            page.film(case.picture, None, {"true": case.true, "predicted": case.predicted})
            | {"name": case.name, "value": case.value}
            for case in cases
        ]
        for kind, cases in gallery.items()
    }
    return page.write_report(
        folder,
        "segmentation.html",
        about=about,
        results=results,
        headings=LONG_HEADINGS,
        notes=notes(results),
        curves=page.figure_uri(curves),
        gallery=shown,
    )
