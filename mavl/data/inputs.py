"""What a person names on a command line -> image files: images, folders, patterns, lists in CSV files."""

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mavl.data.tables import BenchmarkError, TableFormat, read_table

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .tif .tiff .webp .dcm .dicom".split())
COLUMNS = ("image", "path", "img_path", "filepath", "Image", "Path", "Image Path")
"""The column of a CSV file that names the image; the first of these that is there."""


class NoImageError(ValueError):
    """Nothing that was named is an image that can be read."""


@dataclass(frozen=True)
class Failure:
    """Something that was asked for and could not be done, and why; one line."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def find_images(names: Sequence[str]) -> tuple[list[Path], list[Failure]]:
    """The images that these names mean, each once and in the order given, and the names that mean none.

    A folder stands for the images in it and below it, told by their suffix, or by their content where they have none
    (DICOM from an archive often has none). Paths in a CSV file are relative to its folder. A file that is named itself
    is taken for an image whatever it is; whether it is one shows when it is read.

    NoImageError when all names mean none.
    """
    found: dict[Path, None] = {}
    failures: list[Failure] = []
    for name in names:
        try:
            images = [image for path in _matches(name) for image in _images(path)]
        except BenchmarkError as error:
            failures += [Failure(name, problem) for problem in error.problems]
            continue
        except OSError as error:
            failures.append(Failure(name, error.strerror or type(error).__name__))
            continue
        if not images:
            failures.append(Failure(name, "no image in it" if Path(name).exists() else "no file of such a name"))
        found |= dict.fromkeys(images)
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


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (path.suffix.lower() in IMAGE_SUFFIXES or (not path.suffix and _is_dicom(path))):
            yield path


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _listed(table: Path) -> list[Path]:
    rows = read_table(table, TableFormat())
    return [table.parent / name for name in rows.column(COLUMNS) if name]
