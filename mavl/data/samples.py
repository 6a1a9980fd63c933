"""Samples: where a training pair comes from. `samples[epoch, index]` -> (grey image, label matrix int8 [51, F]).

The image may be an `ImageFile` that is not decoded yet. `places` are for messages; a loader worker gets none, and gets
`paths` as one array, since these lists are most of what it would be sent.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from mavl.data import phantom
from mavl.data.benchmarks.splits import Split
from mavl.data.benchmarks.tables import Problem, raise_problems
from mavl.data.images.read import ImageFile
from mavl.data.labels import LabelStore, unlocated
from mavl.vocab import FINDINGS, UNKNOWN, unknown_name

Sample = tuple[Image.Image | ImageFile, np.ndarray]


class ManifestError(ValueError):
    """Training data that do not fit; the message names the file and the entry, or the setting."""


class _Listed:
    """What samples of listed images share: `paths` and `places`."""

    equalize = False

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        _, index = key
        return ImageFile(self.paths[index], equalize=self.equalize), self.matrix(index)

    def __getstate__(self) -> dict:
        """What a worker gets: the paths as an array of bytes, which takes less than half of their memory."""
        return self.__dict__ | {"paths": np.array([os.fsencode(path) for path in self.paths]), "places": ()}

    def without(self, positions: set[int]) -> Self:
        """The samples without those at these positions."""
        kept = [i for i in range(len(self)) if i not in positions]
        lists = {name: [getattr(self, name)[i] for i in kept] for name in ("paths", "places")}
        return self._keep(kept, **lists)


@dataclass(frozen=True)
class ReportSamples(_Listed):
    """MIMIC's images with label matrices from their reports, of the released JSON and NPY files."""

    paths: Sequence[Path]
    store: LabelStore
    study_rows: np.ndarray
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.study_rows)

    def matrix(self, index: int) -> np.ndarray:
        return self.store[self.study_rows[index]]

    def _keep(self, kept: Sequence[int], **changed) -> Self:
        return replace(self, study_rows=self.study_rows[kept], **changed)


@dataclass(frozen=True)
class TableSamples(_Listed):
    """Images with finding columns and no anatomy. labels int8 [n, F] in the order of the findings trained on."""

    paths: Sequence[Path]
    labels: np.ndarray
    places: Sequence[str]
    equalize: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def matrix(self, index: int) -> np.ndarray:
        return unlocated(self.labels[index])

    def _keep(self, kept: Sequence[int], **changed) -> Self:
        return replace(self, labels=self.labels[kept], **changed)


@dataclass(frozen=True)
class PhantomSamples:
    """FinetuneSplits images. With `fresh`, every epoch draws new ones; without, every epoch has the same `number`."""

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

    ManifestError for a file that cannot be read, and with every entry that has no study in the label file.
    """
    store = LabelStore(label_file, columns)
    try:
        entries, problems = examine_manifest(manifest, label_file, len(store))
        raise_problems(problems)
    except (OSError, ValueError) as error:
        fix = "data.train_file, valid_file and label_file name the released label files"
        raise ManifestError(f"{error}; {fix}") from error
    paths = [image_path(path, root, prefix) for path in entries]
    rows = np.array([entry["labels_id"] for entry in entries.values()])
    return ReportSamples(paths, store, rows, [f"{manifest.name}: {path}" for path in paths])


def examine_manifest(manifest: Path, label_file: Path, studies: int) -> tuple[dict[str, dict], list[Problem]]:
    """{image: entry} of the entries with one of the label file's studies, and the problems of the others.

    Errors for a manifest that cannot be read, as of `read_entries`.
    """
    entries, repeated = read_entries(manifest)
    text = "{} is named twice; the last one counts"
    problems = [Problem("repeated_row", manifest, text.format(key), tolerated=True) for key in repeated]
    kept = {}
    for path, entry in entries.items():
        row = entry.get("labels_id") if isinstance(entry, dict) else None
        if isinstance(row, int) and 0 <= row < studies:
            kept[path] = entry
        else:
            text = f"{path}: labels_id is {row!r}; {label_file} has {studies} studies"
            problems.append(Problem("label_store", manifest, text))
    return kept, problems


def image_path(name: str, root: Path | None, prefix: str) -> Path:
    """The file of an image that a manifest names."""
    return Path(name) if root is None else root / name.removeprefix(prefix).lstrip("/")


def read_entries(manifest: Path) -> tuple[dict, list[str]]:
    """{image: entry} of a manifest, and the keys that it holds twice, of which the last one counts.

    OSError where the file cannot be read; ValueError where it is empty or of another kind.
    """
    repeated: list[str] = []

    def to_dict(pairs: list[tuple[str, object]]) -> dict:
        content = dict(pairs)
        if len(content) < len(pairs):
            repeated.extend(key for key, number in Counter(key for key, _ in pairs).items() if number > 1)
        return content

    try:
        entries = json.loads(manifest.read_bytes(), object_pairs_hook=to_dict)
    except ValueError as error:
        raise ValueError(f"{manifest}: not JSON ({error})") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{manifest}: holds a {type(entries).__name__}, not an entry for each image path")
    if not entries:
        raise ValueError(f"{manifest}: names no image")
    return entries, repeated


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
