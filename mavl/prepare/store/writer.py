"""Writing a store of prepared images, in parallel; a kill costs the shard in work and nothing else.

A shard is written under another name, and counts once it has its own name and its records beside it (00012.npy). At the
end the records of all shards are merged into the index. What is in the store already, of this run or an earlier one, is
not made again: the same command goes on after a kill, and with more images it adds them.
"""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import numpy as np

from mavl.data.images.inputs import Failure
from mavl.data.images.read import ImageError, read_image
from mavl.data.images.store import (
    ABOUT,
    INDEX_FILE,
    SHARD,
    StoreError,
    StoreSettings,
    by_shard,
    encode,
    index_type,
    read_index,
    read_settings,
    write_index,
    write_settings,
)
from mavl.files import whole_file
from mavl.prepare.processes import LOCK, sole_writer, work_through
from mavl.progress import progress_bar

UNREADABLE = "unreadable.csv"
RECORDS = "{:05}.npy"
SHARD_IMAGES, MOST_SHARDS = 1024, 512
"""Images a shard; more where there would be more shards than that, as each reader has all of them open."""

CHUNK = 16

_LEFT_OVER = re.compile(r"\d{5,}\.bin|\.(\d{5,}\.(bin|npy)|index\.npy|store\.json|unreadable\.csv)\.\d+\.partial")


class Encoded(NamedTuple):
    """An image as it goes into a shard."""

    key: bytes
    content: bytes
    size: tuple[int, int]
    full_size: tuple[int, int]
    checksum: int


@dataclass(frozen=True)
class Written:
    """images: of those asked for, how many the store has now; fresh: how many of them it had not before."""

    images: int
    fresh: int
    unreadable: list[Failure]


