"""Radiographs from files: one as 8-bit grey, and many checked before a run that would trip over them hours later.

An `ImageFile` knows its size before its pixels are decoded: a crop is chosen first, and a JPEG is then decoded at the
least resolution that this crop needs.

The content of a file decides its format, not its name; only DICOM without a preamble needs its suffix. Every error is
one line that names the file.
"""

import io
import os
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
from PIL import Image, UnidentifiedImageError

from mavl.data.images.dicom import check_dicom, decode_dicom
from mavl.data.images.formats import count_pages, has_jpeg_end, turn_of
from mavl.data.images.grey import ImageError, equalize_histogram, to_grey
from mavl.progress import in_threads

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""What Pillow may read; DICOM comes on top."""

Level = Literal["exists", "header", "decode"]

REDUCTIONS = (8, 4, 2)
"""What a JPEG's sides may be divided by while it is decoded."""


def read_image(path: str | os.PathLike, *, equalize: bool = False) -> Image.Image:
    """A radiograph as 8-bit grey (mode "L"), upright, in its own size.

    8-bit grey comes as it is, colours by their luma, transparency over black; deeper pixels are scaled so that the
    image's own maximum is 255 (SPEC section 10). Of DICOM, 8-bit pixels without a window come as they are, others by
    their window or else from their minimum to their maximum; MONOCHROME1 is inverted. `equalize` spreads the histogram
    of the result, the released protocol for RSNA.

    Raises ImageError.
    """
    with _naming(path):
        _check_exists(path)
        return _equalized(_decode(path), equalize)


def grey_picture(image: Image.Image, name: str) -> Image.Image:
    """What `read_image` gives of a file that Pillow has opened already; ImageError with the name if it is damaged."""
    with _naming(name):
        return _upright_grey(image)


class ImageFile:
    """The radiograph in a file, decoded by `pixels`. size: (width, height) of the upright image.

    A JPEG is only read at first; other formats are decoded at once. ImageError at either time.
    """

    def __init__(self, path: str | bytes | os.PathLike, *, equalize: bool = False):
        self.path, self._jpeg, self._grey = os.fsdecode(path), b"", None
        with _naming(self.path):
            _check_exists(self.path)
            self._opened = None if equalize else self._open_jpeg()
            if self._opened is None:
                self._grey = _equalized(_decode(self.path), equalize)
        self.size = (self._opened or self._grey).size

    def pixels(self, shrink: float = 1) -> np.ndarray:
        """Grey uint8 [h, w] of the whole image: in its own size, or of a JPEG smaller by up to `shrink`."""
        if self._grey is not None:
            return np.asarray(self._grey)
        try:  # without _naming, which costs a hundredth of a training sample: Pillow warns while it opens a file only
            image, self._opened = self._opened or Image.open(io.BytesIO(self._jpeg), formats=("JPEG",)), None
            return _decode_jpeg(image, shrink)
        except Exception as error:  # as in _naming
            raise ImageError(f"{self.path}: {_reason(error)}") from error

    def _open_jpeg(self) -> Image.Image | None:
        """The image of an upright JPEG, read but not decoded; None for any other file."""
        with open(self.path, "rb") as file:
            if file.read(2) != b"\xff\xd8":
                return None
            file.seek(0)
            self._jpeg = file.read()
        image = _open(self.path, io.BytesIO(self._jpeg))
        return image if image.format == "JPEG" and turn_of(image) is None else None


def check_image(path: str | os.PathLike, level: Level) -> str | None:
    """None for a good image, else what is wrong with it (without its name). Each level includes the one before it.

    exists: it is a file and not empty.
    header: it is whole and of a kind that is read. A PNG's chunks are checked, a JPEG must have its end marker, a
        DICOM must hold all of its pixel data; others are decoded, as nothing cheaper tells that one is cut short.
    decode: `read_image` reads it.
    """
    if level not in get_args(Level):
        raise ValueError(f"no level of checking is called {level!r}; expected one of {get_args(Level)}")
    try:
        with _quiet:
            _check_exists(path)
            if level != "exists":
                _check_header(path)
            if level == "decode":
                _decode(path)
    except Exception as error:  # as in _naming
        return _reason(error)
    return None


