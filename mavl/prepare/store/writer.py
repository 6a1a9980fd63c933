"""Writing a store in parallel, each file whole or absent: after a kill the same command makes the files that lack."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mavl.data.images.inputs import Failure
from mavl.data.images.read import read_image
from mavl.files import whole_file
from mavl.prepare.processes import sole_writer
from mavl.prepare.store.sources import Sources
from mavl.prepare.store.tree import (
    ABOUT,
    UNREADABLE,
    Content,
    StoreError,
    StoreSettings,
    content_of,
    encode,
    read_list,
    read_settings,
    work_on,
    write_list,
    write_settings,
    write_table,
)


class Task(NamedTuple):
    """A file to make: its path in the store, what it is made of, and whether that is an image or is copied."""

    name: str
    source: Path
    is_image: bool


class Made(NamedTuple):
    """A file that is in the store, and whether this run wrote it."""

    name: str
    content: Content
    fresh: bool


class Written(NamedTuple):
    """images: of those asked for, how many the store has; fresh: how many of them this run wrote; copies: likewise."""

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
        contents = _whole_files(folder)
        tasks = [Task(name, source, True) for name, source in sources.images.items() if name not in contents]
        tasks += [Task(name, source, False) for name, source in sources.copies.items()]
        results = list(work_on(partial(_make, folder, settings), tasks, workers, str(folder), show))
        unreadable = [result for result in results if isinstance(result, Failure)]
        made = [result for result in results if isinstance(result, Made)]
        _list_unreadable(folder, unreadable)
        contents |= {name: content for name, content, _ in made}
        if not contents:
            raise StoreError(f"{folder}: nothing could be read; {UNREADABLE} there says why")
        write_list(folder, contents)
    images = sum(name in contents for name in sources.images)
    fresh = sum(each.fresh and each.name in sources.images for each in made)
    return Written(images, fresh, sum(name in contents for name in sources.copies), unreadable)


@contextmanager
def _prepared(folder: Path, settings: StoreSettings) -> Iterator[None]:
    """The folder made, checked and locked; what a kill left of files in work is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ABOUT).exists() and (foreign := [path.name for path in folder.iterdir() if path.name[0] != "."]):
        raise StoreError(f"{folder} holds {min(foreign)} and is no image store; give a folder of its own")
    with sole_writer(folder):
        if not (folder / ABOUT).exists():
            write_settings(folder, settings)
        elif (made := read_settings(folder)) != settings:
            raise StoreError(f"{folder} was made with {_show(made)}, not {_show(settings)}; give another folder")
        for left in folder.rglob(".*.partial"):
            left.unlink()
        yield


def _show(settings: StoreSettings) -> str:
    return f"the {settings.side} side of {settings.size} and quality {settings.quality}"


def _whole_files(folder: Path) -> dict[str, Content]:
    """What earlier runs have listed and is there in its length; what is not is removed, and so made again."""
    contents = read_list(folder)
    for name, (length, _) in list(contents.items()):
        path = folder / name
        if not path.exists() or path.stat().st_size != length:
            path.unlink(missing_ok=True)
            del contents[name]
    return contents


def _make(folder: Path, settings: StoreSettings, task: Task) -> Made | Failure:
    """A file of the store, made of its source unless it is there already."""
    target = folder / task.name
    there = target.read_bytes() if target.exists() else None
    if there is not None and task.is_image:
        return Made(task.name, content_of(there), fresh=False)
    try:
        content = encode(read_image(task.source), settings) if task.is_image else task.source.read_bytes()
    except (OSError, ValueError) as error:  # of the encoder too: it takes no side above 65,500 pixels
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"{task.source}: ")
        return Failure(str(task.source), reason)
    if content != there:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target, "wb") as file:
            file.write(content)
    return Made(task.name, content_of(content), fresh=content != there)


def _list_unreadable(folder: Path, unreadable: Sequence[Failure]) -> None:
    if unreadable:
        write_table(folder / UNREADABLE, ("image", "reason"), ((each.name, each.reason) for each in unreadable))
    else:
        (folder / UNREADABLE).unlink(missing_ok=True)