def write_store(
    folder: Path,
    settings: StoreSettings,
    sources: Mapping[bytes, Path],
    *,
    workers: int,
    shard_images: int | None = None,
    show: bool = True,
) -> Written:
    """Put the images {key: file} that are not there yet into a store; those that cannot be read are listed in it.

    The bytes depend on the images and their order alone, not on the number of workers. StoreError where the folder
    holds something else, a store made otherwise or under another root; InUseError where another process writes it.
    """
    with _made_ready(folder, settings):
        known = _finished(folder)
        there = {key for records in known for key in records["key"].tolist()}
        _check_root(folder, there, sources)
        missing = [(key, path) for key, path in sources.items() if key not in there]
        writer = _Writer(folder, 1 + max((int(records["shard"].max()) for records in known), default=-1), known)
        most = shard_images or max(SHARD_IMAGES, -(-len(sources) // MOST_SHARDS))
        unreadable = []
        encoded = _encode_all(missing, settings, workers)
        for item in progress_bar(encoded, description=str(folder), unit="image", show=show, total=len(missing)):
            if isinstance(item, Failure):
                unreadable.append(item)
            else:
                writer.add(item, most)
        writer.close()
        _list_unreadable(folder / UNREADABLE, unreadable)
        _merge(folder, writer.known)
    return Written(len(sources) - len(unreadable), len(missing) - len(unreadable), unreadable)


class _Writer:
    """Images one after another into shards; `known` has the records of those that are finished."""

    def __init__(self, folder: Path, number: int, known: list[np.ndarray]):
        self.folder, self.number, self.known = folder, number, known
        self.rows: list[tuple] = []

    def add(self, item: Encoded, most: int) -> None:
        if not self.rows:
            self.shard = ExitStack()
            self.file = self.shard.enter_context(whole_file(self.folder / SHARD.format(self.number), "wb"))
        place = (item.key, self.number, self.file.tell(), len(item.content))
        self.rows.append((*place, *item.size, *item.full_size, item.checksum))
        self.file.write(item.content)
        if len(self.rows) == most:
            self.close()

    def close(self) -> None:
        """Finish the shard in work, if there is one."""
        if not self.rows:
            return
        self.shard.close()
        records = np.array(self.rows, dtype=index_type(max(len(row[0]) for row in self.rows)))
        write_index(self.folder / RECORDS.format(self.number), records)
        self.known.append(records)
        self.number, self.rows = self.number + 1, []


@contextmanager
def _made_ready(folder: Path, settings: StoreSettings) -> Iterator[None]:
    """The folder made, looked over and locked."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ABOUT).exists():
        foreign = [path.name for path in folder.iterdir() if path.name != LOCK and not _is_left_over(path)]
        if foreign:
            raise StoreError(f"{folder} holds {sorted(foreign)[0]} and is no image store; give a folder of its own")
    with sole_writer(folder):
        if not (folder / ABOUT).exists():
            write_settings(folder, settings)
        elif (made := read_settings(folder)) != settings:
            raise StoreError(f"{folder} was made with {_show(made)}, not {_show(settings)}; give another folder")
        yield


def _check_root(folder: Path, there: set[bytes], sources: Mapping[bytes, Path]) -> None:
    """StoreError where the store has none of the images, but some under a longer or shorter path: another root's."""
    if not there.isdisjoint(sources):
        return
    for stored, asked in chain(
        ((key, tail) for key in there for tail in _tails(key) if tail in sources),
        ((tail, key) for key in sources for tail in _tails(key) if tail in there),
    ):
        names = f"has {os.fsdecode(stored)} and none of these images, which are {os.fsdecode(asked)} and the like"
        fix = "give the --root that it was made with, or another --out; name all images at once if both are meant"
        raise StoreError(f"{folder} {names}: {fix}")


def _tails(key: bytes) -> Iterator[bytes]:
    """b"a/b/c" -> b"b/c", b"c"."""
    while (cut := key.find(b"/")) >= 0:
        key = key[cut + 1 :]
        yield key


def _show(settings: StoreSettings) -> str:
    quality = f" of quality {settings.quality}" if settings.encoding == "jpeg" else ""
    return f"the {settings.side} side of {settings.size} as {settings.encoding}{quality}"


def _is_left_over(path: Path) -> bool:
    return _LEFT_OVER.fullmatch(path.name) is not None


def _finished(folder: Path) -> list[np.ndarray]:
    """The records of each whole shard; what a kill has left of others is removed.

    A shard that was deleted, or is not as long as its records say, or whose records are damaged, is none: its images
    are made again.
    """
    index = folder / INDEX_FILE
    if not index.exists():
        _check_index_is_not_lost(folder)
    merged = by_shard(read_index(index)) if index.exists() else []
    shards = {int(records[0]["shard"]): records for records in merged}
    for path in folder.glob("[0-9]*.npy"):
        try:
            shards.setdefault(int(path.stem), read_index(path))
        except StoreError:
            path.unlink()
    whole = {}
    for number, records in shards.items():
        path = folder / SHARD.format(number)
        if path.exists() and path.stat().st_size == int(records["length"].sum(dtype=np.int64)):
            whole[number] = records
    stay = {SHARD.format(number) for number in whole}
    for path in folder.iterdir():
        if _is_left_over(path) and path.name not in stay:
            path.unlink()
    return [whole[number] for number in sorted(whole)]


def _check_index_is_not_lost(folder: Path) -> None:
    """StoreError where more shards are without records than the one that a kill may leave so."""
    lost = sorted(path.name for path in folder.glob("[0-9]*.bin") if not path.with_suffix(".npy").exists())
    if len(lost) > 1:
        fix = f"put it back, or delete the folder {folder} and make the store again"
        raise StoreError(f"{folder / INDEX_FILE} is gone, which alone says what is in {', '.join(lost[:3])} …: {fix}")


def _merge(folder: Path, known: list[np.ndarray]) -> None:
    """One index of all shards; then their own records are superfluous."""
    if not known:
        raise StoreError(f"{folder}: no image could be read; {UNREADABLE} there says why")
    kind = index_type(max(records.dtype["key"].itemsize for records in known))
    index = np.concatenate([records.astype(kind) for records in known])
    write_index(folder / INDEX_FILE, index[np.argsort(index["key"], kind="stable")])
    for path in folder.glob("[0-9]*.npy"):
        path.unlink()


def _encode_all(
    sources: list[tuple[bytes, Path]], settings: StoreSettings, workers: int
) -> Iterator[Encoded | Failure]:
    """Every image in the order of `sources`, though the workers finish in any."""
    starts = range(0, len(sources), CHUNK)
    tasks = ((number, sources[start : start + CHUNK]) for number, start in enumerate(starts))
    waiting: dict[int, list[Encoded | Failure]] = {}
    following = 0
    for number, items in work_through(partial(_encode_chunk, settings), tasks, min(workers, len(starts))):
        waiting[number] = items
        while following in waiting:
            yield from waiting.pop(following)
            following += 1


def _encode_chunk(
    settings: StoreSettings, task: tuple[int, Iterable[tuple[bytes, Path]]]
) -> tuple[int, list[Encoded | Failure]]:
    number, sources = task
    return number, [_encode_one(key, path, settings) for key, path in sources]


def _encode_one(key: bytes, path: Path, settings: StoreSettings) -> Encoded | Failure:
    try:
        grey = read_image(path)
    except ImageError as error:
        return Failure(str(path), str(error).removeprefix(f"{path}: "))
    content, size = encode(grey, settings)
    return Encoded(key, content, size, grey.size, crc32(content))


def _list_unreadable(path: Path, unreadable: list[Failure]) -> None:
    if not unreadable:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator=os.linesep)
    table.writerows([("image", "reason"), *((failure.name, failure.reason) for failure in unreadable)])
    with whole_file(path, "wb") as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))
