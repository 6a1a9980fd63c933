"""MIMIC's manifests and label store, read to their end whatever is wrong with them.

`mavl.data.samples.read_reports` refuses them at the first fault; here each is put down.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mavl.config.settings import MimicData
from mavl.data.benchmarks.splits import Split
from mavl.data.labels import LabelStore, finding_labels
from mavl.data.samples import finding_columns, image_path
from mavl.prepare.doctor.lists import Listed
from mavl.prepare.doctor.report import Found
from mavl.prepare.radgraph.mimic import MimicError, Views, find_table
from mavl.prepare.radgraph.released import IGNORED
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

PATIENT = re.compile(r"/(p\d{8})/")


def read_mimic(data: MimicData, findings: Sequence[str], root: Path | None, found: Found) -> list[Listed]:
    """The train and valid split of manifests with a label store; nothing where the store cannot be opened."""
    store, views = LabelStore(Path(data.label_file), finding_columns(findings)), _views(root, found)
    try:
        studies = len(store)
    except OSError:
        return []  # its absence is told by its path
    except ValueError as error:
        found.add("label_store", str(error))
        return []
    manifests = {"train": Path(data.train_file), "valid": Path(data.valid_file)}
    seen: dict[int, np.ndarray] = {}
    listed = []
    for name, manifest in manifests.items():
        paths, rows, places, told = [], [], [], []
        for path, entry in _entries(manifest, found):
            row = entry.get("labels_id") if isinstance(entry, dict) else None
            if not isinstance(row, int) or not 0 <= row < studies:
                line = f"{manifest.name}: {path}: labels_id is {row!r}; {data.label_file} has {studies} studies"
                found.add("label_store", line)
                continue
            rows.append(row)
            places.append(manifest.name)
            paths.append(image_path(path, root, data.prefix))
            told.append(_view(entry, paths[-1], views))
        if not rows:
            continue
        for row in sorted(set(rows) - seen.keys()):
            seen[row] = _study_labels(store, row, found)
        split = Split(
            name=name,
            findings=tuple(findings),
            paths=paths,
            labels=np.stack([seen[row] for row in rows]),
            groups=_patients(paths),
            rows=places,
            masks=None,
        )
        listed.append(Listed(split, told))
    return listed


def _entries(manifest: Path, found: Found) -> list[tuple[str, object]]:
    """(path, entry) of a manifest, those of a path that is named twice included."""
    try:
        entries = json.loads(manifest.read_bytes(), object_pairs_hook=_Pairs)
    except OSError:
        return []  # its absence is told by its path
    except ValueError as error:
        found.add("split_file", f"{manifest}: not JSON ({error})")
        return []
    if not isinstance(entries, _Pairs) or not entries:
        found.add("split_file", f"{manifest}: holds no entry for an image path")
        return []
    for path in entries.repeated:
        found.add("repeated_row", f"{manifest.name}: {path} is named twice; the last one counts")
    return list(entries.items())


class _Pairs(dict):
    """A JSON object that remembers the keys it was given twice."""

    def __init__(self, pairs: list[tuple[str, object]]):
        super().__init__(pairs)
        self.repeated = [] if len(self) == len(pairs) else _twice([key for key, _ in pairs])


def _twice(names: Sequence[str]) -> list[str]:
    series = pd.Series(names)
    return series[series.duplicated()].tolist()


def _study_labels(store: LabelStore, row: int, found: Found) -> np.ndarray:
    """Labels int8 [F] of a study."""
    matrix = store[row]
    if strange := set(np.unique(matrix).tolist()) - {PRESENT, ABSENT, UNKNOWN, IGNORED}:
        found.add("label_value", f"{store.path}: row {row} holds {', '.join(map(str, sorted(strange)))}")
    return finding_labels(matrix)


def _patients(paths: Sequence[Path]) -> list[str] | None:
    patients = [PATIENT.search(path.as_posix()) for path in paths]
    return [match[1] for match in patients] if all(patients) else None


def _views(root: Path | None, found: Found) -> Views | None:
    """The view of each image, where the metadata file of MIMIC-CXR-JPG lies in the root or above it."""
    for folder in [] if root is None else [root, root.absolute().parent]:
        try:
            file = find_table(folder, "metadata")
        except MimicError:
            continue  # it is not needed
        try:
            return Views(file)
        except MimicError as error:
            found.add("split_file", str(error))
    return None


def _view(entry: dict, path: Path, views: Views | None) -> str:
    """The view that the manifest tells, or else the metadata."""
    return entry.get("view") or (views.of(path.stem) if views is not None else "") or ""
