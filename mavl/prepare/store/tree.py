"""A store: a folder with small grey JPEGs under the paths, suffixes included, that the images have in their root.

    FOLDER/store.json        the settings it was made with
    FOLDER/store.csv         a row for each file: file, bytes, crc32, source_bytes, source_mtime_ns
    FOLDER/unreadable.csv    images that could not be read, where there are any
    FOLDER/p10/1.png …       images, whose content is JPEG whatever their suffix; lists and masks as they were

Readers detect the format by the content, so a run with `--root FOLDER` finds every image that its lists name.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from PIL import Image

from mavl.data.images.inputs import Failure
from mavl.data.images.read import STORED, read_image
from mavl.data.processes import sole_writer
from mavl.files import OutsideError, csv_text, csv_writer, inside, read_json, whole_file, write_json
from mavl.prepare.processes import work_through
from mavl.prepare.store.sources import Sources
from mavl.progress import in_threads, note, plural, progress_bar

FORMAT = "mavl image store 2"
ABOUT, LIST, UNREADABLE = "store.json", "store.csv", "unreadable.csv"

Content = tuple[int, int]
"""What a file of the store holds: its length in bytes and their CRC-32."""

Stamp = tuple[int, int] | None
"""The length of a source file in bytes, and its time of modification in ns; None where no stamp is listed."""


class StoreError(ValueError):
    """A store that does not exist, is not whole, or is of another kind; the message has the fix."""


@dataclass(frozen=True)
class StoreSettings:
    """How images are stored. side, size: which side is reduced to how many pixels; smaller images keep their size."""

    size: int = 512
    side: str = "shortest"
    quality: int = 92


def content_of(content: bytes) -> Content:
    return len(content), crc32(content)


def encode(grey: Image.Image, settings: StoreSettings) -> bytes:
    """The JPEG of a grey image, reduced by Lanczos' filter."""
    side = min(grey.size) if settings.side == "shortest" else max(grey.size)
    if side > settings.size:
        width, height = (max(1, round(length * settings.size / side)) for length in grey.size)
        grey = grey.resize((width, height), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    grey.save(content, "JPEG", quality=settings.quality, comment=STORED)
    return content.getvalue()


def read_settings(folder: Path) -> StoreSettings:
    """StoreError where there is no store, or one of another format."""
    try:
        about = read_json(folder / ABOUT)
        if about.pop("format") == FORMAT:
            return StoreSettings(**about)
    except OSError as error:
        raise StoreError(f"{folder} is no image store ({ABOUT}: {error.strerror})") from error
    except (ValueError, LookupError, TypeError, AttributeError):
        pass  # it is damaged, as one of another format
    raise StoreError(f"{folder / ABOUT}: not of the format {FORMAT!r}, or damaged; give another folder")


class Entry(NamedTuple):
    """A row of the list: what a file of the store holds, and the source that it was made of."""

    content: Content
    stamp: Stamp


def read_list(folder: Path) -> dict[str, Entry]:
    """{file: entry}, empty where no run has finished yet. StoreError for a damaged list.

    A list of an older version has no stamps.
    """
    path = folder / LIST
    if not path.exists():
        return {}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = [*csv.reader(file)][1:]
            return {csv_text(name): _entry(*numbers) for name, *numbers in rows}
    except (ValueError, TypeError, csv.Error) as error:
        raise StoreError(f"{path}: damaged; delete it, and give the command that made the store again") from error


def _entry(length: str, checksum: str, source_length: str = "", changed: str = "") -> Entry:
    return Entry((int(length), int(checksum)), (int(source_length), int(changed)) if source_length else None)


def write_table(path: Path, rows: Iterable[Iterable]) -> None:
    """Write a CSV file; names that are no UTF-8 keep their bytes."""
    with whole_file(path, "wb") as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        csv_writer(text, lineterminator="\n").writerows(rows)
        text.detach()


class Task(NamedTuple):
    """A file of the store, the file it is made of, and whether that is an image or is copied.

    keep: a file that is in the store stays as it is.
    """

    name: str
    source: Path
    is_image: bool
    keep: bool


class Written(NamedTuple):
    """Numbers of the sources' images in the store, of those that this run wrote, and of copies in the store."""

    images: int
    fresh: int
    copies: int
    unreadable: list[Failure]


def write_store(folder: Path, settings: StoreSettings, sources: Sources, *, workers: int, show: bool = True) -> Written:
    """Put images, lists and masks that are not there yet into a store; those that cannot be read are listed in it.

    What is there stays, unless its source has changed: an image's length or time of modification, the content of a list
    or a mask. A source that no longer exists has not changed. StoreError where the folder holds something else or a
    store of other settings, or nothing can be read; InUseError where another process writes.
    """
    with _prepared(folder, settings):
        entries = {name: entry for name, entry in read_list(folder).items() if _is_there(folder, name)}
        stamps = _stamps(folder, sources, entries, workers, show)
        fresh, unreadable = 0, []
        tasks = [
            Task(name, source, True, name not in entries)
            for name, source in sources.images.items()
            if name not in entries or entries[name].stamp != stamps[name]
        ]
        tasks += [Task(name, source, False, False) for name, source in sources.copies.items()]
        results = work_through(partial(_make, folder, settings), tasks, min(workers, len(tasks)))
        bar = progress_bar(results, total=len(tasks), description=str(folder), unit="file", show=show)
        for task, (result, is_fresh) in zip(tasks, bar, strict=True):
            if isinstance(result, str):
                unreadable.append(Failure(str(task.source), result))
            else:
                entries[task.name] = Entry(result, stamps.get(task.name))
                fresh += is_fresh and task.is_image
        (folder / UNREADABLE).unlink(missing_ok=True)
        if unreadable:
            write_table(folder / UNREADABLE, [("image", "reason"), *((each.name, each.reason) for each in unreadable)])
        if not entries:
            raise StoreError(f"{folder}: nothing could be read; {UNREADABLE} there says why")
        rows = ((name, *content, *(stamp or ("", ""))) for name, (content, stamp) in sorted(entries.items()))
        write_table(folder / LIST, [("file", "bytes", "crc32", "source_bytes", "source_mtime_ns"), *rows])
    images, copies = (sum(name in entries for name in places) for places in (sources.images, sources.copies))
    return Written(images, fresh, copies, unreadable)


def _stamps(folder: Path, sources: Sources, entries: dict[str, Entry], workers: int, show: bool) -> dict[str, Stamp]:
    """{image: stamp of its source}, that of its entry where the source does not exist.

    Entries without a stamp, of an older version, get that of now, which is noted.
    """
    found = in_threads(_stamp, list(sources.images.values()), workers, f"{folder}: sources", show)
    stamps = dict(zip(sources.images, found, strict=True))
    for name in (listed := stamps.keys() & entries.keys()):
        stamps[name] = stamps[name] or entries[name].stamp
    old = [name for name in listed if not entries[name].stamp]
    if old:
        fix = "delete those files here whose sources have changed"
        note(f"{folder / LIST} has no source stamps of {plural(len(old), 'image')}: changes are not detected; {fix}")
    entries |= {name: Entry(entries[name].content, stamps[name]) for name in old}
    return stamps


def _stamp(source: Path) -> Stamp:
    try:
        facts = source.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


@contextmanager
def _prepared(folder: Path, settings: StoreSettings) -> Iterator[None]:
    """The folder made, checked and locked; drafts of a run that was killed are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ABOUT).exists() and (foreign := [path.name for path in folder.iterdir() if path.name[0] != "."]):
        raise StoreError(f"{folder} holds {min(foreign)} and is no image store; give a folder of its own")
    with sole_writer(folder):
        if not (folder / ABOUT).exists():
            write_json(folder / ABOUT, {"format": FORMAT} | asdict(settings))
        elif (made := read_settings(folder)) != settings:
            raise StoreError(f"{folder} was made with {_show(made)}, not {_show(settings)}; give another folder")
        for draft in folder.rglob(".*.partial"):
            draft.unlink()
        yield


def _show(settings: StoreSettings) -> str:
    return f"the {settings.side} side of {settings.size} and quality {settings.quality}"


def _make(folder: Path, settings: StoreSettings, task: Task) -> tuple[Content | str, bool]:
    """The content of a file of the store, or why there is none; and whether the file was written by this call."""
    try:
        target = inside(folder, task.name)
        there = target.read_bytes() if _is_there(folder, task.name) else None
        if there is not None and task.keep:
            return content_of(there), False
        content = encode(read_image(task.source), settings) if task.is_image else task.source.read_bytes()
    except (OSError, ValueError) as error:  # of the encoder too: it takes no side above 65,500 pixels
        return getattr(error, "strerror", None) or str(error).removeprefix(f"{task.source}: "), False
    except Exception as error:  # one image in thousands that a library fails on in a new way ends no run
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", False
    if content != there:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target, "wb") as file:
            file.write(content)
    return content_of(content), content != there


def _is_there(folder: Path, name: str) -> bool:
    """Whether the store has this file; a link is none, since its target may lie anywhere."""
    try:
        path = inside(folder, name)
    except OutsideError:
        return False
    return path.is_file() and not path.is_symlink()


def verify(folder: Path, workers: int, show: bool) -> list[str]:
    """Read every file of the store: a line for each that is missing or not as it was written."""
    read_settings(folder)
    written = [(name, entry.content) for name, entry in read_list(folder).items()]
    if not written:
        raise StoreError(f"{folder}: the store is not finished; the command that makes it goes on with it")
    return [line for line in in_threads(partial(_damage, folder), written, workers, "verifying", show) if line]


def _damage(folder: Path, written: tuple[str, Content]) -> str | None:
    """What is wrong with a file."""
    path, content = folder / written[0], written[1]
    try:
        found = content_of(inside(folder, written[0]).read_bytes())
    except OutsideError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {'missing' if isinstance(error, FileNotFoundError) else error.strerror}"
    if found[0] != content[0]:
        return f"{path}: {found[0]} bytes; {content[0]} were written"
    return None if found == content else f"{path}: the bytes are not those that were written"
