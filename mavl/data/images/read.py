"""Radiographs from files as 8-bit grey, and the check of a file before a run.

The content of a file decides its format; only DICOM without a preamble needs its suffix. Every error is an ImageError.
"""

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from mavl.data.images.dicom import check_dicom, decode_dicom, dicom_size
from mavl.data.images.grey import MAX_BYTES, ImageError, check_size, equalize_histogram, to_grey, to_mask

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""What Pillow may read; DICOM comes on top."""

BEGINNINGS = {
    "DICOM": re.compile(rb".{128}DICM", re.DOTALL),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "BMP": re.compile(rb"BM.{4}\0{4}", re.DOTALL),
    "TIFF": re.compile(rb"II[*+]\0|MM\0[*+]"),
    "WEBP": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
"""How the files of each format begin, within 132 bytes."""

STORED = b"mavl image store"
"""The comment in each JPEG of `prepare_data.py store`. A mask that has it was changed by the compression."""

Level = Literal["exists", "header", "decode", "mask"]

REDUCTIONS = (8, 4, 2)
"""What a JPEG's sides may be divided by while it is decoded."""

_ORIENTATION = ExifTags.Base.Orientation
_TURNS = dict(zip(range(2, 9), (0, 3, 1, 5, 4, 6, 2), strict=True))
"""EXIF orientation -> Pillow's Transpose that undoes it."""

_JPEG_TABLES = 1 << 14
"""Bytes of a JPEG's pixels that are decoded by the check of its header: broken tables end the decoding there."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What no compressed data holds: there 0xFF is followed by 0 or by a restart marker."""

# What the image libraries warn about either ends in an ImageError or does no harm.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"(PIL|pydicom|mavl\.data\.images)\b")


def read_image(path: str | os.PathLike, *, equalize: bool = False) -> Image.Image:
    """A radiograph as 8-bit grey (mode "L"), upright, in its own size.

    Grey values are those of `to_grey` and `decode_dicom`. equalize: spread the histogram, the released RSNA protocol.
    """
    return ImageFile(path, equalize=equalize).image()


def grey_picture(image: Image.Image, name: str) -> Image.Image:
    """`read_image` of an image that Pillow has opened already; `name` is for errors."""
    with _naming(name):
        return _upright(to_grey(image), image)


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """The mask in an image file, bool [H, W], upright, by `to_mask`; ImageError for DICOM and images of a store."""
    with _naming(path):
        _check_exists(path)
        with open(path, "rb") as file:
            image = _open(path, file)
            if image is None:
                raise ImageError("a DICOM file: save the mask as PNG")
            if image.info.get("comment") == STORED:
                raise ImageError("a JPEG of an image store; make the store of the config, which copies masks")
            return np.asarray(_upright(Image.fromarray(to_mask(image)), image))


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) of the radiograph in a file, upright, by the header alone; ImageError for images of a store.

    A store may have made the image smaller than the one that numbers in pixels are of.
    """
    with _naming(path):
        _check_exists(path)
        with open(path, "rb") as file:
            image = _open(path, file)
            if image is None:
                return dicom_size(file)
            if image.info.get("comment") == STORED:
                raise ImageError("a JPEG of an image store, which may be smaller than the image was; use the original")
            upright = _is_upright(image) or image.format == "TIFF" or image.getexif()[_ORIENTATION] <= 4
            return image.size if upright else (image.height, image.width)


def format_of(start: bytes) -> str | None:
    """The image format of a file by its first 132 bytes, None if it is none of them."""
    return next((name for name, beginning in BEGINNINGS.items() if beginning.match(start)), None)


class ImageFile:
    """The radiograph in a file; size: (width, height). An upright JPEG is decoded later, others at once."""

    def __init__(self, path: str | bytes | os.PathLike, *, equalize: bool = False):
        self.path, self._jpeg, self._grey = os.fsdecode(path), b"", None
        with _naming(self.path):
            _check_exists(self.path)
            content = Path(self.path).read_bytes()
            image = _open(self.path, io.BytesIO(content))
            if image is not None and image.format == "JPEG" and _is_upright(image) and not equalize:
                self._jpeg, self.size = content, image.size
                return
            grey = decode_dicom(io.BytesIO(content)) if image is None else _upright(to_grey(image), image)
            self._grey, self.size = np.asarray(grey), grey.size
            if equalize:
                self._grey = equalize_histogram(self._grey)

    def image(self, shrink: float = 1) -> Image.Image:
        """The whole image in mode "L": in its own size, or of a JPEG smaller by up to `shrink`.

        A JPEG's sides are divided by the largest of REDUCTIONS that is no more than `shrink`: its decoder reduces the
        image by smaller cosine transforms, and of colours it then decodes the luma alone.
        """
        if self._grey is not None:
            return Image.fromarray(self._grey)
        with _naming(self.path):
            image = Image.open(io.BytesIO(self._jpeg), formats=("JPEG",))
            if scale := next((scale for scale in REDUCTIONS if scale <= shrink), None):
                image.draft("L", (max(1, image.width // scale), max(1, image.height // scale)))
            return to_grey(image)

    def pixels(self, shrink: float = 1) -> np.ndarray:
        """`image` as uint8 [h, w]."""
        return np.asarray(self.image(shrink)) if self._grey is None else self._grey


def check_image(path: str | os.PathLike, level: Level) -> str | None:
    """None for a good image, else what is wrong with it (without its name). Each level includes the one before it.

    exists: it is a file and not empty. header: it can be read: a JPEG has its end marker and good tables, a plain DICOM
    its pixel data and valid elements; others are decoded. decode: `read_image` reads it. mask: `read_mask` reads it.
    """
    try:
        _check_exists(path)
        if level == "mask":
            read_mask(path)
        elif level != "exists":
            _check_header(path)
        if level == "decode":
            read_image(path)
    except Exception as error:  # as in _naming
        return _reason(error).removeprefix(f"{path}: ")
    return None


@contextmanager
def _naming(path: str | os.PathLike) -> Iterator[None]:
    """Turn whatever fails inside into an ImageError with the file's name."""
    try:
        yield
    except Exception as error:  # decoders raise anything on broken bytes: struct.error, KeyError, EOFError, …
        raise ImageError(f"{path}: {_reason(error)}") from error


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


