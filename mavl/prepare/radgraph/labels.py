"""The label store in the making: rows written part by part by several processes, each part noted when it is whole.

    FOLDER/landmark_observation_adj_mtx.npy    int8 [studies, 51, 75], under the released file's name
    FOLDER/parts/000000.json …                 of 256 studies each: their ids, counts, problems, what they come from; a
                                               checksum of all that and of the rows

A part is not made again while its note says that it comes of the same source. So a kill costs the parts in work, and a
source that has grown or changed costs the parts that did.
"""

import io
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np

from mavl.files import whole_file
from mavl.prepare.problems import Problem
from mavl.prepare.processes import work_through
from mavl.prepare.radgraph.graphs import SHAPE
from mavl.prepare.radgraph.json_parts import Part
from mavl.prepare.radgraph.rules import fingerprint
from mavl.progress import progress_bar
from mavl.vocab import ABSENT, PRESENT

FORMAT = 3  # of the notes and of how graphs are read; parts of another one are made again
LABELS, PARTS = "landmark_observation_adj_mtx.npy", "parts"
ROW_BYTES = SHAPE[0] * SHAPE[1]


class LabelFolderError(ValueError):
    """A folder whose label file is somebody else's."""


@dataclass(frozen=True)
class Labelled:
    """A part's rows int8 [rows, 51, 75], the study of each (0 where it has none), and their problems."""

    matrices: np.ndarray
    studies: list[int]
    problems: list[Problem]


@dataclass
class Totals:
    """What the notes of all parts add up to. studies: of each row; present, absent: int64 [51, 75] numbers of rows."""

    studies: array = field(default_factory=partial(array, "q"))
    present: np.ndarray = field(default_factory=partial(np.zeros, SHAPE, dtype=np.int64))
    absent: np.ndarray = field(default_factory=partial(np.zeros, SHAPE, dtype=np.int64))


class LabelFolder:
    """The files of a label store, finished or on their way there."""

    def __init__(self, folder: Path):
        self.labels, self.parts = folder / LABELS, folder / PARTS
        self.unfinished = folder / f".{LABELS}.partial"
        self.parts.mkdir(parents=True, exist_ok=True)

    def has(self, part: Part) -> bool:
        """Whether the rows of this part are there, from the same source and tables."""
        rows = self.unfinished if self.unfinished.exists() else self.labels
        try:
            written = rows.stat().st_size
            note = json.loads(self._note(part.number).read_bytes())
        except FileNotFoundError:
            return False
        return note["source"] == _source(part) and written >= _offset(part.first_row + part.rows)

    def open(self) -> None:
        """To be called before `write`: from here on a finished store is an unfinished one.

        LabelFolderError when the file there was not made here: it may be the released one, a long download.
        """
        if self.unfinished.exists():
            return
        if not self.labels.exists():
            self.unfinished.touch()
        elif any(self._notes()):
            self.labels.replace(self.unfinished)
        else:
            raise LabelFolderError(f"{self.labels} was not written by this command; choose another --out, or remove it")

    def write(self, part: Part, labelled: Labelled) -> None:
        """Put a part's rows into their place, and when they are there its note beside them."""
        content = labelled.matrices.tobytes()
        with open(self.unfinished, "r+b") as file:
            file.seek(_offset(part.first_row))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        note = {
            "source": _source(part),
            "studies": labelled.studies,
            "present": _counts(labelled.matrices == PRESENT),
            "absent": _counts(labelled.matrices == ABSENT),
            "problems": labelled.problems,
        }
        with whole_file(self._note(part.number)) as file:
            json.dump(note | {"checksum": _checksum(content, note)}, file)

    def finish(self, rows: int, parts: int) -> None:
        """Make it an NPY file of so many rows, and remove what a longer one or a kill has left."""
        stay = {self._note(number) for number in range(parts)}
        for path in self.parts.iterdir():
            if path not in stay:
                path.unlink()
        if self.unfinished.exists():
            with open(self.unfinished, "r+b") as file:
                file.write(npy_header(rows))
                file.truncate(_offset(rows))
            self.unfinished.replace(self.labels)

    def verify(self) -> Iterator[str]:
        """Read every row and every note again: a line for each part that is not as it was written."""
        fix = "delete that file, and the command that made it makes what is missing"
        if self.unfinished.exists():
            yield f"{self.unfinished}: not finished; the command that made it goes on with it"
            return
        first = number = 0
        with open(self.labels, "rb") as file:
            header = file.read(_HEADER_BYTES)
            while (path := self._note(number)).exists():
                try:
                    note = json.loads(path.read_bytes())
                    checksum, rows = note.pop("checksum"), len(note["studies"])
                except (ValueError, LookupError, TypeError, AttributeError):
                    yield f"{path}: damaged, or of an older version; {fix}"
                    return  # where the next part begins is not known
                if _checksum(file.read(rows * ROW_BYTES), note) != checksum:
                    yield f"{path}: it, or rows {first} to {first + rows - 1} of the labels, are not as written; {fix}"
                first, number = first + rows, number + 1
            if number == 0:
                yield f"{self.parts}: no note, so nothing to verify the labels by"
            elif file.read(1) or header != npy_header(first):
                yield f"{self.labels}: not the header and the {first} rows that {self.parts} tells of; {fix}"

    def totals(self) -> Totals:
        totals = Totals()
        for note in self._notes():
            totals.studies.extend(note["studies"])
            for name in ("present", "absent"):
                for place, count in note[name]:
                    getattr(totals, name).flat[place] += count
        return totals

    def problems(self) -> Iterator[Problem]:
        return (Problem(*fields) for note in self._notes() for fields in note["problems"])

    def _notes(self) -> Iterator[dict]:
        return (json.loads(path.read_bytes()) for path in sorted(self.parts.glob("*.json")))

    def _note(self, number: int) -> Path:
        return self.parts / f"{number:06}.json"


