"""A store of prepared images: small, grey, 8 bits, in few large files; made by mavl.prepare.store.writer.

    FOLDER/store.json     how it was made
    FOLDER/index.npy      a record for each image (INDEX), sorted by key, and behind the array its CRC-32
    FOLDER/00000.bin …    shards: the images' bytes, one after another

A key is the image's path under the root of the data set, so a store goes with the data set wherever that lies. An image
is one read at an offset, so processes share nothing; no shard is opened before the first of its images is asked for.
"""

import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt, ValidationError

from mavl.config.loader import Settings
from mavl.data.images.grey import ImageError, equalize_histogram
from mavl.data.images.read import decode_jpeg
from mavl.files import whole_file
from mavl.progress import progress_bar

FORMAT = "mavl image store 1"
ABOUT, INDEX_FILE, SHARD = "store.json", "index.npy", "{:05}.bin"
CRC_BYTES = 4
BLOCK = 1 << 24

ROW = [
    ("shard", "<u4"),
    ("offset", "<u8"),
    ("length", "<u4"),
    ("width", "<u4"),
    ("height", "<u4"),
    ("full_width", "<u4"),
    ("full_height", "<u4"),
    ("crc32", "<u4"),
]
"""Where an image's bytes are, their size in pixels, the original's, and the CRC-32 of the bytes; before it the key."""


class StoreError(ValueError):
    """A store that is not there, not whole, or not of the kind asked for; the message says how to mend it."""


class StoreSettings(Settings):
    """How images are stored. side, size: the side that is brought down to so many pixels; smaller images stay.

    encoding: "jpeg" of this quality, or "raw", which takes about eight times the space and no decoding.
    """

    size: PositiveInt = 512
    side: Literal["shortest", "longest"] = "shortest"
    encoding: Literal["jpeg", "raw"] = "jpeg"
    quality: int = Field(default=92, ge=1, le=100)


class Store:
    """Images by row, which `rows` finds for keys. Pickled, it is the name of its folder."""

    def __init__(self, folder: str | os.PathLike):
        self._files: dict[int, int] = {}
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        if not (self.folder / INDEX_FILE).is_file():
            raise StoreError(f"{self.folder}: the store is not finished; the command that makes it goes on with it")

    def __reduce__(self):
        return Store, (self.folder,)

    def __del__(self):
        for file in self._files.values():
            os.close(file)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def index(self) -> np.ndarray:
        """The records, as a memory map."""
        return read_index(self.folder / INDEX_FILE, mapped=True)

    def rows(self, keys: Sequence[bytes]) -> np.ndarray:
        """int64 [n]: the row of each key, -1 where there is none."""
        wanted, known = np.array(keys, dtype=bytes), self.index["key"]
        rows = np.searchsorted(known, wanted)
        found = known[np.minimum(rows, len(known) - 1)] == wanted
        return np.where(found, rows, -1)

    def key(self, row: int) -> str:
        return os.fsdecode(self.index["key"][row])

    def read(self, row: int) -> np.ndarray:
        """uint8 [length]: the bytes of an image; StoreError when the shard is missing or ends too early."""
        record = self.index[row]
        shard, length = int(record["shard"]), int(record["length"])
        content = np.empty(length, np.uint8)
        if os.preadv(self._open(shard), [content], int(record["offset"])) != length:
            raise StoreError(f"{self.folder / SHARD.format(shard)}: ends before the bytes of {self.key(row)}")
        return content

    def _open(self, shard: int) -> int:
        """A file descriptor that stays open; reading at an offset, processes may share it."""
        if shard not in self._files:
            path = self.folder / SHARD.format(shard)
            try:
                self._files[shard] = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise StoreError(f"{path}: {error.strerror}; the same command makes it again") from error
        return self._files[shard]


class StoredImage:
    """A `Picture` of a store, whose size is that of the original."""

    def __init__(self, store: Store, row: int, equalize: bool = False):
        self.store, self.row, self.equalize = store, row, equalize
        record = store.index[row]
        self.shape = int(record["height"]), int(record["width"])
        self.size = int(record["full_width"]), int(record["full_height"])

    def pixels(self, shrink: float = 1) -> np.ndarray:
        content = self.store.read(self.row)
        if self.store.settings.encoding == "raw":
            grey = content.reshape(self.shape)
        else:
            further = 1 if self.equalize else shrink * self.shape[0] / self.size[1]
            try:
                grey = np.asarray(decode_jpeg(io.BytesIO(content), further))
            except Exception as error:  # a decoder meets broken bytes with whatever comes up
                name = f"{self.store.folder}: {self.store.key(self.row)}"
                raise ImageError(f"{name} cannot be decoded ({error}); --verify finds all such damage") from error
        return equalize_histogram(grey) if self.equalize else grey


def key_of(path: str | os.PathLike, root: str | os.PathLike | None = None) -> bytes:
    """The name of an image in a store: its path under the root, or all of it where it does not lie there."""
    name = os.path.normpath(path)
    if root is not None:
        name = name.removeprefix(os.path.normpath(root) + os.sep)
    return os.fsencode(name)


