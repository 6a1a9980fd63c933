"""Names on a command line -> image files: images, folders, patterns, lists in CSV files."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mavl.data import notice
from mavl.data.benchmarks.rows import BenchmarkError, Problem, first_line
from mavl.data.benchmarks.tables import TableFormat, normal_path, read_table
from mavl.data.images.read import format_of

HIDDEN = ("__MACOSX",)
"""Folders that are passed over, besides all files and folders whose name begins with a dot."""

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .tif .tiff .webp .dcm .dicom".split())
COLUMNS = ("image", "path", "img_path", "image_path", "image path", "filepath", "filename", "file")
"""The column of a list that names the image, in upper or lower case; the first of these that the file has."""

SEPARATORS = (",", ";", "\t")
"""What may stand between the columns of a CSV file; spreadsheets of many languages write the second."""

OVERLAYS, MASKS = "overlays", "masks"
"""The folders of an output folder with the images that a run made, which are no radiographs for a later run."""


class NoImageError(ValueError):
    """None of the names means an image."""


@dataclass(frozen=True)
class Failure:
    """A file or name that could not be used, and why; one line."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def find_images(names: Sequence[str], out: Path | None = None) -> tuple[list[Path], list[Failure]]:
    """The images that these names mean, each once and in order, and the names that mean none; NoImageError if all do.

    A folder means the images of `images_below`. Paths in a list (CSV, TSV, JSON lines, also with .gz) are relative to
    its folder. A named file counts as an image, and is opened later.
    out: the output folder of the run; the images that an earlier run made in it are left out.
    """
    found: dict[Path, None] = {}
    failures: list[Failure] = []
    for name in names:
        if not name:
            failures.append(Failure("''", "an empty name"))
            continue
        try:
            images = [image for path in _matches(name) for image in _images(path)]
        except BenchmarkError as error:
            failures += [Failure(name, problem.text) for problem in error.problems]
            continue
        except OSError as error:
            failures.append(Failure(name, error.strerror or type(error).__name__))
            continue
        radiographs = images if out is None else _without_made(images, out)
        if not radiographs:
            why = "no image in it" if Path(name).exists() else "no file of such a name"
            failures.append(Failure(name, "made by an earlier run in --out" if images else why))
        found |= dict.fromkeys(radiographs)
    if not found:
        raise NoImageError("; ".join(map(str, failures)))
    return list(found), failures


def _matches(name: str) -> list[Path]:
    if Path(name).exists() or not glob.has_magic(name):
        return [Path(name)]
    return [Path(match) for match in sorted(glob.glob(name, recursive=True))]


def _images(path: Path) -> list[Path]:
    if path.is_dir():
        return images_below(path)
    return _listed(path) if _is_table(path) else [path]


def _is_table(path: Path) -> bool:
    return bool(re.search(r"\.(csv|tsv|jsonl|ndjson)(\.gz)?$", path.name.lower()))


def images_below(folder: Path) -> list[Path]:
    """The images in a folder and below it, in order; says how many other files there are.

    A file is an image by its suffix, or by its content, as DICOM of an archive, whose names are UIDs. Names that begin
    with a dot, and HIDDEN, are passed over with all below them.
    """
    images, others, hidden = [], [], 0
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        if any(part.startswith(".") or part in HIDDEN for part in path.relative_to(folder).parts):
            hidden += 1
        else:
            (images if _is_image(path) else others).append(path)
    if others or hidden:
        said = [f"{len(others)} without an image, such as {others[0].name}"] if others else []
        said += [f"{hidden} hidden"] if hidden else []
        files = "1 file" if len(others) + hidden == 1 else f"{len(others) + hidden} files"
        notice(f"{folder}: passed over {files}: {', '.join(said)}")
    return images


def _without_made(images: Sequence[Path], out: Path) -> list[Path]:
    made = [os.path.realpath(out / name) for name in (OVERLAYS, MASKS)]
    real = {folder: Path(os.path.realpath(folder)) for folder in {image.parent for image in images}}
    return [image for image in images if not any(real[image.parent].is_relative_to(folder) for folder in made)]


def _is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix or its content; one that cannot be opened is, unless it has a suffix."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return format_of(file.read(132)) is not None
    except OSError:
        return not path.suffix[1:].isalpha()  # reading it as an image fails with the reason


def _listed(table: Path) -> list[Path]:
    name = table.name.lower().removesuffix(".gz")
    rows = read_table(table, TableFormat(separator=_separator(table) if name.endswith(".csv") else None))
    names = {name.lower(): name for name in rows.cells.columns}
    column = next((names[name] for name in COLUMNS if name in names), None)
    if column is None:
        text = f"no column called {', '.join(COLUMNS)} in {','.join(rows.cells.columns)[:200]!r}"
        raise BenchmarkError([Problem("column", table, text)])
    listed = rows.column(column)
    if blank := [str(line) for name, line in zip(listed, rows.lines, strict=True) if not name]:
        notice(f"{table}: column {column!r} names no image in line {', '.join(blank[:5])}{' …' * (len(blank) > 5)}")
    return [table.parent / normal_path(name) for name in listed if name]


def _separator(table: Path) -> str:
    """The one of SEPARATORS that stands most often in the first line."""
    heading = first_line(table)
    return max(SEPARATORS, key=heading.count)
