"""Lists of images as memory maps: built once on a node, shared by its processes and their loader workers."""

import hashlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Self

import numpy as np

from mavl.data.processes import sole_writer
from mavl.data.texts import BLOCK, Texts
from mavl.files import OutsideError, refuse_link, whole_file
from mavl.progress import note

VERSION = "1"
"""Part of every key: to be raised with another format of the files here, or when `check_image` finds more faults."""

LIST = "images.list"
NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class ImageList(Sequence[str]):
    """The paths of a split's images in their order, with labels.

    Args:
        root: the folder that relative names are below, if there is one.
        names: of all the files.
        places: where each is listed, for messages.
        labels: [n, …].
        order: positions, sorted by path, part by part.
        left_out: rising positions of those that do not count.
        folder: of the files of this list in the cache.
    """

    root: Path | None
    names: Texts
    places: Sequence[str]
    labels: np.ndarray
    order: np.ndarray
    left_out: np.ndarray = field(default_factory=lambda: NONE)
    folder: Path | None = None

    @classmethod
    def pack(cls, root: Path | None, names: Iterable[str], places: Iterable[str], labels: np.ndarray) -> Self:
        """The list of these names; in memory, some 100 bytes an image."""
        images = cls(root, Texts.pack(names), Texts.pack(places), labels, NONE)
        # A part of a path comes before a longer one, whatever the characters behind it: pathlib's order
        parts = [path.replace("/", "\0") for path in images]
        return replace(images, order=np.array(sorted(range(len(parts)), key=parts.__getitem__), np.int64))

    @classmethod
    def of_paths(cls, root: Path | None, paths: Sequence[Path], places: Iterable[str], labels: np.ndarray) -> Self:
        """The list of these paths, their names relative where they are below the root."""
        below = [path.relative_to(root) if root and path.is_relative_to(root) else path for path in paths]
        return cls.pack(root, (path.as_posix() for path in below), places, labels)

    def __len__(self) -> int:
        return len(self.names) - len(self.left_out)

    def __reduce__(self) -> tuple:
        """A worker's copy: it maps the same file, or holds the names; it has no places."""
        if self.folder is not None:
            return _reopen, (self.folder, self.root, self.left_out)
        return type(self), (self.root, self.names, (), self.labels, NONE, self.left_out)

    def position(self, index: int) -> int:
        """The position in the whole list of image `index` of those that count."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        if not len(self.left_out):
            return index
        return index + int(np.searchsorted(self._kept_before, index, side="right"))

    def __getitem__(self, index: Any) -> Any:
        """The path of an image, or of a slice of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._path(self.names[self.position(index)])

    def place(self, index: int) -> str:
        return self.places[self.position(index)]

    def label(self, index: int) -> Any:
        return self.labels[self.position(index)]

    def __iter__(self) -> Iterator[str]:
        return map(self._path, self.kept_names())

    def kept_names(self) -> Iterator[str]:
        left_out = set(self.left_out.tolist())
        return (name for position, name in enumerate(self.names) if position not in left_out)

    def kept_labels(self) -> Iterator[np.ndarray]:
        """The labels [b, …], block by block."""
        for start in range(0, len(self.names), BLOCK):
            block = self.labels[start : start + BLOCK]
            first, last = np.searchsorted(self.left_out, [start, start + BLOCK])
            yield np.delete(block, self.left_out[first:last] - start, axis=0)

    def without(self, indices: Collection[int]) -> Self:
        """The list without these images; the files of the cache stay those of the whole list."""
        positions = [self.position(index) for index in indices]
        return replace(self, left_out=np.union1d(self.left_out, np.array(positions, np.int64)))

    def sha256(self) -> str:
        """Of the names, a line each, and of the labels as int64."""
        digest, starts = hashlib.sha256(), self.names.starts
        edges = pairwise([-1, *self.left_out.tolist(), len(self.names)])
        pieces = [(starts[before + 1], starts[after]) for before, after in edges if after > before + 1]
        for number, (start, end) in enumerate(pieces, start=1):
            digest.update(self.names.content[start : end - (number == len(pieces))].data)
        for labels in self.kept_labels():
            digest.update(np.ascontiguousarray(labels, np.int64).reshape(-1).data)
        return digest.hexdigest()

    def spread(self, most: int) -> list[str]:
        """At most so many paths, evenly spread over all of them in sorted order."""
        kept = self.order[~np.isin(self.order, self.left_out)] if len(self.left_out) else self.order
        step = -(-len(kept) // most) or 1
        return [self._path(self.names[position]) for position in kept[::step].tolist()]

    def common(self, other: Self) -> set[str]:
        """The paths that both lists have."""
        fewer, more = sorted((self, other), key=len)
        names = set(fewer.kept_names())
        return {fewer._path(name) for name in more.kept_names() if name in names}

    def _path(self, name: str) -> str:
        return name if name.startswith("/") else self._base + name

    @cached_property
    def _kept_before(self) -> np.ndarray:
        """How many images that count come before each of those left out."""
        return self.left_out - np.arange(len(self.left_out))

    @cached_property
    def _base(self) -> str:
        return "" if self.root is None or self.root == Path() else os.path.join(self.root, "")


def cached(cache: Path | None, key: Sequence[str], root: Path | None, build: Callable[[], ImageList]) -> ImageList:
    """The list of this key as a map of the file in the cache, which one process builds while the others wait.

    A file that is damaged or of another key is replaced, with a note. Without a cache, or where it cannot be written,
    the list is in memory.
    """
    if cache is None:
        return build()
    secret = hashlib.sha256("\0".join((VERSION, *key)).encode("utf-8", "surrogatepass")).digest()
    folder, built = cache / secret.hex()[:32], None
    with suppress(OSError, ValueError):
        return _open(folder, root, secret)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_link(folder)
        with sole_writer(folder, wait=True):
            if (found := _open_or_note(folder, root, secret)) is not None:
                return found
            built = build()
            _write(folder / LIST, secret, built)
            return _open(folder, root, secret)
    except (OSError, OutsideError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        note(f"{folder}: {reason or error}: the list of images stays in memory; see data.cache")
        return built or build()


def stored(cache: Path | None, images: ImageList) -> ImageList:
    """The list as a map of a file in the cache, by its content."""
    if cache is None:
        return images
    root = os.path.abspath(images.root) if images.root else ""
    return cached(cache, ("content", root, _digest(_arrays(images)).hex()), images.root, lambda: images)


def _arrays(images: ImageList) -> list[np.ndarray]:
    places = images.places if isinstance(images.places, Texts) else Texts.pack(images.places)
    texts = (images.names.content, images.names.starts, places.content, places.starts)
    return [*texts, np.ascontiguousarray(images.labels), images.order]


def _digest(arrays: Iterable[np.ndarray]) -> bytes:
    digest = hashlib.sha256()
    for each in arrays:
        digest.update(f"{each.dtype.str}{each.shape}".encode())
        digest.update(each.reshape(-1).data)
    return digest.digest()


def _write(path: Path, key: bytes, images: ImageList) -> None:
    arrays = _arrays(images)
    with whole_file(path, "wb") as file:
        for each in [np.frombuffer(key + _digest(arrays), np.uint8), *arrays]:
            np.lib.format.write_array(file, each, allow_pickle=False)


def _open_or_note(folder: Path, root: Path | None, key: bytes) -> ImageList | None:
    """The list in a folder of the cache; None where there is none, with a note where it cannot be used."""
    try:
        return _open(folder, root, key)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        print(f"{folder / LIST}: {error}: the list of images is built anew", file=sys.stderr)
        return None


def _open(folder: Path, root: Path | None, key: bytes) -> ImageList:
    """ValueError for a damaged file and for one of another key."""
    head, *arrays = _map(folder / LIST)
    if head.tobytes() != key + _digest(arrays):
        raise ValueError("damaged, or of other content")
    content, starts, place_content, place_starts, labels, order = arrays
    return ImageList(root, Texts(content, starts), Texts(place_content, place_starts), labels, order, folder=folder)


def _reopen(folder: Path, root: Path | None, left_out: np.ndarray) -> ImageList:
    """The list in a worker, by what its process has checked."""
    _, content, starts, _, _, labels, _ = _map(folder / LIST)
    return ImageList(root, Texts(content, starts), (), labels, NONE, left_out, folder)


def _map(path: Path) -> list[np.ndarray]:
    """The seven arrays of a file; ValueError where it is too short for them, or no such file."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK  # not waiting for the other end of a pipe
    with open(path, "rb", opener=lambda name, wanted: os.open(name, wanted | flags)) as file:
        try:
            arrays = [_map_array(file) for _ in range(7)]
        except (TokenError, SyntaxError, OverflowError, TypeError) as error:  # NumPy's, of a header
            raise ValueError("damaged") from error
        if file.read(1):
            raise ValueError("longer than its arrays")
    return arrays


def _map_array(file: IO[bytes]) -> np.ndarray:
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("no array of NumPy's format 1.0")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    start = file.tell()
    mapped = np.memmap(file, dtype, "r", start, shape)
    file.seek(start + mapped.nbytes)
    return mapped.view(np.ndarray)
