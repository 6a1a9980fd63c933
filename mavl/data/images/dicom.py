"""DICOM files with one grey frame: checked by their header, decoded to 8 bits."""

import os
import struct
from typing import BinaryIO

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from mavl.data.images.grey import ImageError, to_8_bits

_UNDEFINED_LENGTH = 0xFFFFFFFF
_PIXEL_DATA, _ITEM, _END_OF_ITEMS = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)


def decode_dicom(file: BinaryIO) -> Image.Image:
    """The one grey frame of a DICOM file.

    A window gives black and white where there is one; without it 8-bit pixels that nothing rescales stay as they are,
    and any others are scaled from their minimum to their maximum. Padding counts for neither and becomes black.
    """
    check_dicom(file)
    file.seek(0)
    dataset = pydicom.dcmread(file, force=True)
    dataset.file_meta.TransferSyntaxUID = _transfer_syntax(dataset)
    _repair_window(dataset)
    stored = dataset.pixel_array
    padding = _padding(dataset, stored)
    pixels = apply_voi_lut(apply_modality_lut(stored, dataset), dataset, prefer_lut=False)
    if "WindowWidth" in dataset:
        low, high = apply_voi_lut(np.array([-np.inf, np.inf]), dataset, prefer_lut=False)
    elif dataset.BitsStored == 8 and dataset.PixelRepresentation == 0 and np.array_equal(pixels, stored):
        low, high = 0, 255
    else:
        shown = pixels if padding is None or padding.all() else pixels[~padding]
        low, high = shown.min(), shown.max()
    grey = to_8_bits(pixels, low, high)
    # Inverted here and not as stored, where it would be 2**BitsStored - 1 - x: a window counts on the stored direction.
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    if padding is not None:
        grey[padding] = 0
    return Image.fromarray(grey)


def _repair_window(dataset: pydicom.Dataset) -> None:
    """Delete a window that the standard forbids, such as one of width 0, and a shape of window that it lacks."""
    shape = str(dataset.get("VOILUTFunction")).strip().upper()
    dataset.VOILUTFunction = shape if shape in ("LINEAR_EXACT", "SIGMOID") else "LINEAR"
    try:  # the first of several windows counts
        _, width = (float(np.ravel(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    except (KeyError, IndexError, TypeError, ValueError):
        width = 0
    if not (width >= 1 or (width > 0 and dataset.VOILUTFunction != "LINEAR")):
        for name in ("WindowCenter", "WindowWidth"):
            dataset.pop(name, None)


def _padding(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray | None:
    """Where the stored pixels [H, W] are padding around the radiograph; None if the file names no value for it."""
    value = dataset.get("PixelPaddingValue")
    limit = dataset.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    # Some files give 63536 for the -2000 of their signed pixels: the type of the pixels is the one that counts.
    low, high = np.sort(np.array([value, limit if isinstance(limit, int) else value]).astype(stored.dtype))
    return (stored >= low) & (stored <= high)


def check_dicom(file: BinaryIO) -> None:
    """Refuse a DICOM file that is not one grey image in a known encoding with all of its pixel data."""
    dataset = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    if "Rows" not in dataset and "SOPClassUID" not in dataset:
        raise ImageError("neither an image nor DICOM, or cut short within the DICOM header")
    syntax = _transfer_syntax(dataset)
    # A deflated file shows no pixel data; one that is cut short cannot be inflated, and was refused by dcmread.
    length = None if syntax == uid.DeflatedExplicitVRLittleEndian else _pixel_bytes(file, dataset)
    rows, columns, photometric = dataset.Rows, dataset.Columns, dataset.PhotometricInterpretation
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"DICOM with {photometric} pixels; expected MONOCHROME1 or MONOCHROME2")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) > 1:
        raise ImageError(f"DICOM with {frames} frames; expected one")
    _check_decoder(syntax)
    needed = (rows * columns * dataset.BitsAllocated + 7) // 8
    if length is not None and not syntax.is_compressed and length < needed:
        raise ImageError(f"DICOM with {length} bytes of pixel data; {rows} x {columns} pixels need {needed}")


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


def _pixel_bytes(file: BinaryIO, dataset: pydicom.Dataset) -> int | None:
    """The length of the pixel data at which the file stands, None for fragments; ImageError if it is cut short."""
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
        return length
    while len(item := file.read(8)) == 8:
        *tag, length = struct.unpack("<HHL", item)  # fragments are always little-endian
        if tuple(tag) == _END_OF_ITEMS:
            return None
        if tuple(tag) != _ITEM:
            raise ImageError(f"DICOM whose compressed pixel data is broken at byte {file.tell() - 8}")
        file.seek(length, os.SEEK_CUR)
    raise ImageError("truncated: the compressed pixel data has no end")
