"""The split, view and study of each image of MIMIC-CXR-JPG, from the two CSV files beside the images."""

import csv
import gzip
import hashlib
import zlib
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mavl.prepare.problems import Problem, Report

SPLITS = ("train", "validate", "test")
FRONTAL = ("PA", "AP")
ID_DIGITS = 18  # at most, since study ids are stored in 64 bits; MIMIC's have 8 digits
COLUMNS = {"split": ("dicom_id", "subject_id", "study_id", "split"), "metadata": ("dicom_id", "ViewPosition")}
"""The columns that are read of the two files."""


class MimicError(ValueError):
    """A file of MIMIC-CXR-JPG that is missing, damaged, or another; the message names it and the fix."""


class MimicImage(NamedTuple):
    """An image. path: below MIMIC-CXR-JPG's folder; view: None where the metadata do not have the image."""

    path: str
    split: str
    study: int
    view: str | None


def find_table(root: Path, name: str) -> Path:
    """mimic-cxr-2.0.0-NAME.csv or .csv.gz. MimicError where there is none."""
    found = [path for suffix in (".csv", ".csv.gz") for path in sorted(root.glob(f"mimic-cxr-*-{name}{suffix}"))]
    if not found:
        raise MimicError(f"{root}: holds no mimic-cxr-2.0.0-{name}.csv.gz; --root is MIMIC-CXR-JPG's folder")
    return found[0]


def check_table(root: Path, name: str) -> None:
    """MimicError where the table is missing, or cannot be read to its end."""
    for _ in rows(find_table(root, name), COLUMNS[name]):
        pass


def images(root: Path, folder: str, report: Report) -> Iterator[MimicImage]:
    """Each image of the split file. A row with a fault is reported and left out, as is a repeated image."""
    views, table = Views(find_table(root, "metadata")), find_table(root, "split")
    repeated, seen = _repeated(table), set()
    for place, (dicom, subject, study, split) in rows(table, COLUMNS["split"], report):
        path = "/".join(filter(None, (folder, f"p{subject[:2]}", f"p{subject}", f"s{study}", f"{dicom}.jpg")))
        if not (subject.isdecimal() and study.isdecimal() and max(len(subject), len(study)) <= ID_DIGITS):
            report(Problem("unreadable row", f"subject_id {subject!r}, study_id {study!r}", place))
        elif split not in SPLITS:
            report(Problem("unknown split", f"{split!r}; expected one of {', '.join(SPLITS)}", place))
        elif path in seen:
            report(Problem("image twice", f"again at {place}, as {split}; the first row counts", path))
        else:
            if _hash(dicom) in repeated:
                seen.add(path)
            view = views.of(dicom)
            if view is None:
                report(Problem("image without metadata", "it has no view", path))
            yield MimicImage(path, split, int(study), view)


def _repeated(table: Path) -> set[int]:
    """Hashes of the image ids that several rows of the split file have; an array of all takes 8 bytes per image."""
    hashes = np.fromiter((_hash(cells[0]) for _, cells in rows(table, COLUMNS["split"])), dtype=np.uint64)
    values, counts = np.unique(hashes, return_counts=True)
    return set(values[counts > 1].tolist())


def rows(path: Path, columns: Sequence[str], report: Report = lambda problem: None) -> Iterator[tuple[str, list[str]]]:
    """("FILE:LINE", the cells of these columns) of each row. MimicError where the file is damaged or lacks a column."""
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
    """The view of each image of the metadata file, in ten bytes per image: a sorted hash and the number of its view."""

    def __init__(self, path: Path):
        numbers: dict[str, int] = {}
        keys, codes = array("Q"), array("H")
        for _, (dicom, view) in rows(path, COLUMNS["metadata"]):
            keys.append(_hash(dicom))
            codes.append(numbers.setdefault(view, len(numbers)))
        order = np.argsort(keys)
        self._names, self._keys, self._codes = list(numbers), np.array(keys)[order], np.array(codes)[order]

    def of(self, dicom: str) -> str | None:
        """The view of an image, which may be empty; None where the metadata do not have the image."""
        key = np.uint64(_hash(dicom))
        place = np.searchsorted(self._keys, key)
        return self._names[self._codes[place]] if place < len(self._keys) and self._keys[place] == key else None


def _open(path: Path):
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
