"""Names on a command line -> image files: images, folders, patterns, lists in CSV files."""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mavl.data.benchmarks.rows import BenchmarkError, Problem
from mavl.data.benchmarks.tables import TableFormat, normal_path, read_table

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .tif .tiff .webp .dcm .dicom".split())
COLUMNS = ("image", "path", "img_path", "image_path", "image path", "filepath", "filename", "file")
"""The column of a CSV file that names the image, in upper or lower case; the first of these that the file has."""

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

    A folder means the images in it and below it, by their suffix, or by their content if they have none (as DICOM from
    an archive). Paths in a CSV file are relative to its folder. A named file counts as an image, and is opened later.
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


def _images(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return filter(_is_image, sorted(path.rglob("*")))
    return _listed(path) if path.suffix.lower() == ".csv" else [path]


def _without_made(images: Sequence[Path], out: Path) -> list[Path]:
    made = [os.path.realpath(out / name) for name in (OVERLAYS, MASKS)]
    real = {folder: Path(os.path.realpath(folder)) for folder in {image.parent for image in images}}
    return [image for image in images if not any(real[image.parent].is_relative_to(folder) for folder in made)]


def _is_image(path: Path) -> bool:
    """Whether a file is an image by its suffix, or without one by its content; True if it cannot be opened."""
    if path.is_dir():
        return False
    if path.suffix:
        return path.suffix.lower() in IMAGE_SUFFIXES
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return True  # reading it as an image fails with the reason
    return start[128:] == b"DICM" or start.startswith(b"\xff\xd8\xff")


def _listed(table: Path) -> list[Path]:
    with table.open(encoding="utf-8-sig", errors="replace") as file:
        heading = file.readline(65_536).strip()
    rows = read_table(table, TableFormat(separator=max(SEPARATORS, key=heading.count)))
    names = {name.strip().lower(): name for name in rows.cells.columns}
    column = next((names[name] for name in COLUMNS if name in names), None)
    if column is None:
        separators = " or ".join(map(repr, SEPARATORS))
        text = f"no column called {', '.join(COLUMNS)} (columns separated by {separators}) in {heading[:200]!r}"
        raise BenchmarkError([Problem("column", table, text)])
    return [table.parent / normal_path(name) for name in rows.column(column) if name]