def check_images(paths: Sequence[str | os.PathLike], level: Level, *, workers: int, progress: bool) -> dict[int, str]:
    """`check_image` in threads: what is wrong, by position in `paths`; empty when all are good."""
    description = f"checking images ({level})"
    reasons = in_threads(lambda path: check_image(path, level), paths, workers, description, progress)
    return {position: reason for position, reason in enumerate(reasons) if reason is not None}


@contextmanager
def _naming(path: str | os.PathLike) -> Iterator[None]:
    """Whatever fails inside becomes an ImageError with the file's name."""
    try:
        with _quiet:
            yield
    except Exception as error:  # decoders meet broken bytes with whatever comes up: struct.error, KeyError, EOFError, …
        raise ImageError(f"{path}: {_reason(error)}") from error


def _equalized(grey: Image.Image, equalize: bool) -> Image.Image:
    return Image.fromarray(equalize_histogram(np.asarray(grey))) if equalize else grey


def _reason(error: Exception) -> str:
    """What an exception says about the file, on one line."""
    if isinstance(error, ImageError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    message = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be decoded: {message}"


class _Quiet:
    """Keeps the warnings of the image libraries to itself while at least one thread is inside.

    What they warn about either ends in an ImageError or does no harm. `warnings.catch_warnings` alone will not do:
    threads that leave in another order than they came would put back one another's filters.
    """

    def __init__(self):
        self._lock, self._inside = threading.Lock(), 0
        self._filters = warnings.catch_warnings()

    def __enter__(self):
        with self._lock:
            if self._inside == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
                warnings.filterwarnings("ignore", module=r"(PIL|pydicom|mavl\.data)\b")
            self._inside += 1

    def __exit__(self, *exception):
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(*exception)


_quiet = _Quiet()


def _check_exists(path: str | os.PathLike) -> None:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder, not an image")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a regular file")
    if status.st_size == 0:
        raise ImageError("empty (0 bytes)")


def _open(path: str | os.PathLike, file: BinaryIO) -> Image.Image | None:
    """The image that Pillow sees in an open file, not decoded yet; None for DICOM."""
    start = file.read(132)
    file.seek(0)
    if start[128:] == b"DICM":
        return None
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        if Path(path).suffix.lower() in (".dcm", ".dicom"):
            return None
        raise ImageError(f"no {', '.join(FORMATS)} or DICOM; it begins with {start[:24]!r}") from None
    if (count := count_pages(image)) > 1:
        raise ImageError(f"{image.format} with {count} {'pages' if image.format == 'TIFF' else 'frames'}; expected one")
    return image


def _decode(path: str | os.PathLike) -> Image.Image:
    with open(path, "rb") as file:
        image = _open(path, file)
        if image is None:
            return decode_dicom(file)
        return _upright_grey(image)


def _upright_grey(image: Image.Image) -> Image.Image:
    grey, turn = to_grey(image), turn_of(image)
    return grey if turn is None else grey.transpose(turn)


def _decode_jpeg(image: Image.Image, shrink: float) -> np.ndarray:
    """Grey uint8 [h, w], the sides divided by the largest of REDUCTIONS that is no more than `shrink`.

    The decoder itself reduces the image, by smaller cosine transforms; of colours it then decodes the luma alone.
    """
    scale = next((scale for scale in REDUCTIONS if scale <= shrink), None)
    if scale is not None:
        image.draft("L", (max(1, image.width // scale), max(1, image.height // scale)))
    return np.asarray(image if image.mode == "L" else to_grey(image))


def _check_header(path: str | os.PathLike) -> None:
    with open(path, "rb") as file:
        image = _open(path, file)
        if image is None:
            check_dicom(file)
        elif image.format == "PNG":
            image.verify()  # leaves the file before the checksum of the last chunk, which is always the same
            if file.read(4) != b"\xae\x42\x60\x82":
                raise ImageError("truncated: the checksum of its last chunk is missing")
        elif image.format == "JPEG":
            file.seek(max(0, os.fstat(file.fileno()).st_size - 512))
            if not file.read().rstrip(b"\x00\xff\r\n ").endswith(b"\xff\xd9") and not has_jpeg_end(file):
                raise ImageError("truncated: the JPEG ends without its end marker")
        else:
            to_grey(image)
