"""Radiographs from files: one as 8-bit grey, and many checked before a run that would trip over them hours later.

The format is told by the content of a file, not by its name; only DICOM without its preamble needs its extension.
Every failure is one line that names the file.
"""

import os
import stat
import struct
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Literal, get_args

import numpy as np
import pydicom
from PIL import Image, ImageOps, UnidentifiedImageError
from pydicom.pixels import apply_modality_lut, apply_voi_lut, get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from tqdm import tqdm

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""What Pillow may read; DICOM comes on top."""

Level = Literal["exists", "header", "decode"]


class ImageError(ValueError):
    """An image that cannot be used: one line with the file and what is wrong with it."""


def read_image(path: str | os.PathLike, *, equalize: bool = False) -> Image.Image:
    """A radiograph as 8-bit grey (mode "L"), upright, in its own size.

    8-bit grey comes as it is, colours by their luma, transparency over black; deeper pixels are scaled so that the
    image's own maximum is 255 (SPEC section 10). Of DICOM, 8-bit pixels without a window come as they are, others by
    their window or else from their minimum to their maximum; MONOCHROME1 is inverted. `equalize` spreads the histogram
    of the result, the released protocol for RSNA.

    Raises ImageError.
    """
    try:
        with _quiet:
            _check_exists(path)
            grey = _decode(path)
    except Exception as error:  # decoders meet broken bytes with whatever comes up: struct.error, KeyError, EOFError, …
        raise ImageError(f"{path}: {_reason(error)}") from error
    return Image.fromarray(_equalize(np.asarray(grey))) if equalize else grey


def check_image(path: str | os.PathLike, level: Level) -> str | None:
    """None for a good image, else what is wrong with it (without its name). Each level includes the one before it.

    exists: it is a file and not empty.
    header: it is whole and of a kind that is read. A PNG's chunks are checked, a JPEG must end with its end marker, a
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
    except Exception as error:  # as in read_image
        return _reason(error)
    return None


def check_images(paths: Sequence[str | os.PathLike], level: Level, *, workers: int, progress: bool) -> dict[int, str]:
    """`check_image` in threads: what is wrong, by position in `paths`; empty when all are good."""
    size = 64  # files a task: a future for each of 377,000 would cost about as much as the checks

    def check(start: int) -> list[str | None]:
        return [check_image(path, level) for path in paths[start : start + size]]

    reasons: list[str | None] = []
    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        tqdm(total=len(paths), desc=f"checking images ({level})", unit="file", disable=not progress) as bar,
    ):
        for chunk in pool.map(check, range(0, len(paths), size)):
            reasons += chunk
            bar.update(len(chunk))
    return {position: reason for position, reason in enumerate(reasons) if reason is not None}


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
                warnings.filterwarnings("ignore", module=r"(PIL|pydicom|mavl\.data\.images)\b")
            self._inside += 1

    def __exit__(self, *exception):
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._filters.__exit__(*exception)


_quiet = _Quiet()


# Any file -------------------------------------------------------------------------------------------------------------


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
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        file.seek(0)
        if Path(path).suffix.lower() in (".dcm", ".dicom"):
            return None
        raise ImageError(f"no {', '.join(FORMATS)} or DICOM; it begins with {start[:24]!r}") from None


def _decode(path: str | os.PathLike) -> Image.Image:
    with open(path, "rb") as file:
        image = _open(path, file)
        return _decode_dicom(file) if image is None else _grey(ImageOps.exif_transpose(image))


def _check_header(path: str | os.PathLike) -> None:
    with open(path, "rb") as file:
        image = _open(path, file)
        if image is None:
            _check_dicom(file)
        elif image.format == "PNG":
            image.verify()  # leaves the file before the checksum of the last chunk, which is always the same
            if file.read(4) != b"\xae\x42\x60\x82":
                raise ImageError("truncated: the checksum of its last chunk is missing")
        elif image.format == "JPEG":
            file.seek(max(0, os.fstat(file.fileno()).st_size - 512))
            if not file.read().rstrip(b"\x00\xff\r\n ").endswith(b"\xff\xd9"):
                raise ImageError("truncated: the JPEG ends without its end marker")
        else:
            _grey(image)


# Grey values ----------------------------------------------------------------------------------------------------------


