"""The stored pixels of a DICOM file, where its header may be wrong about their bits or their sign."""

import numpy as np
import pydicom
from pydicom import uid
from pydicom.encaps import get_frame
from pydicom.pixels.utils import get_j2k_parameters

from mavl.data.images.grey import ImageError

STRAY = 0.01
"""The share of pixels up to which bits above BitsStored are ignored, as the standard says (PS3.5 8.1.1)."""

JUMPY = 0.002
"""The share of jumps above which a reading of the pixels may be wrong."""

OVERLAY_BIT = 0x60000102
"""Element, in each group 60xx: the bit of the pixels that holds an overlay, 0 for one that has its own data."""


def stored_pixels(dataset: pydicom.Dataset) -> tuple[np.ndarray, int]:
    """The stored pixels [H, W] and the number of their bits.

    Of several readings the smoothest counts: with the sign of the header or the other one, and where many pixels have
    bits above BitsStored that no overlay explains, with these bits or without them.
    """
    bits, allocated, signed = dataset.BitsStored, dataset.BitsAllocated, bool(dataset.PixelRepresentation)
    if not 0 < bits <= allocated:
        raise ImageError(f"DICOM with BitsStored {bits} and BitsAllocated {allocated}")
    if dataset.file_meta.TransferSyntaxUID in uid.JPEG2000TransferSyntaxes:
        by_header = _decoded(dataset)
        found = get_j2k_parameters(get_frame(dataset.PixelData, 0, number_of_frames=1))
        if not found or found["is_signed"] == signed:
            return by_header, bits
        dataset.PixelRepresentation = int(found["is_signed"])
        return _smoother(_decoded(dataset), by_header), found["precision"]
    dataset.BitsStored = allocated  # pydicom would cut the others
    whole = _decoded(dataset)
    readings = [whole]
    if allocated > 8:
        readings.append(whole.view(f"{'ui'[not signed]}{whole.dtype.itemsize}"))
    if bits == allocated:
        return _smoother(whole, readings[-1]), bits
    cut = _cut(whole, bits)
    if any(element.value for element in dataset if (element.tag & 0xFF00FFFF) == OVERLAY_BIT):
        return cut, bits
    for reading in readings:
        if _smoother(cut, reading) is reading:
            return reading, allocated
    above = whole != cut
    if signed:  # the bits above repeat the sign, or are 0
        above &= (whole < 0) | (whole >= 1 << bits)
    return (cut, bits) if above.mean() <= STRAY or _smoother(whole, cut) is cut else (whole, allocated)


def _decoded(dataset: pydicom.Dataset) -> np.ndarray:
    try:
        return dataset.pixel_array
    except BaseException as error:  # a panic of the RLE decoder, which is written in Rust, is no Exception
        if type(error).__name__ == "PanicException":
            raise ImageError(f"DICOM whose compressed pixel data is broken ({error})") from error
        raise


def _cut(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Pixels without their bits above `bits`, of which the highest is the sign of signed ones."""
    unused = 8 * pixels.dtype.itemsize - bits
    return (pixels << unused) >> unused


def _smoother(pixels: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`other` if it is clearly smoother than `pixels` [H, W]: cut bits or a wrong sign make values jump."""
    if np.array_equal(pixels, other):
        return pixels
    jumps = _jumps(pixels)
    return other if jumps > JUMPY and _jumps(other) < jumps / 4 else pixels


def _jumps(pixels: np.ndarray) -> float:
    """The share of neighbours that differ by more than half of the range, in some 256 rows and columns of [H, W]."""
    down, across = (max(1, length // 256) for length in pixels.shape)
    lines = (pixels[::down].astype(np.float64), pixels[:, ::across].T.astype(np.float64))
    half = (float(pixels.max()) - float(pixels.min())) / 2
    jumps = np.concatenate([(np.abs(np.diff(line)) > half).ravel() for line in lines])
    return float(jumps.sum() / max(1, len(jumps)))
