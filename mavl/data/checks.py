"""The check of all image files before a run, which the processes of a node share.

Files that were good at a former start, and have the same size and time of change, are not read again.
"""

import math
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from mavl.data import DataError
from mavl.data.benchmarks.splits import Split
from mavl.data.images.read import Level, check_image
from mavl.data.processes import Stopping, StopRequested, sole_writer
from mavl.progress import TOGETHER, note, progress_bar

TURN = 2048
"""Files that a process checks between two exchanges, so that none waits longer than for these."""

NOTHING = [0, 0]
"""Size and time of change in place of those of a file that is not good."""

_ROW = 16
"""Bytes of them."""


@dataclass(frozen=True)
class Share:
    """The part of the checks that this process does: of `processes` on its node, those of number `rank`.

    Args:
        fewest: processes of a node of the run that has the fewest.
        gather: list -> the lists of all processes of the run, as one.
    """

    rank: int = 0
    processes: int = 1
    fewest: int = 1
    gather: Callable[[list], list] = list

    @classmethod
    def of_run(cls, accelerator: Accelerator) -> Self:
        """That of a process of a run; all its processes must call this. A node is what has one host name."""
        hosts = gather_object([socket.gethostname()])
        mine = [rank for rank, host in enumerate(hosts) if host == socket.gethostname()]
        fewest = min(map(hosts.count, hosts))
        return cls(mine.index(accelerator.process_index), len(mine), fewest, gather_object)

    def turns(self, number: int) -> Iterator[range]:
        """The positions of each turn, none in some; all processes of a run have the same number of turns."""

        def at_once(processes: int) -> int:
            return min(TURN, max(1, math.ceil(number / processes)))

        files = at_once(self.processes)
        for turn in range(math.ceil(number / (self.fewest * at_once(self.fewest)))):
            start = min(number, (turn * self.processes + self.rank) * files)
            yield range(start, min(number, start + files))


class Seen:
    """Sizes and times of change of the files of a list that were good, in a file: int64 [n, 2], zeros for the others.

    Every process of a node writes the rows that it has checked. A row that is lost, or of another file, differs from
    the file's own size and time, so that it only costs another check. Without a path, nothing is kept.
    """

    def __init__(self, path: Path | None, number: int):
        self._path, self._file, size = path, None, number * _ROW
        if path is None:
            return
        try:
            with sole_writer(path.parent, wait=True):
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
                if (found := os.fstat(self._file).st_size) != size:
                    if found:
                        text = f"damaged ({found:,} bytes, not {size:,}); all image files are checked again"
                        print(f"{path}: {text}", file=sys.stderr)
                    os.truncate(self._file, 0)
                    os.truncate(self._file, size)
        except OSError as error:
            self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._file is not None:
            os.close(self._file)

    def read(self, start: int, end: int) -> np.ndarray:
        size = (end - start) * _ROW
        found = b"" if self._file is None else os.pread(self._file, size, start * _ROW)
        return np.frombuffer(bytearray(found.ljust(size, b"\0")), np.int64).reshape(-1, 2)

    def write(self, start: int, rows: np.ndarray) -> None:
        if self._file is not None:
            try:
                os.pwrite(self._file, rows.tobytes(), start * _ROW)
            except OSError as error:
                self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.__exit__()
        self._file = None
        note(f"{self._path}: {error.strerror}: the next start checks all image files again")


def check_images(
    paths: Sequence,
    level: Level,
    *,
    workers: int,
    progress: bool,
    share: Share | None = None,
    seen: Path | None = None,
) -> dict[int, str]:
    """Position -> reason for every image in which `check_image` finds a fault, the same in all processes.

    After a signal to one of them, StopRequested in all.

    Args:
        workers: threads of this process.
        share: its part of the files; by default all of them.
        seen: the file that keeps what was good, for the next start.
    """
    share, reasons, number = share or Share(), {}, len(paths)
    check = partial(_check, paths, level)
    description = f"checking images ({level})"
    bar = progress_bar(total=number, description=description, unit="file", show=progress and number > 0)
    with Seen(seen, number) as kept, bar, ThreadPoolExecutor(max(1, workers)) as pool, Stopping.later():
        for positions in share.turns(number):
            before = kept.read(positions.start, positions.stop)
            rows = before.tolist()
            starts, bad = range(0, len(rows), TOGETHER), {}
            tasks = [rows[start : start + TOGETHER] for start in starts]
            for found in pool.map(check, [positions.start + start for start in starts], tasks):
                bad |= found
            now = np.array([row for task in tasks for row in task], np.int64).reshape(-1, 2)
            if not np.array_equal(now, before):
                kept.write(positions.start, now)
            for stop, found in share.gather([(Stopping.received, bad)]):
                if stop is not None:
                    raise StopRequested(stop)
                for position, reason in found.items():
                    reasons.setdefault(position, reason)
            bar.update(min(share.processes * len(positions), number - bar.n))
    return dict(sorted(reasons.items()))


def _check(paths: Sequence, level: Level, start: int, rows: list[list[int]]) -> dict[int, str]:
    """The faults from this position on; puts the new size and time of each file into its row."""
    bad = {}
    for position, row in enumerate(rows, start):
        path = paths[position]
        now = _size_and_time(path)
        if now != row or now == NOTHING:
            if reason := check_image(path, level):
                bad[position], now = reason, NOTHING
            row[:] = now
    return bad


def bad_images(
    paths: Sequence,
    place: Callable[[int], str],
    split: str,
    settings: Any,
    progress: bool,
    level: Level | None = None,
    share: Share | None = None,
    seen: Path | None = None,
) -> dict[int, str]:
    """Position -> "row: file: reason" of each bad image; DataError if they are more than `max_bad_share`, or all.

    Args:
        place: position -> where the image is listed.
        split: its name, for messages.
        settings: with check_images, workers and max_bad_share.
        level: of `check_image`, by default that of the settings.
        share, seen: as of `check_images`.
    """
    chosen: Level = level or settings.check_images
    reasons = check_images(paths, chosen, workers=settings.workers, progress=progress, share=share, seen=seen)
    lines = {position: f"{place(position)}: {Path(paths[position]).name}: {text}" for position, text in reasons.items()}
    _refuse_too_many(
        lines, len(paths), f"images of the {split} split", "Repair the files or correct --root", settings.max_bad_share
    )
    return lines


def damaged_masks(split: Split, max_bad_share: float) -> dict[int, str]:
    """Position -> "row: mask: reason" of each image whose label needs a damaged mask; errors as of bad_images."""
    lines = {image: f"{split.rows[image]}: mask: {reason}" for image, reason in split.damaged_masks().items()}
    _refuse_too_many(lines, len(split), f"masks of the {split.name} split", "Repair the files", max_bad_share)
    return lines


def _refuse_too_many(lines: dict[int, str], number: int, what: str, fix: str, max_bad_share: float) -> None:
    none_left = len(lines) == number
    if none_left or len(lines) > max_bad_share * number:
        first = "\n  ".join(list(lines.values())[:10])
        raise DataError(
            f"{len(lines)} of {number} {what} are missing or unreadable:\n  {first}\n"
            f"{fix}{'' if none_left else ', or raise max_bad_share to leave them out'}."
        )


def _size_and_time(path: str | os.PathLike) -> list[int]:
    """Bytes of a file and its time of change in nanoseconds, within int64; NOTHING where it has none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return NOTHING
    return [found.st_size, min(found.st_mtime_ns, np.iinfo(np.int64).max)]
