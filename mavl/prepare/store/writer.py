"""Writing a store in parallel, each file whole or absent: after a kill the same command makes the missing files."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mavl.data.images.inputs import Failure
from mavl.data.images.read import read_image
from mavl.files import whole_file, write_json
from mavl.prepare.processes import sole_writer, work_through
from mavl.prepare.store.sources import Sources
from mavl.prepare.store.tree import (
    ABOUT,
    FORMAT,
    LIST,
    UNREADABLE,
    Content,
    StoreError,
    StoreSettings,
    content_of,
    encode,
    read_list,
    read_settings,
    write_table,
)
from mavl.progress import progress_bar


class Task(NamedTuple):
    """A file of the store, the file it is made of, and whether that is an image or is copied."""

    name: str
    source: Path
    is_image: bool


class Written(NamedTuple):
    """Numbers of the sources' images in the store, of those that this run wrote, and of copies in the store."""

    images: int
    fresh: int
    copies: int
    unreadable: list[Failure]


def write_store(folder: Path, settings: StoreSettings, sources: Sources, *, workers: int, show: bool = True) -> Written:
    """Put images, lists and masks that are not there yet into a store; those that cannot be read are listed in it.

    An image that is there stays; a list or a mask is written again when it has changed. StoreError where the folder
    holds something else or a store of other settings, or nothing can be read; InUseError where another process writes.
    """
    with _prepared(folder, settings):
        contents, fresh, unreadable = _whole_files(folder), 0, []
        tasks = [Task(name, source, True) for name, source in sources.images.items() if name not in contents]
        tasks += [Task(name, source, False) for name, source in sources.copies.items()]
        results = work_through(partial(_make, folder, settings), tasks, min(workers, len(tasks)))
        bar = progress_bar(results, total=len(tasks), description=str(folder), unit="file", show=show)
        for task, (result, is_fresh) in zip(tasks, bar, strict=True):
            if isinstance(result, str):
                unreadable.append(Failure(str(task.source), result))
            else:
                contents[task.name] = result
                fresh += is_fresh and task.is_image
        (folder / UNREADABLE).unlink(missing_ok=True)
        if unreadable:
            write_table(folder / UNREADABLE, [("image", "reason"), *((each.name, each.reason) for each in unreadable)])
        if not contents:
            raise StoreError(f"{folder}: nothing could be read; {UNREADABLE} there says why")
        write_table(
            folder / LIST, [("file", "bytes", "crc32"), *((name, *contents[name]) for name in sorted(contents))]
        )
    images, copies = (sum(name in contents for name in places) for places in (sources.images, sources.copies))
    return Written(images, fresh, copies, unreadable)


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


def _whole_files(folder: Path) -> dict[str, Content]:
    """The files that earlier runs have listed, without those of another length, which are removed."""
    contents = read_list(folder)
    for name, (length, _) in list(contents.items()):
        path = folder / name
        if not path.exists() or path.stat().st_size != length:
            path.unlink(missing_ok=True)
            del contents[name]
    return contents


def _make(folder: Path, settings: StoreSettings, task: Task) -> tuple[Content | str, bool]:
    """The content of a file of the store, or why there is none; and whether the file was written by this call."""
    target = folder / task.name
    there = target.read_bytes() if target.exists() else None
    if there is not None and task.is_image:
        return content_of(there), False
    try:
        content = encode(read_image(task.source), settings) if task.is_image else task.source.read_bytes()
    except (OSError, ValueError) as error:  # of the encoder too: it takes no side above 65,500 pixels
        return getattr(error, "strerror", None) or str(error).removeprefix(f"{task.source}: "), False
    if content != there:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target, "wb") as file:
            file.write(content)
    return content_of(content), content != there
