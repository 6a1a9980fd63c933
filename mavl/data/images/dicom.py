"""DICOM files with one grey frame: checked, decoded to 8 bits."""

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels.decoders.base import get_decoder

from mavl.data.images.grey import MAX_BYTES, ImageError, check_size, is_flat, to_8_bits
from mavl.data.images.stored import stored_pixels

VISIBLE = 0.05
"""Where less than this share of the pixels is neither black nor white, a window lies beside their values."""

KEPT = 0.25
"""Where a modality's table or slope leaves less than this share of the grey levels, the stored pixels count."""

_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA, _ITEM, _END_OF_ITEMS = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)


def decode_dicom(file: BinaryIO) -> Image.Image:
    """The one grey frame of a DICOM file.

    A window gives black and white, or else a table of values; 8-bit pixels that nothing rescales stay as they are; any
    others are scaled from their minimum to their maximum, as are those that a window or a table leaves no contrast.
    Where the modality's own table or slope leaves none, the stored pixels count. Padding counts for none of them and
    becomes black.
    """
    return _grey(_read(file))


def check_dicom(file: BinaryIO) -> None:
    """ImageError for a file that `decode_dicom` refuses. Of plain pixel data one row is decoded, of others all."""
    dataset = _read(file)
    row, rest = divmod(dataset.Columns * dataset.BitsAllocated, 16)
    if not (dataset.file_meta.TransferSyntaxUID.is_encapsulated or rest):
        dataset.Rows, dataset.PixelData = 1, dataset.PixelData[: 2 * row]
    _grey(dataset)


def dicom_size(file: BinaryIO) -> tuple[int, int]:
    """(width, height) by the header of a DICOM file."""
    dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError("neither an image nor DICOM, or cut short within the DICOM header")
    check_size(dataset.Columns, dataset.Rows)
    return dataset.Columns, dataset.Rows


def _grey(dataset: pydicom.Dataset) -> Image.Image:
    stored, bits = stored_pixels(dataset)
    pixels = _rescaled(dataset, stored)
    padding = _padding(dataset, stored)
    inside = ... if padding is None or padding.all() else ~padding
    if pixels is not stored and _levels(pixels[inside]) < _levels(stored[inside]) * KEPT:
        pixels = stored
    grey = next((grey for grey in _shown(dataset, pixels) if not _is_lost(grey[inside], pixels[inside])), None)
    if grey is None:
        low, high = pixels[inside].min(), pixels[inside].max()
        if bits == 8 and stored.dtype.kind == "u" and pixels is stored:
            low, high = 0, 255
        grey = to_8_bits(pixels, low, high)
    # Inverted here and not as stored, where it would be 2**BitsStored - 1 - x: a window counts on the stored direction.
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    if padding is not None:
        grey[padding] = 0
    return Image.fromarray(grey)


def _number(dataset: pydicom.Dataset, keyword: str) -> float:
    """The first value of an element; NaN where it is missing, empty or no number."""
    try:
        return float(np.ravel(dataset[keyword].value)[0])
    except (KeyError, IndexError, TypeError, ValueError):
        return float("nan")