def index_type(key_bytes: int) -> np.dtype:
    return np.dtype([("key", f"S{max(1, key_bytes)}"), *ROW])


# Files ----------------------------------------------------------------------------------------------------------------


def write_settings(folder: Path, settings: StoreSettings) -> None:
    with whole_file(folder / ABOUT, "wb") as file:
        file.write(_about(settings))


def read_settings(folder: Path) -> StoreSettings:
    """StoreError where there is no store, or one of another format, or its description is damaged."""
    try:
        content = (folder / ABOUT).read_bytes()
    except OSError as error:
        raise StoreError(f"{folder} is no image store ({ABOUT}: {error.strerror})") from error
    try:
        about = json.loads(content)
        settings = StoreSettings.model_validate({name: about[name] for name in StoreSettings.model_fields})
        whole = content == _about(settings)
    except (ValueError, ValidationError, LookupError, TypeError):
        whole = False
    if not whole:
        raise StoreError(f"{folder / ABOUT}: damaged, or not of the format {FORMAT!r}")
    return settings


def write_index(path: Path, index: np.ndarray) -> None:
    content = io.BytesIO()
    np.save(content, index, allow_pickle=False)
    whole = content.getvalue()
    with whole_file(path, "wb") as file:
        file.write(whole + crc32(whole).to_bytes(CRC_BYTES, "little"))


def read_index(path: Path, mapped: bool = False) -> np.ndarray:
    """The records of an index file; not `mapped`, its checksum is compared. StoreError for a damaged one."""
    try:
        if mapped:
            return np.lib.format.open_memmap(path, mode="r").view(np.ndarray)
        content = path.read_bytes()
        if crc32(content[:-CRC_BYTES]) == int.from_bytes(content[-CRC_BYTES:], "little"):
            return np.load(io.BytesIO(content), allow_pickle=False)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    except (EOFError, ValueError):
        pass  # it is damaged, as one whose checksum is another
    raise StoreError(f"{path}: damaged; delete the folder {path.parent} and make the store again")


def by_shard(index: np.ndarray) -> list[np.ndarray]:
    """The records of each shard, in the order of their bytes."""
    ordered = index[np.argsort(index, order=("shard", "offset"))]
    _, first = np.unique(ordered["shard"], return_index=True)
    return np.split(ordered, first[1:]) if len(index) else []


def _about(settings: StoreSettings) -> bytes:
    content = {"format": FORMAT} | settings.model_dump()
    checksum = crc32(json.dumps(content).encode())
    return (json.dumps(content | {"crc32": checksum}, indent=2) + "\n").encode()


# Verification ---------------------------------------------------------------------------------------------------------


def verify(folder: Path, workers: int, show: bool) -> list[str]:
    """Read every byte: what is wrong, a line each; empty for a sound store."""
    try:
        Store(folder)
        index = read_index(folder / INDEX_FILE)
    except StoreError as error:
        return [str(error)]
    parts = by_shard(index)
    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        progress_bar(total=len(index), description="verifying", unit="image", show=show) as bar,
    ):
        found: list[str] = []
        for records, problems in zip(parts, pool.map(lambda part: list(_damage(folder, part)), parts), strict=True):
            found += problems
            bar.update(len(records))
    known = {SHARD.format(records[0]["shard"]) for records in parts}
    found += [f"{path}: is not in the index" for path in sorted(folder.glob("*.bin")) if path.name not in known]
    return found


def _damage(folder: Path, records: np.ndarray) -> Iterator[str]:
    """What is wrong with a shard."""
    path = folder / SHARD.format(records[0]["shard"])
    end = 0
    try:
        with open(path, "rb") as file:
            for record in records:
                if record["offset"] != end:
                    yield f"{path}: {os.fsdecode(record['key'])} begins at byte {record['offset']}, not {end}"
                file.seek(int(record["offset"]))
                if crc32(file.read(int(record["length"]))) != record["crc32"]:
                    yield f"{path}: {os.fsdecode(record['key'])}: the bytes are not those that were written"
                end = int(record["offset"]) + int(record["length"])
        if (size := path.stat().st_size) != end:
            yield f"{path}: {size} bytes; its images have {end}"
    except OSError as error:
        yield f"{path}: {error.strerror}"


def encode(grey: Image.Image, settings: StoreSettings) -> tuple[bytes, tuple[int, int]]:
    """A grey image as it is stored: its bytes and (width, height). Antialiased by Lanczos' filter."""
    side = min(grey.size) if settings.side == "shortest" else max(grey.size)
    if side > settings.size:
        size = tuple(max(1, round(length * settings.size / side)) for length in grey.size)
        grey = grey.resize(size, Image.Resampling.LANCZOS)
    if settings.encoding == "raw":
        return grey.tobytes(), grey.size
    content = io.BytesIO()
    grey.save(content, "JPEG", quality=settings.quality)
    return content.getvalue(), grey.size