def fill(
    folder: Path, source: Path, parts: Iterable[Part], make: Callable[[Path, Part], Labelled], workers: int
) -> LabelFolder:
    """The store of a source: make(source, part) of every part that is not there yet, in so many processes.

    What `parts` or `make` raise is raised when the parts that were begun are written.
    """
    store, rows, number = LabelFolder(folder), 0, 0
    with progress_bar(total=source.stat().st_size, description=source.name, unit="B", unit_scale=True) as bar:

        def missing() -> Iterator[Part]:
            nonlocal rows, number
            for part in parts:
                rows, number = part.first_row + part.rows, part.number + 1
                if store.has(part):
                    bar.update(part.end - part.start)
                else:
                    store.open()
                    yield part

        for size in work_through(partial(_make, folder, source, make), missing(), workers):
            bar.update(size)
    store.finish(rows, number)
    return store


def npy_header(rows: int) -> bytes:
    """Of int8 [rows, 51, 75]; NumPy leaves room, so that it has the same length for any number of rows."""
    header = io.BytesIO()
    layout = {"descr": "|i1", "fortran_order": False, "shape": (rows, *SHAPE)}
    np.lib.format.write_array_header_1_0(header, layout)
    return header.getvalue()


_HEADER_BYTES = len(npy_header(0))


def _make(folder: Path, source: Path, make: Callable[[Path, Part], Labelled], part: Part) -> int:
    LabelFolder(folder).write(part, make(source, part))
    return part.end - part.start


def _offset(row: int) -> int:
    return _HEADER_BYTES + row * ROW_BYTES


def _checksum(rows: bytes, note: dict) -> int:
    return crc32(json.dumps(note).encode(), crc32(rows))


def _source(part: Part) -> str:
    return f"{FORMAT} {fingerprint()} {part.first_row} {part.rows} {part.digest}"


def _counts(held: np.ndarray) -> list[tuple[int, int]]:
    """held [rows, 51, 75] -> (place in the flat [51, 75], number of rows) where there are any."""
    counts = held.sum(axis=0).ravel()
    return [(place, int(counts[place])) for place in np.flatnonzero(counts).tolist()]
