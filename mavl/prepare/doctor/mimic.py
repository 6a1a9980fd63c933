"""MIMIC's manifests and label store as splits, with the faults of both."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mavl.config.data import MimicData, ReportData
from mavl.data.benchmarks.splits import Split
from mavl.data.labels import LabelStore, finding_labels
from mavl.data.samples import examine_manifest, image_path
from mavl.prepare.doctor.report import Diagnosis
from mavl.prepare.radgraph.mimic import MimicError, find_table, read_views
from mavl.prepare.radgraph.released import IGNORED
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

PATIENT = re.compile(r"/(p\d{8})/")


def read_mimic(
    data: MimicData | ReportData, findings: Sequence[str], root: Path | None, diagnosis: Diagnosis
) -> Iterator[Split]:
    """The train and valid split; none where the label store cannot be read. Missing files are not reported here."""
    views, labels = _views(root, diagnosis), {}
    try:
        store = LabelStore(Path(data.label_file), findings)
        studies = len(store)
    except OSError:
        return
    except ValueError as error:
        diagnosis.add("label_store", str(error))
        return
    for name, manifest in (("train", Path(data.train_file)), ("valid", Path(data.valid_file))):
        try:
            entries, problems = examine_manifest(manifest, store.path, studies)
        except OSError:
            continue
        except ValueError as error:
            diagnosis.add("split_file", str(error))
            continue
        for problem in problems:
            diagnosis.add(problem.kind, str(problem))
        if not entries:
            continue
        rows = [entry["labels_id"] for entry in entries.values()]
        labels |= {row: _study_labels(store, row, diagnosis) for row in sorted(set(rows) - labels.keys())}
        paths = [image_path(path, root, data.prefix) for path in entries]
        patients = [PATIENT.search(path.as_posix()) for path in paths]
        yield Split(
            name=name,
            findings=tuple(findings),
            paths=paths,
            labels=np.stack([labels[row] for row in rows]),
            groups=[match[1] for match in patients if match] if all(patients) else None,
            rows=[manifest.name] * len(paths),
            masks=None,
            views=[
                entry.get("view") or views.get(path.stem, "")
                for entry, path in zip(entries.values(), paths, strict=True)
            ],
        )


def _study_labels(store: LabelStore, row: int, diagnosis: Diagnosis) -> np.ndarray:
    """Labels int8 [F] of a study."""
    matrix = store[row]
    if strange := set(np.unique(matrix).tolist()) - {PRESENT, ABSENT, UNKNOWN, IGNORED}:
        diagnosis.add("label_value", f"{store.path}: row {row} holds {', '.join(map(str, sorted(strange)))}")
    return finding_labels(matrix)


def _views(root: Path | None, diagnosis: Diagnosis) -> dict[str, str]:
    """The views by the metadata file of MIMIC-CXR-JPG, if it lies in the root or above it: it is optional."""
    for folder in [] if root is None else [root, root.absolute().parent]:
        if find_table(folder, "metadata"):
            try:
                return read_views(folder, [])
            except MimicError as error:
                diagnosis.add("split_file", str(error))
    return {}
