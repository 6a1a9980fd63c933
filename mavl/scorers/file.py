"""Scores that another program computed, as a model: `file:SCORES.csv`, a row for each image.

A column `image` or `path` names the image, as in the list of the benchmark: below its root, by the whole path, or by
the end of it. Each other column is a finding, by its name or a synonym, also as NAME_score; the scores are any numbers,
the larger the more likely. So any closed model, any other code, and a reader study can be evaluated.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mavl.backbones import PatchGrid, Preprocessing
from mavl.data import DataError
from mavl.data.benchmarks.tables import Table, TableFormat, normal_path, read_table
from mavl.files import csv_text
from mavl.progress import plural
from mavl.scorers.maps import MapsScorer
from mavl.scorers.protocol import ScorerError, ScorerOptions
from mavl.text.synonyms import resolve
from mavl.vocab import UnknownFindingError

NAMES = ("image", "path")
SCORE = "_score"


class FileScorer:
    """The scores of a table. It scores the images that the table names, and has no heatmaps."""

    preprocessing = Preprocessing(image_size=64)
    trained_findings: tuple[str, ...] = ()
    patch_grid: PatchGrid | None = None

    def __init__(self, file: Path, table: Table, column: str):
        self.file, self.table = file, table
        self.columns = [name for name in table.cells.columns if name != column]
        self.rows: dict[str, list[tuple[int, str]]] = {}
        for row, text in enumerate(table.column(column)):
            name = normal_path(csv_text(text))
            self.rows.setdefault(name.rpartition("/")[2], []).append((row, name))

    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        raise ScorerError(f"{self.file} has scores of images by their names, not of pixels")

    def listed_scores(self, images: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """[n, C] of images by their names below the root of the benchmark.

        ScorerError for an image that no row, or several, name, a finding without a column, and a cell without a number.
        """
        rows = self._rows_of(images)
        scores = np.empty((len(images), len(findings)))
        for c, cells in enumerate(self._column(name) for name in findings):
            for i, row in enumerate(rows):
                try:
                    scores[i, c] = float(cells[row])
                except ValueError:
                    scores[i, c] = math.nan
                if not math.isfinite(scores[i, c]):
                    place = self.table.place(row)
                    raise ScorerError(f"{place}: the score of {findings[c]} is {cells[row]!r}, not a finite number")
        return scores

    def listed_heatmaps(
        self, images: Sequence[str], findings: Sequence[str], cases: Sequence[tuple[int, str]]
    ) -> np.ndarray:
        raise ScorerError(f"{self.file} has scores; for grounding give a folder of heatmaps (mavl/scorers/maps.py)")

    def lists_any(self, images: Sequence[str]) -> bool:
        return any(self._named(image) for image in images)

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> None:
        return None

    def describe(self) -> dict:
        return {"model": f"file:{self.file}", "map": "none: a table of scores"}

    def _rows_of(self, images: Sequence[str]) -> list[int]:
        rows, missing, taken = [], [], {}
        for image in images:
            found = self._named(image)
            if len(found) > 1:
                places = " and ".join(self.table.place(row) for row in found[:2])
                raise ScorerError(f"{places} both name {image}: keep one of them, or write their folders")
            if not found:
                missing.append(image)
                continue
            if (other := taken.setdefault(found[0], image)) != image:
                raise ScorerError(f"{self.table.place(found[0])} could be {other} or {image}: write its folder")
            rows += found
        if missing:
            what = plural(len(missing), "image")
            raise ScorerError(f"{self.file}: {what} of the benchmark in no row, such as {missing[0]}")
        return rows

    def _named(self, image: str) -> list[int]:
        """The rows that may name an image."""
        return [row for row, name in self.rows.get(image.rpartition("/")[2], ()) if _same(name, image)]

    def _column(self, finding: str) -> list[str]:
        """The cells of a finding."""
        found = []
        for column in self.columns:
            name = str(column).removesuffix(SCORE)
            try:
                meant = resolve(name, [finding])
            except UnknownFindingError:
                continue
            if meant == finding:
                found.append(column)
        if len(found) != 1:
            what = f"{len(found)} columns mean it, {', '.join(found)}" if found else "no column means it"
            raise ScorerError(f"{self.file}: {finding}: {what}; columns are {', '.join(map(str, self.columns))}")
        return self.table.column(found[0])


def _same(name: str, image: str) -> bool:
    """Whether one of two paths is the end of the other."""
    return f"/{name}".endswith(f"/{image}") or f"/{image}".endswith(f"/{name}")


def open_file(name: str, options: ScorerOptions, device: torch.device) -> FileScorer | MapsScorer:
    """The scorer of a table, or of a folder of heatmaps; ScorerError for a file that is none."""
    file = Path(name)
    if file.is_dir():
        return MapsScorer(file)
    try:
        table = read_table(file, TableFormat())
    except (DataError, OSError, ValueError) as error:
        raise ScorerError(f"file:{name}: {error}") from error
    named = [column for column in NAMES if column in table.cells.columns]
    if not named:
        raise ScorerError(f"{file}: no column image or path; it has {', '.join(map(str, table.cells.columns))}")
    return FileScorer(file, table, named[0])