def _grey(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        return Image.fromarray(_to_8_bits(pixels, 0, pixels.max(initial=0)))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.new("RGB", image.size)
        image.paste(coloured, mask=coloured.getchannel("A"))
    elif image.mode in ("P", "CMYK"):
        image = image.convert("RGB")
    # Of equal red, green and blue Pillow's luma is that very value, as its three weights sum to 2**16.
    return image.convert("L")


def _to_8_bits(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pixels [H, W] of any number type, low..high scaled to 0..255 and rounded; black where the two are the same."""
    if not np.isfinite(low) or not np.isfinite(high):
        raise ImageError("has pixels that are not finite numbers")
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = pixels.astype(np.float64)  # and in place from here, as 16 million pixels are no rarity
    scaled -= low
    scaled *= 255
    scaled /= float(high) - float(low)
    return np.rint(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)


def _equalize(grey: np.ndarray) -> np.ndarray:
    """Grey [H, W] uint8 -> uint8 with an even histogram, as the released RSNA protocol has it.

    It is scikit-image's `exposure.equalize_hist` on pixels / 255: 256 bins from the least to the greatest value, and
    the cumulative distribution interpolated between their centres; then times 255, cut to an integer.
    """
    values = grey / 255
    counts, edges = np.histogram(values, bins=256)
    cumulative = counts.cumsum() / counts.sum()
    return (np.interp(values, (edges[:-1] + edges[1:]) / 2, cumulative) * 255).astype(np.uint8)


# DICOM ----------------------------------------------------------------------------------------------------------------

_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA, _ITEM, _END_OF_ITEMS = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "PhotometricInterpretation")


def _decode_dicom(file: BinaryIO) -> Image.Image:
    """The one grey frame of a DICOM file.

    A window gives black and white where there is one; without it 8-bit pixels that nothing rescales are taken as they
    are, and any others from their minimum to their maximum.
    """
    _check_dicom(file)
    file.seek(0)
    dataset = pydicom.dcmread(file, force=True)
    dataset.file_meta.TransferSyntaxUID = _transfer_syntax(dataset)
    stored = dataset.pixel_array
    values = apply_modality_lut(stored, dataset)
    pixels = apply_voi_lut(values, dataset, prefer_lut=False)
    if dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        low, high = apply_voi_lut(np.array([-np.inf, np.inf]), dataset, prefer_lut=False)
    elif dataset.BitsStored == 8 and dataset.PixelRepresentation == 0 and np.array_equal(pixels, stored):
        low, high = 0, 255
    else:
        low, high = pixels.min(), pixels.max()
    grey = _to_8_bits(pixels, low, high)
    # Inverted here and not as stored, where it would be 2**BitsStored - 1 - x: a window counts on the stored direction.
    return Image.fromarray(255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey)


def _check_dicom(file: BinaryIO) -> None:
    """Refuse a DICOM file that is not one grey image in a known encoding with all of its pixel data."""
    dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    if "Rows" not in dataset and "SOPClassUID" not in dataset:
        raise ImageError("neither an image nor DICOM, or cut short within the DICOM header")
    syntax = _transfer_syntax(dataset)
    # Deflated, the file has no pixel data in sight; but cut short it does not inflate, and has not come this far.
    length = None if syntax == DeflatedExplicitVRLittleEndian else _whole_pixel_data(file, dataset)
    missing = [name for name in _NEEDED if name not in dataset]
    if missing:
        raise ImageError(f"DICOM without {', '.join(missing)}")
    rows, columns, photometric = dataset.Rows, dataset.Columns, dataset.PhotometricInterpretation
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"DICOM with {photometric} pixels; expected MONOCHROME1 or MONOCHROME2")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise ImageError(f"DICOM with {frames} frames; expected one")
    if Image.MAX_IMAGE_PIXELS and rows * columns > 2 * Image.MAX_IMAGE_PIXELS:
        raise ImageError(f"DICOM of {rows} x {columns} pixels; Pillow's limit is {2 * Image.MAX_IMAGE_PIXELS} pixels")
    try:
        readable = get_decoder(syntax).is_available
    except NotImplementedError:
        readable = False
    if not readable:
        raise ImageError(f"DICOM in a transfer syntax for which there is no decoder: {syntax.name} ({syntax})")
    needed = (rows * columns * dataset.BitsAllocated + 7) // 8
    if length is not None and not syntax.is_compressed and length < needed:
        raise ImageError(f"DICOM with {length} bytes of pixel data; {rows} x {columns} pixels need {needed}")


def _transfer_syntax(dataset: pydicom.FileDataset) -> pydicom.uid.UID:
    """The transfer syntax of a DICOM file, or the one that was guessed for it where it does not say."""
    implicit, little = dataset.original_encoding
    guessed = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return dataset.file_meta.get("TransferSyntaxUID") or guessed


def _whole_pixel_data(file: BinaryIO, dataset: pydicom.FileDataset) -> int | None:
    """The length in bytes of the pixel data at which the file stands, None for fragments; ImageError if it is cut."""
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    tag = file.read(4)
    if len(tag) < 4 or struct.unpack(f"{order}HH", tag) != _PIXEL_DATA:
        raise ImageError("DICOM without pixel data, or cut short before it")
    field = file.read(4 if implicit else 8)[-4:]  # when explicit, the type and two reserved bytes stand before it
    length = struct.unpack(f"{order}L", field)[0] if len(field) == 4 else 0
    size = os.fstat(file.fileno()).st_size
    if length != _UNDEFINED_LENGTH:
        if (present := size - file.tell()) < length:
            raise ImageError(f"truncated: {present} of {length} bytes of pixel data")
        return length
    while len(item := file.read(8)) == 8:
        *tag, length = struct.unpack("<HHL", item)  # fragments are always little-endian
        if tuple(tag) == _END_OF_ITEMS:
            return None
        if tuple(tag) != _ITEM:
            raise ImageError(f"DICOM whose compressed pixel data is broken at byte {file.tell() - 8}")
        file.seek(length, os.SEEK_CUR)
    raise ImageError("truncated: the compressed pixel data has no end")
