"""Samples: where a training pair comes from. `samples[epoch, index]` -> (grey image, label matrix int8 [51, F])."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mavl.data import phantom
from mavl.data.benchmarks import Split
from mavl.data.images import read_image
from mavl.data.labels import LabelStore, unlocated
from mavl.vocab import FINDINGS, UNKNOWN, unknown_name

Sample = tuple[Image.Image, np.ndarray]


class ManifestError(ValueError):
    """Training data that do not fit; the message names the file and the entry, or the setting."""


@dataclass(frozen=True)
class ReportSamples:
    """MIMIC's images with label matrices from their reports, of the released JSON and NPY files."""

    paths: Sequence[Path]
    store: LabelStore
    study_rows: Sequence[int]
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        _, index = key
        return read_image(self.paths[index]), self.store[self.study_rows[index]]

    def without(self, positions: set[int]) -> "ReportSamples":
        kept = [i for i in range(len(self)) if i not in positions]
        paths, rows, places = ([values[i] for i in kept] for values in (self.paths, self.study_rows, self.places))
        return ReportSamples(paths, self.store, rows, places)


@dataclass(frozen=True)
class TableSamples:
    """Images with finding columns and no anatomy. labels int8 [n, F] in the order of the findings trained on."""

    paths: Sequence[Path]
    labels: np.ndarray
    places: Sequence[str]
    equalize: bool

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        _, index = key
        return read_image(self.paths[index], equalize=self.equalize), unlocated(self.labels[index])

    def without(self, positions: set[int]) -> "TableSamples":
        kept = [i for i in range(len(self)) if i not in positions]
        paths, places = [self.paths[i] for i in kept], [self.places[i] for i in kept]
        return TableSamples(paths, self.labels[kept], places, self.equalize)


@dataclass(frozen=True)
class PhantomSamples:
    """Drawn images. With `fresh`, every epoch draws new ones; without, every epoch has the same `number`."""

    seed: int
    number: int
    size: int
    columns: list[int]
    exclude: tuple[str, ...] = ()
    fresh: bool = True

    def __post_init__(self):
        for name in self.exclude:  # here, since the first drawing is done by a worker
            if name not in phantom.FINDINGS:
                raise ManifestError(f"data.exclude: {unknown_name('phantom finding', name, phantom.FINDINGS)}")

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        drawn = phantom.draw(self.seed, epoch * self.fresh * self.number + index, self.size, self.exclude)
        return Image.fromarray(drawn.image), drawn.labels[:, self.columns]


def read_reports(
    manifest: Path, label_file: Path, root: Path | None, prefix: str, columns: list[int] | None
) -> ReportSamples:
    """The released `rad_graph_metric_*.json` with its NPY; `root` takes the place of the original author's folder.

    ManifestError for a file that cannot be read, an entry without `labels_id`, or a row the store does not have.
    """
    try:
        entries = _read_entries(manifest)
        store = LabelStore(label_file, columns)
        studies = len(store)
    except (OSError, ValueError) as error:
        fix = "data.train_file, valid_file and label_file name the released label files"
        raise ManifestError(f"{error}; {fix}") from error
    paths, rows, places = [], [], []
    for path, entry in entries.items():
        row = entry.get("labels_id") if isinstance(entry, dict) else None
        if not isinstance(row, int) or not 0 <= row < studies:
            raise ManifestError(f"{manifest}: {path}: labels_id is {row!r}; {label_file} has {studies} studies")
        if root is not None:
            path = root / path.removeprefix(prefix).lstrip("/")
        paths.append(Path(path))
        rows.append(row)
        places.append(f"{manifest.name}: {path}")
    return ReportSamples(paths, store, rows, places)


def _read_entries(manifest: Path) -> dict:
    try:
        entries = json.loads(manifest.read_bytes())
    except ValueError as error:
        raise ValueError(f"{manifest}: not JSON ({error})") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{manifest}: holds a {type(entries).__name__}, not an entry for each image path")
    if not entries:
        raise ValueError(f"{manifest}: names no image")
    return entries


def table_samples(split: Split, findings: Sequence[str], equalize: bool) -> TableSamples:
    """A benchmark's split as training samples; findings without a column are unknown everywhere."""
    labels = np.full((len(split.paths), len(findings)), UNKNOWN, dtype=np.int8)
    for column, finding in enumerate(findings):
        if finding in split.findings:
            labels[:, column] = split.labels[:, split.findings.index(finding)]
    if (labels == UNKNOWN).all():
        columns = ", ".join(split.findings)
        raise ManifestError(f"{split.name}: none of its columns ({columns}) is among the findings trained on")
    return TableSamples(split.paths, labels, split.rows, equalize)


def finding_columns(findings: Sequence[str]) -> list[int] | None:
    """Columns of the vocabulary for these findings; None when they are the whole vocabulary in order."""
    return None if tuple(findings) == FINDINGS else [FINDINGS.index(finding) for finding in findings]
