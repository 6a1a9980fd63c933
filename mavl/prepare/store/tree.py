"""A store: a folder with small grey JPEGs under the paths, suffixes included, that the images have in their root.

    FOLDER/store.json        the settings it was made with
    FOLDER/store.csv         a row for each file: file, bytes, crc32
    FOLDER/unreadable.csv    images that could not be read, where there are any
    FOLDER/p10/1.png …       images, whose content is JPEG whatever their suffix; lists and masks as they were

Readers know a format by its content, so a run with `--root FOLDER` finds every image that its lists name.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar
from zlib import crc32

from PIL import Image
from pydantic import Field, PositiveInt, ValidationError

from mavl.config.loader import Settings
from mavl.data.images.read import STORED
from mavl.files import whole_file
from mavl.prepare.processes import work_through
from mavl.progress import progress_bar

FORMAT = "mavl image store 2"
ABOUT, LIST, UNREADABLE = "store.json", "store.csv", "unreadable.csv"
RESERVED = (ABOUT, LIST, UNREADABLE)
CHUNK = 16
"""Files a task: one for each of 377,000 would cost as much as the work."""

Content = tuple[int, int]
"""What a file of the store holds: its length in bytes and their CRC-32."""

Item, Result = TypeVar("Item"), TypeVar("Result")


class StoreError(ValueError):
    """A store that is not there, not whole, or not of the kind asked for; the message says how to mend it."""


class StoreSettings(Settings):
    """How images are stored. side, size: which side is reduced to how many pixels; smaller images keep their size."""

    size: PositiveInt = 512
    side: Literal["shortest", "longest"] = "shortest"
    quality: int = Field(default=92, ge=1, le=100)


def content_of(content: bytes) -> Content:
    return len(content), crc32(content)


def encode(grey: Image.Image, settings: StoreSettings) -> bytes:
    """A grey image as it is stored, antialiased by Lanczos' filter."""
    side = min(grey.size) if settings.side == "shortest" else max(grey.size)
    if side > settings.size:
        size = tuple(max(1, round(length * settings.size / side)) for length in grey.size)
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    content = io.BytesIO()
    grey.save(content, "JPEG", quality=settings.quality, comment=STORED)
    return content.getvalue()


def write_settings(folder: Path, settings: StoreSettings) -> None:
    with whole_file(folder / ABOUT) as file:
        file.write(json.dumps({"format": FORMAT} | settings.model_dump(), indent=2) + "\n")


def read_settings(folder: Path) -> StoreSettings:
    """StoreError where there is no store, or one of another format."""
    try:
        about = json.loads((folder / ABOUT).read_bytes())
        if about.pop("format") == FORMAT:
            return StoreSettings.model_validate(about)
    except OSError as error:
        raise StoreError(f"{folder} is no image store ({ABOUT}: {error.strerror})") from error
    except (ValueError, ValidationError, LookupError, TypeError, AttributeError):
        pass  # it is damaged, as one of another format
    raise StoreError(f"{folder / ABOUT}: not of the format {FORMAT!r}, or damaged; give another folder")


def write_list(folder: Path, contents: Mapping[str, Content]) -> None:
    rows = ((name, *contents[name]) for name in sorted(contents))
    write_table(folder / LIST, ("file", "bytes", "crc32"), rows)


def read_list(folder: Path) -> dict[str, Content]:
    """{file: content}, empty where no run has finished yet. StoreError for a damaged list."""
    path = folder / LIST
    if not path.exists():
        return {}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return {name: (int(length), int(checksum)) for name, length, checksum in [*csv.reader(file)][1:]}
    except (ValueError, csv.Error) as error:
        raise StoreError(f"{path}: damaged; delete it, and give the command that made the store again") from error


def write_table(path: Path, head: Iterable, rows: Iterable[Iterable]) -> None:
    """A CSV file; names that are no UTF-8 keep their bytes."""
    with whole_file(path, "wb") as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        csv.writer(text, lineterminator="\n").writerows([head, *rows])
        text.detach()


def verify(folder: Path, workers: int, show: bool) -> list[str]:
    """Read every file of the store: a line for each that is missing or not as it was written."""
    read_settings(folder)
    written = list(read_list(folder).items())
    if not written:
        raise StoreError(f"{folder}: the store is not finished; the command that makes it goes on with it")
    return [problem for problem in work_on(partial(_damage, folder), written, workers, "verifying", show) if problem]


def _damage(folder: Path, written: tuple[str, Content]) -> str | None:
    """What is wrong with a file."""
    path, content = folder / written[0], written[1]
    try:
        found = content_of(path.read_bytes())
    except OSError as error:
        return f"{path}: {'missing' if isinstance(error, FileNotFoundError) else error.strerror}"
    if found[0] != content[0]:
        return f"{path}: {found[0]} bytes; {content[0]} were written"
    return None if found == content else f"{path}: the bytes are not those that were written"


def work_on(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str, show: bool
) -> Iterator[Result]:
    """function(item) of every item, in so many processes, CHUNK items a task."""
    tasks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    with progress_bar(total=len(items), description=description, unit="file", show=show) as bar:
        for results in work_through(partial(_each, function), tasks, min(workers, len(tasks))):
            yield from results
            bar.update(len(results))


def _each(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return [function(item) for item in items]
