"""MIMIC-CXR-JPG's images: which split, view and study each has, by the two CSV files beside them, row by row.

Nothing is held of an image but its view and a hash of its name, some twenty bytes.
"""

import csv
import gzip
import hashlib
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mavl.prepare.problems import Problem

SPLITS = ("train", "validate", "test")
FRONTAL = ("PA", "AP")
ID_DIGITS = 18  # of a study at most, since it is kept in 64 bits; MIMIC's have 8
COLUMNS = {
    "split": ("dicom_id", "subject_id", "study_id", "split"),
    "metadata": ("dicom_id", "ViewPosition"),
}
"""What is read of the two files."""

Report = Callable[[Problem], object]


class MimicError(ValueError):
    """A file of MIMIC-CXR-JPG that is missing, damaged, or another; the message names it and the fix."""


class MimicImage(NamedTuple):
    """An image by its place below MIMIC-CXR-JPG's folder. view: None where the metadata do not know the image."""

    path: str
    split: str
    study: int
    view: str | None


def find_table(root: Path, name: str) -> Path:
    """mimic-cxr-2.0.0-NAME.csv, packed or not. MimicError where there is none."""
    found = [path for suffix in (".csv", ".csv.gz") for path in sorted(root.glob(f"mimic-cxr-*-{name}{suffix}"))]
    if not found:
        raise MimicError(f"{root}: holds no mimic-cxr-2.0.0-{name}.csv.gz; --root is MIMIC-CXR-JPG's folder")
    return found[0]


def check_table(root: Path, name: str) -> None:
    """MimicError where the table is missing, or cannot be read to its end."""
    for _ in rows(find_table(root, name), COLUMNS[name], lambda problem: None):
        pass


def images(root: Path, folder: str, report: Report) -> Iterator[MimicImage]:
    """Every image that the split file names; what is wrong with a row is reported, and the row passed over."""
    views, table = Views(find_table(root, "metadata")), find_table(root, "split")
    repeated, met = _repeated(table), set()
    for place, (dicom, subject, study, split) in rows(table, COLUMNS["split"], report):
        if not (subject.isdecimal() and study.isdecimal() and max(len(subject), len(study)) <= ID_DIGITS):
            report(Problem("unreadable row", f"subject_id {subject!r}, study_id {study!r}", place))
        elif split not in SPLITS:
            report(Problem("unknown split", f"{split!r}; expected one of {', '.join(SPLITS)}", place))
        else:
            path = "/".join(filter(None, (folder, f"p{subject[:2]}", f"p{subject}", f"s{study}", f"{dicom}.jpg")))
            if (key := _hash(f"{subject}/{study}/{dicom}")) in repeated:
                if key in met:
                    report(Problem("image twice", f"again at {place}, as {split}; the first row counts", path))
                    continue
                met.add(key)
            view = views.of(dicom)
            if view is None:
                report(Problem("image without metadata", "it has no view", path))
            yield MimicImage(path, split, int(study), view)


def _repeated(table: Path) -> set[int]:
    """Hashes of the images that several rows of the split file name."""
    every = array("Q")
    for _, (dicom, subject, study, _) in rows(table, COLUMNS["split"], lambda problem: None):
        every.append(_hash(f"{subject}/{study}/{dicom}"))
    hashes = np.sort(np.frombuffer(every, dtype=np.uint64)) if every else np.empty(0, dtype=np.uint64)
    return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def rows(path: Path, columns: Sequence[str], report: Report) -> Iterator[tuple[str, list[str]]]:
    """("FILE:LINE", the cells of these columns) of each row. MimicError for a bad file or one without them."""
    try:
        with _open(path) as file:
            lines = csv.reader(file)
            header = [name.strip() for name in next(lines, [])]
            if missing := [name for name in columns if name not in header]:
                raise MimicError(f"{path}: has no column {', '.join(missing)}; its columns are {', '.join(header)}")
            wanted = [header.index(name) for name in columns]
            for cells in lines:
                place = f"{path.name}:{lines.line_num}"
                if len(cells) > max(wanted):
                    yield place, [cells[column].strip() for column in wanted]
                elif cells:
                    report(Problem("unreadable row", f"{len(cells)} of {len(header)} cells", place))
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError, csv.Error) as error:
        raise MimicError(f"{path}: cannot be read to its end ({error}); download it again") from error


class Views:
    """Image id -> view, of the metadata file: 64 bits of a hash and a number for each image, sorted."""

    def __init__(self, path: Path):
        numbers: dict[str, int] = {}
        keys, codes = array("Q"), array("H")
        for _, (dicom, view) in rows(path, COLUMNS["metadata"], lambda problem: None):
            keys.append(_hash(dicom))
            codes.append(numbers.setdefault(view, len(numbers)))
        self.names = list(numbers)
        keys, codes = np.array(keys, dtype=np.uint64), np.array(codes, dtype=np.uint16)
        order = np.argsort(keys)
        self.keys, self.codes = keys[order], codes[order]

    def of(self, dicom: str) -> str | None:
        """The view of an image, which may be empty; None where the metadata do not have the image."""
        key = np.uint64(_hash(dicom))
        place = int(np.searchsorted(self.keys, key))
        return self.names[self.codes[place]] if place < len(self.keys) and self.keys[place] == key else None


def _open(path: Path):
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