def _rescaled(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    """The pixels [H, W] by the modality's table, or by slope and intercept; a slope of 0 is none (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(stored, dataset, "ModalityLUTSequence")
    slope, intercept = (_number(dataset, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    slope = slope if np.isfinite(slope) and slope else 1.0
    intercept = intercept if np.isfinite(intercept) else 0.0
    return stored if (slope, intercept) == (1, 0) else stored * slope + intercept


def _shown(dataset: pydicom.Dataset, pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Grey [H, W] uint8 by the first window of a file, then by its first table of values, if any (PS3.3 C.11.2)."""
    centre, width = (_number(dataset, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    shape = str(dataset.get("VOILUTFunction")).strip().upper()
    if np.isfinite([centre, width]).all() and width > 0:
        if shape == "SIGMOID":
            yield to_8_bits(1 / (1 + np.exp(np.clip(-4 * (pixels - centre) / width, -500, 500))), 0, 1)
        elif shape == "LINEAR_EXACT":
            yield to_8_bits(pixels, centre - width / 2, centre + width / 2)
        elif width > 1:  # of width 1 it leaves black and white alone
            yield to_8_bits(pixels, centre - width / 2, centre + width / 2 - 1)
    if dataset.get("VOILUTSequence"):
        shown = _look_up(pixels, dataset, "VOILUTSequence")
        yield to_8_bits(shown, shown.min(), shown.max())


def _look_up(pixels: np.ndarray, dataset: pydicom.Dataset, keyword: str) -> np.ndarray:
    """Pixels [H, W] replaced by the entries of a table; those outside of it take its first or last one.

    The pixel of the first entry has the sign of the pixels (PS3.3 C.11.1.1), which some files store as unsigned.
    """
    item = dataset[keyword].value[0]
    entries, first = int(item.LUTDescriptor[0]) or 1 << 16, int(item.LUTDescriptor[1])
    if first >= 1 << 15 and (pixels.dtype.kind == "i" or pixels.min() < 0):
        first -= 1 << 16
    data = item.LUTData
    if isinstance(data, bytes):
        deep = len(data) >= 2 * entries
        data = np.frombuffer(data, ("<u2" if dataset.original_encoding[1] is not False else ">u2") if deep else "u1")
    table = np.atleast_1d(np.asarray(data))
    if len(table) < entries:
        raise ImageError(f"DICOM whose {keyword} has {len(table)} of {entries} values")
    return table[np.clip(np.rint(pixels).astype(np.int64) - first, 0, entries - 1)]


def _levels(pixels: np.ndarray) -> int:
    """Number of grey levels, of 256 from the minimum to the maximum, that pixels [n] have."""
    return int(np.count_nonzero(np.bincount(to_8_bits(pixels, pixels.min(), pixels.max()).ravel())))


def _is_lost(grey: np.ndarray, pixels: np.ndarray) -> bool:
    """Whether pixels [n] of several values, shown as grey [n], are nearly all black or white, or of nearly one grey."""
    if pixels.min() == pixels.max():
        return False
    return is_flat(grey) or bool(((grey > 0) & (grey < 255)).mean() < VISIBLE)


def _padding(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where the stored pixels [H, W] are padding around the radiograph; None if the file names no value for it.

    A range of values that leaves less than VISIBLE of the pixels is wrong, and none.
    """
    value, bits = dataset.get("PixelPaddingValue"), dataset.BitsAllocated
    limit = dataset.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    ends = [value, limit if isinstance(limit, int) else value]
    if not all(-(1 << bits - 1) <= end < 1 << bits for end in ends):
        return None  # no pixel can have it
    # Some files give 63536 for the -2000 of their signed pixels: the type of the pixels is the one that counts.
    low, high = np.sort(np.array(ends).astype(stored.dtype))
    padding = (stored >= low) & (stored <= high)
    wrong = 1 - padding.mean() < VISIBLE and stored[padding].min() < stored[padding].max()
    return None if wrong else padding


def _read(file: BinaryIO) -> pydicom.Dataset:
    """The dataset of a DICOM file; ImageError if it is not one whole grey image in a known encoding."""
    _check_inflated(file)
    dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    if "Rows" not in dataset and "SOPClassUID" not in dataset:
        raise ImageError("neither an image nor DICOM, or cut short within the DICOM header")
    syntax = _transfer_syntax(dataset)
    # A deflated file shows no pixel data; one that is cut short cannot be inflated, and was refused by dcmread.
    if syntax != uid.DeflatedExplicitVRLittleEndian:
        _check_whole(file, dataset)
    rows, columns, photometric = dataset.Rows, dataset.Columns, dataset.PhotometricInterpretation
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"DICOM with {photometric} pixels; expected MONOCHROME1 or MONOCHROME2")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise ImageError(f"DICOM with {frames} frames; expected one")
    check_size(columns, rows)
    _check_decoder(syntax)
    file.seek(0)
    dataset = pydicom.dcmread(file, force=True)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax.is_encapsulated:
        size = _frame_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
        if size not in (None, (columns, rows)):
            raise ImageError("DICOM of {} x {} pixels, whose compressed image has {} x {}".format(columns, rows, *size))
        return dataset
    length, needed = len(dataset.PixelData), (rows * columns * dataset.BitsAllocated + 7) // 8
    if length < needed or length >= max(3, 2 * needed):  # an odd number of bytes is followed by another one
        raise ImageError(f"DICOM with {length} bytes of pixel data; {rows} x {columns} pixels need {needed}")
    return dataset


def _check_inflated(file: BinaryIO) -> None:
    """ImageError for a deflated file of more than MAX_BYTES; the file is at its beginning afterwards."""
    file.seek(132 if file.read(132)[128:] == b"DICM" else 0)
    meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
        inflater, data, length = zlib.decompressobj(-zlib.MAX_WBITS), file.read(), 0
        while data and not inflater.eof:
            length += len(inflater.decompress(data, 1 << 20))
            data = inflater.unconsumed_tail
            if length > MAX_BYTES:
                raise ImageError(f"deflated DICOM of more than {MAX_BYTES:,} bytes")
    file.seek(0)


def _frame_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG 2000, JPEG or JPEG-LS image by its own header; None for others."""
    if (start := frame.find(b"\xff\x4f\xff\x51", 0, 4096)) >= 0:
        right, bottom, left, top = struct.unpack_from(">4L", frame, start + 8)
        return right - left, bottom - top
    position = 2
    while frame[:2] == b"\xff\xd8" and position + 9 <= len(frame) and frame[position] == 0xFF:
        if frame[position + 1] in (*range(0xC0, 0xC4), *range(0xC5, 0xC8), 0xF7):
            height, width = struct.unpack_from(">HH", frame, position + 5)
            return width, height
        position += 2 + int.from_bytes(frame[position + 2 : position + 4])
    return None


def _check_decoder(syntax: uid.UID) -> None:
    try:
        if get_decoder(syntax).is_available:
            return
    except NotImplementedError:
        pass
    fix = "try `pip install python-gdcm`, or convert it by `gdcmconv --raw in.dcm out.dcm` or DCMTK's `dcmdjpeg`"
    raise ImageError(f"DICOM in a transfer syntax without a decoder: {syntax.name} ({syntax}); {fix}")


def _transfer_syntax(dataset: pydicom.Dataset) -> uid.UID:
    """The transfer syntax of a DICOM file, or the one with which pydicom could read it where it names none."""
    implicit, little = dataset.original_encoding
    guessed = (
        uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
    )
    return dataset.file_meta.get("TransferSyntaxUID") or guessed


def _check_whole(file: BinaryIO, dataset: pydicom.Dataset) -> None:
    """ImageError if the pixel data at which the file stands is cut short."""
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    tag = file.read(4)
    if len(tag) < 4 or struct.unpack(f"{order}HH", tag) != _PIXEL_DATA:
        raise ImageError("DICOM without pixel data, or cut short before it")
    field = file.read(4 if implicit else 8)[-4:]  # when explicit, the type and two reserved bytes stand before it
    length = struct.unpack(f"{order}L", field)[0] if len(field) == 4 else 0
    if length != _UNDEFINED_LENGTH:
        start = file.tell()
        if (present := file.seek(0, os.SEEK_END) - start) < length:
            raise ImageError(f"truncated: {present} of {length} bytes of pixel data")
        return
    while len(item := file.read(8)) == 8:
        *tag, length = struct.unpack("<HHL", item)  # fragments are always little-endian
        if tuple(tag) == _END_OF_ITEMS:
            return
        if tuple(tag) != _ITEM:
            raise ImageError(f"DICOM whose compressed pixel data is broken at byte {file.tell() - 8}")
        file.seek(length, os.SEEK_CUR)
    raise ImageError("truncated: the compressed pixel data has no end")
