"""What a person names on a command line -> image files: images, folders, patterns, lists in CSV files."""

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mavl.data.benchmarks.tables import BenchmarkError, Problem, TableFormat, read_table

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .tif .tiff .webp .dcm .dicom".split())
COLUMNS = ("image", "path", "img_path", "image_path", "image path", "filepath", "filename", "file")
"""The column of a CSV file that names the image, in upper or lower case; the first of these that is there."""

SEPARATORS = (",", ";", "\t")
"""What may stand between the columns of a CSV file; spreadsheets of many languages write the second."""

OVERLAYS, MASKS = "overlays", "masks"
"""The folders of an output folder with the pictures of a run, which a later one must not take for radiographs."""


class NoImageError(ValueError):
    """Nothing that was named is an image that can be read."""


@dataclass(frozen=True)
class Failure:
    """Something that was asked for and could not be done, and why; one line."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def find_images(names: Sequence[str], out: Path | None = None) -> tuple[list[Path], list[Failure]]:
    """The images that these names mean, each once and in the order given, and the names that mean none.

    A folder stands for the images in it and below it, told by their suffix, or by their content where they have none
    (DICOM from an archive often has none, and so has its JPEG in a store). Paths in a CSV file are relative to its
    folder. A file that is named itself is taken for an image whatever it is; whether it is one shows when it is read.
    out: the output folder of the run; what an earlier one drew there is left out.

    NoImageError when all names mean none.
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
        radiographs = images if out is None else _without_drawn(images, out)
        if not radiographs:
            why = "no image in it" if Path(name).exists() else "no file of such a name"
            failures.append(Failure(name, "drawn by an earlier run into --out" if images else why))
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
        return _below(path)
    return _listed(path) if path.suffix.lower() == ".csv" else [path]


def _without_drawn(images: Sequence[Path], out: Path) -> list[Path]:
    drawn = [os.path.realpath(out / name) for name in (OVERLAYS, MASKS)]
    real = {folder: Path(os.path.realpath(folder)) for folder in {image.parent for image in images}}
    outside = {folder for folder in real if not any(real[folder].is_relative_to(other) for other in drawn)}
    return [image for image in images if image.parent in outside]


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if _is_image(path):
            yield path


def _is_image(path: Path) -> bool:
    """By its suffix, or by its content; True for what cannot be opened, as reading it will say why."""
    try:
        if path.is_symlink() and not path.exists():
            return path.suffix.lower() in IMAGE_SUFFIXES
        return path.is_file() and (
            path.suffix.lower() in IMAGE_SUFFIXES or (not path.suffix and _begins_as_image(path))
        )
    except OSError:
        return True


def _begins_as_image(path: Path) -> bool:
    """Whether it is DICOM or JPEG."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or start.startswith(b"\xff\xd8\xff")


def _listed(table: Path) -> list[Path]:
    with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        line = file.readline(65_536)
    for separator in SEPARATORS:
        names = {name.strip().lower(): name.strip() for name in next(csv.reader([line], delimiter=separator), [])}
        if column := next((names[name] for name in COLUMNS if name in names), None):
            rows = read_table(table, TableFormat(separator=separator))
            return [table.parent / name for name in rows.column(column) if name]
    read_table(table, TableFormat())  # it may have a better complaint: empty, no text
    wanted, shown = ", ".join(COLUMNS), " or ".join(map(repr, SEPARATORS))
    text = f"no column called {wanted} (columns parted by {shown}) in {line.strip()[:200]!r}"
    raise BenchmarkError([Problem("column", table, text)])