def _check_exists(path: str | os.PathLike) -> None:
    if os.path.isdir(path):
        raise ImageError("a folder, not an image")
    if (size := os.path.getsize(path)) == 0:
        raise ImageError("empty (0 bytes)")
    if size > MAX_BYTES:
        raise ImageError(f"{size:,} bytes exceed the limit of {MAX_BYTES:,}")


def _open(path: str | os.PathLike, file: BinaryIO) -> Image.Image | None:
    """The image that Pillow finds in an open file, not decoded yet; None for DICOM."""
    start = file.read(132)
    file.seek(0)
    kind = format_of(start)
    if kind == "DICOM":
        return None
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        if kind is not None:
            raise ImageError(f"a damaged {kind}: it begins as one, but its header cannot be read") from None
        if Path(path).suffix.lower() in (".dcm", ".dicom"):
            return None
        raise ImageError(f"no {', '.join(FORMATS)} or DICOM; it begins with {start[:24]!r}") from None
    check_size(*image.size)
    # What a camera puts beside its JPEG (Pillow's MPO) is not a second radiograph.
    if image.format != "MPO" and (count := getattr(image, "n_frames", 1)) > 1:
        raise ImageError(f"{image.format} with {count} images; expected one")
    return image


def _check_header(path: str | os.PathLike) -> None:
    with open(path, "rb") as file:
        image = _open(path, file)
        if image is None:
            check_dicom(file)
        elif image.format == "JPEG":
            _check_jpeg(file)
        else:
            if image.format == "PNG":
                _check_chunks(file)
            to_grey(image)


def _check_chunks(file: BinaryIO) -> None:
    """ImageError if the checksum of a PNG's chunk is wrong; the position in the file is the same afterwards."""
    position = file.tell()
    file.seek(0)
    with Image.open(file, formats=["PNG"]) as image:
        image.verify()  # leaves the file before the checksum of the last chunk, which is always the same
        if file.read(4) != b"\xae\x42\x60\x82":
            raise ImageError("truncated: the checksum of its last chunk is missing")
    file.seek(position)


def _check_jpeg(file: BinaryIO) -> None:
    """ImageError for a JPEG without its end marker, or whose tables are broken. The file is where its pixels begin."""
    beginning = file.tell() + _JPEG_TABLES
    file.seek(0)
    with Image.open(io.BytesIO(file.read(beginning) + b"\xff\xd9"), formats=["JPEG"]) as image:
        image.draft("L", (1, 1))
        image.load()
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - 512))
    if not file.read().rstrip(b"\x00\xff\r\n ").endswith(b"\xff\xd9") and not _has_jpeg_end(file):
        raise ImageError("truncated: the JPEG ends without its end marker")


def _is_upright(image: Image.Image) -> bool:
    """Whether the pixels are in the order in which they are shown; True if the EXIF data are broken."""
    try:
        return image.getexif().get(_ORIENTATION) not in _TURNS
    except Exception:  # SyntaxError, struct.error, …: the pixels are good all the same
        return True


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """The pixels in the order in which the image that they are of is shown; Pillow has turned a TIFF already."""
    return pixels if _is_upright(image) else pixels.transpose(Image.Transpose(_TURNS[image.getexif()[_ORIENTATION]]))


def _has_jpeg_end(file: BinaryIO) -> bool:
    """Whether a JPEG has its end marker outside of its segments, one of which may hold a thumbnail with its own."""
    file.seek(0)
    content, position = file.read(), 2
    while found := _JPEG_MARKER.search(content, position):
        if found[0] == b"\xff\xd9":
            return True
        position = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    return False
