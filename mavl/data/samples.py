"""Samples: where a training pair comes from. `samples[epoch, index]` -> (grey image, label matrix int8 [51, F])."""

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from PIL import Image

from mavl.data import DataError, phantom
from mavl.data.benchmarks.rows import Problem, raise_problems
from mavl.data.benchmarks.splits import Split
from mavl.data.benchmarks.tables import normal_path
from mavl.data.images.read import ImageFile
from mavl.data.labels import LabelStore, Selection, unlocated
from mavl.data.lists import ImageList, cached, stored
from mavl.files import NotJSONError, read_json
from mavl.vocab import ANATOMIES, UNKNOWN, unknown_name

Sample = tuple[Image.Image | ImageFile, np.ndarray]


@dataclass(frozen=True)
class ListedSamples:
    """Images that a manifest or a table lists, not decoded yet.

    images: with labels int8 [n, F] without anatomies, or with a `store` the row of each image's study [n].
    anatomies: names of the rows of the label matrices, of those without a store.
    """

    images: ImageList
    store: LabelStore | None = None
    equalize: bool = False
    anatomies: tuple[str, ...] = ANATOMIES

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        label = self.images.label(key[1])
        matrix = unlocated(label, self.anatomies) if self.store is None else self.store[label]
        return ImageFile(self.images[key[1]], equalize=self.equalize), matrix

    def study(self, index: int) -> int:
        """The row of an image's study in the store."""
        return int(self.images.label(index))

    def without(self, indices: Collection[int]) -> Self:
        """The samples without these."""
        return replace(self, images=self.images.without(indices)) if indices else self


@dataclass(frozen=True)
class PhantomSamples:
    """Phantoms made when they are read. With `fresh`, every epoch has new ones; without, the same `number`."""

    seed: int
    number: int
    size: int
    selection: Selection
    exclude: tuple[str, ...] = ()
    fresh: bool = True

    def __post_init__(self):
        for name in self.exclude:  # here, since the first phantom is made in a worker
            if name not in phantom.FINDINGS:
                raise DataError(f"data.exclude: {unknown_name('phantom finding', name, phantom.FINDINGS)}")

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        made = phantom.draw(self.seed, epoch * self.fresh * self.number + index, self.size, self.exclude)
        return Image.fromarray(made.image), self.selection(made.labels)


def read_reports(
    manifest: Path, store: LabelStore, root: Path | None, prefix: str, cache: Path | None = None
) -> ListedSamples:
    """The released `rad_graph_metric_*.json` with its NPY; `root` replaces the original author's folder.

    DataError for a file that cannot be read, and with every entry that has no study in the label file. With a list of
    the same content in the cache, the manifest is not parsed.
    """

    def build() -> ImageList:
        entries, problems = examine_manifest(manifest, store.path, len(store))
        raise_problems(problems)
        rows = np.array([entry["labels_id"] for entry in entries.values()])
        names = (_image_name(path, root, prefix) for path in entries)
        return ImageList.pack(root, names, (f"{manifest.name}: {path}" for path in entries), rows)

    try:
        with open(manifest, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        base = os.path.abspath(root) if root else ""
        key = ("manifest", manifest.name, content, str(len(store)), base, prefix)
        images = cached(cache, key, root, build)
    except (OSError, ValueError) as error:
        fix = "data.labels, or data.train_file, valid_file and label_file, name the files of a label store"
        raise DataError(f"{error}; {fix}") from error
    return ListedSamples(images, store)


def examine_manifest(manifest: Path, label_file: Path, studies: int) -> tuple[dict[str, dict], list[Problem]]:
    """{image: entry} of the entries with one of the label file's studies, and the problems of the others.

    Errors for a manifest that cannot be read, as of `read_entries`.
    """
    (entries, problems), kept = read_entries(manifest), {}
    spellings: dict[str, str] = {}
    for path, entry in entries.items():
        row = entry.get("labels_id") if isinstance(entry, dict) else None
        other = spellings.setdefault(normal_path(path), path)
        if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < studies:
            text = f"{path}: labels_id is {row!r}; {label_file} has {studies} studies"
            problems.append(Problem("label_store", manifest, text))
        elif other != path:
            text = f"{path} is {other} in another spelling: keep one of them"
            alike = entries[other] == entry
            problems.append(Problem("repeated_row" if alike else "label_conflict", manifest, text, tolerated=alike))
        else:
            kept[path] = entry
    return kept, problems


def image_path(name: str, root: Path | None, prefix: str) -> Path:
    """The file of an image in a manifest."""
    name = _image_name(name, root, prefix)
    return Path(name) if root is None else root / name


def _image_name(name: str, root: Path | None, prefix: str) -> str:
    """The name of an image in a manifest: below the root, if there is one."""
    name = name.replace("\\", "/")
    return normal_path(name if root is None else name.removeprefix(prefix).lstrip("/")) or "."


def read_entries(manifest: Path) -> tuple[dict, list[Problem]]:
    """{image: entry} of a manifest, and a problem for each key that occurs twice in it, tolerated for equal entries.

    OSError if the file cannot be read; ValueError if it is empty or of another kind.
    """
    problems: list[Problem] = []

    def to_dict(pairs: list[tuple[str, object]]) -> dict:
        content = dict(pairs)
        if len(content) < len(pairs):
            for key in Counter(key for key, _ in pairs) - Counter(content.keys()):
                alike = all(value == content[key] for name, value in pairs if name == key)
                text = f"{key} is named twice{'' if alike else ', with different entries'}: keep one of them"
                problems.append(Problem("repeated_row" if alike else "label_conflict", manifest, text, tolerated=alike))
        return content

    try:
        entries = read_json(manifest, to_dict)
    except NotJSONError as error:
        raise ValueError(str(error)) from error
    if not isinstance(entries, dict):
        raise ValueError(f"{manifest}: holds a {type(entries).__name__}, not an entry for each image path")
    if not entries:
        raise ValueError(f"{manifest}: names no image")
    return entries, problems


def table_samples(
    split: Split,
    findings: Sequence[str],
    anatomies: tuple[str, ...],
    equalize: bool,
    root: Path | None,
    cache: Path | None = None,
) -> ListedSamples:
    """A benchmark's split as training samples; findings without a column are unknown everywhere."""
    labels = pd.DataFrame(split.labels, columns=list(split.findings)).reindex(columns=findings, fill_value=UNKNOWN)
    labels = labels.to_numpy(np.int8)
    if (labels == UNKNOWN).all():
        columns = ", ".join(split.findings)
        raise DataError(f"{split.name}: none of its columns ({columns}) is among the findings trained on")
    images = ImageList.of_paths(root, split.paths, split.rows, labels)
    return ListedSamples(stored(cache, images), equalize=equalize, anatomies=anatomies)
