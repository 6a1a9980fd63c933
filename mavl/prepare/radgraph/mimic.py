"""The split, view and study of each image of MIMIC-CXR-JPG, from the two CSV files beside the images."""

import csv
import io
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mavl.config.data import SPLITS
from mavl.files import FileError, read_unpacked
from mavl.prepare.radgraph.labels import Problem
from mavl.progress import plural

COLUMNS = {"split": ("dicom_id", "subject_id", "study_id", "split"), "metadata": ("dicom_id", "ViewPosition")}
"""The columns that are read of the two files."""

METADATA = "mimic-cxr-2.0.0-metadata.csv"

UNREADABLE = "unreadable row"
_NAME = re.compile(r"[\w-]{1,200}")


class MimicError(ValueError):
    """A file of MIMIC-CXR-JPG that is missing, damaged, or another; the message names it and the fix."""


class StudyImage(NamedTuple):
    """An image. path: below the folder of the images; view: None where it is not known."""

    path: str
    split: str
    view: str | None
    study: str


def find_table(root: Path, name: str) -> Path | None:
    """mimic-cxr-2.0.0-NAME.csv or .csv.gz."""
    return min((path for end in (".csv", ".csv.gz") for path in root.glob(f"mimic-cxr-*-{name}{end}")), default=None)


def read_views(root: Path, problems: list[Problem]) -> dict[str, str]:
    """{image id: view} of the metadata file; a view may be empty. An image that it repeats is reported."""
    views: dict[str, str] = {}
    for place, (dicom, view) in _rows(root, "metadata", problems):
        if not dicom:
            problems.append(Problem(UNREADABLE, place, "dicom_id is empty"))
        elif dicom in views:
            problems.append(Problem("image twice", place, f"{dicom[:80]} again, as {view!r}; the first row counts"))
        else:
            views[dicom] = view
    return views


def read_images(root: Path, folder: str, problems: list[Problem]) -> list[StudyImage]:
    """Each image of the split file. A row with a fault is reported and left out, as is a repeated image."""
    views, found = read_views(root, problems), {}
    for place, (dicom, subject, study, split) in _rows(root, "split", problems):
        path = posixpath.join(folder, f"p{subject[:2]}/p{subject}/s{study}/{dicom}.jpg")
        if not (_NAME.fullmatch(dicom) and subject.isdecimal() and study.isdecimal()):
            cells = f"dicom_id {dicom[:80]!r}, subject_id {subject[:20]!r}, study_id {study[:20]!r}"
            problems.append(Problem(UNREADABLE, place, cells))
        elif split not in SPLITS:
            problems.append(Problem("unknown split", place, f"{split!r}; expected one of {', '.join(SPLITS)}"))
        elif path in found:
            problems.append(Problem("image twice", path, f"again at {place}, as {split}; the first row counts"))
        else:
            found[path] = StudyImage(path, split, view_of(path, views, problems), study)
    return list(found.values())


def view_of(path: str, views: dict[str, str], problems: list[Problem]) -> str | None:
    """The view of an image; None, and a problem, where the metadata do not have it."""
    view = views.get(Path(path).stem)
    if view is None:
        problems.append(Problem("image without metadata", path, f"{METADATA} has no row of it"))
    return view


def _rows(root: Path, name: str, problems: list[Problem]) -> Iterator[tuple[str, list[str]]]:
    """("FILE:LINE", cells of COLUMNS) of each row. A row of another length than the header is reported."""
    path = find_table(root, name)
    if path is None:
        raise MimicError(f"{root}: holds no mimic-cxr-2.0.0-{name}.csv.gz; --root is MIMIC-CXR-JPG's folder")
    try:
        content = read_unpacked(path)
        if b"\0" in content:
            raise MimicError(f"{path}: damaged: zero bytes; download it again")
        lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig", newline="")
        reader, empty = csv.reader(lines, strict=True), True
        header = [column.strip() for column in next(reader, [])]
        if missing := [column for column in COLUMNS[name] if header.count(column) != 1]:
            columns = f"its columns are {', '.join(header)}"
            raise MimicError(f"{path}: has no column {', '.join(missing)}, or has it twice; {columns}")
        wanted = [header.index(column) for column in COLUMNS[name]]
        for row in filter(None, reader):
            at, empty = f"{path.name}:{reader.line_num}", False
            if len(row) != len(header):
                problems.append(Problem(UNREADABLE, at, f"{len(row)} cells in {plural(len(header), 'column')}"))
            else:
                yield at, [row[column].strip() for column in wanted]
        if empty:
            raise MimicError(f"{path}: has no rows; download it again")
    except FileError as error:
        raise MimicError(str(error)) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MimicError(f"{path}: cannot be read to its end ({error}); download it again") from error
