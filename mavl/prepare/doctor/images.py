"""Facts of image and mask files: readable or not, size, depth, brightness, view, the same bytes."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image, UnidentifiedImageError

from mavl.data.benchmarks.masks import Mask, MaskFile
from mavl.data.images.grey import FLAT, ImageError, spread
from mavl.data.images.read import FORMATS, ImageFile, check_image, format_of, read_image
from mavl.progress import in_threads

BITS = {"1": 1, "I": 32, "F": 32, "I;16": 16, "I;16L": 16, "I;16B": 16, "I;16N": 16}
"""Bits of a pixel by Pillow's mode, where they are not 8."""

SUFFIXES = {f".{kind.lower()}": kind for kind in (*FORMATS, "DICOM")}
SUFFIXES |= {".jpg": "JPEG", ".tif": "TIFF", ".dcm": "DICOM"}

SIDE = 32
"""Brightness is measured on a reduced image of SIDE x SIDE pixels."""

BLANK = 1.0
"""The standard deviation, in grey levels of 255, below which an image is blank."""

INVERTED = 0.15
"""What `lightness_outside` exceeds where an image is inverted.

Of 754 frontal films (724 of ChestX-ray14, 30 of the COVID-19 image data collection) none exceeded it, the largest being
-0.01; of the same films inverted 99.8 % did. Other parts of the body were not measured.
"""

HEAD = 1 << 16
"""Bytes that are compared before the whole of two files is read."""


@dataclass(frozen=True)
class ImageFacts:
    """An image file: why it cannot be read, or its size (width, height), bits of a pixel and length in bytes.

    view, orientation: by its DICOM header. other_format: of the content, where the suffix is another's. lightness:
    `lightness_outside`, NaN for an image without contrast, None where it was not decoded.
    """

    path: Path
    reason: str | None = None
    size: tuple[int, int] = (0, 0)
    bits: int = 8
    length: int = 0
    view: str = ""
    orientation: tuple[str, ...] = ()
    other_format: str | None = None
    lightness: float | None = None


@dataclass(frozen=True)
class MaskFacts:
    """A mask: its file if it has one, why that cannot be read, or its size (width, height), and what it covers."""

    path: Path | None
    reason: str | None = None
    size: tuple[int, int] = (0, 0)
    empty: bool | None = None
    full: bool = False


def inspect_image(path: Path, whole: bool, brightness: bool) -> ImageFacts:
    """The facts of a file by its header, with `brightness` by a reduced image too, with `whole` by all its pixels."""
    if reason := check_image(path, "header"):
        return ImageFacts(path, reason)
    try:
        size, bits, view, orientation = _header(path)
        lightness = _lightness(path, whole) if whole or brightness else None
    except ImageError as error:
        return ImageFacts(path, str(error).removeprefix(f"{path}: "))
    length = path.stat().st_size
    return ImageFacts(path, None, size, bits, length, view, orientation, _other_format(path), lightness)


def inspect_mask(mask: Mask) -> MaskFacts:
    """The facts of a mask, all of whose pixels are read if it is a file."""
    if not isinstance(mask, MaskFile):
        full = not mask.empty and bool(mask.read().all())
        return MaskFacts(None, None, (mask.size[1], mask.size[0]), mask.empty, full)
    try:
        pixels = mask.read()
    except ImageError as error:
        return MaskFacts(mask.path, str(error).removeprefix(f"{mask.path}: "))
    height, width = pixels.shape
    return MaskFacts(mask.path, None, (width, height), not pixels.any(), bool(pixels.all()))


def lightness_outside(small: np.ndarray) -> float:
    """How much lighter the lungs, and the air above the shoulders, are than the spine; NaN for a blank image.

    small: grey [SIDE, SIDE]. In standard deviations of the image. On an upright frontal film the spine is light, the
    lungs beside it and the upper corners are dark, so this is well below 0.
    """
    deviation = small.std()
    if deviation < BLANK:
        return np.nan
    quarter, middle = SIDE // 4, SIDE // 2
    spine = small[4:-4, middle - 2 : middle + 2].mean()
    lungs = np.concatenate([small[quarter:-12, 5:12], small[quarter:-12, -12:-5]]).mean()
    corners = np.concatenate([small[:4, :6], small[:4, -6:]]).mean()
    return float(((lungs - spine) + (corners - spine) / 3) / deviation)


def same_bytes(images: Iterable[ImageFacts], workers: int) -> list[list[Path]]:
    """Groups of files with the same content. Only files of one length are read, and whole only if they begin alike."""
    groups = _alike((image.path, image.length) for image in images if image.reason is None)
    for whole, description in ((False, "comparing the beginnings of files"), (True, "comparing files")):
        paths: Sequence[Path] = [path for group in groups for path in group]
        digests = in_threads(lambda path, whole=whole: _digest(path, whole), paths, workers, description)
        groups = _alike(zip(paths, digests, strict=True))
    return groups


def _alike(pairs: Iterable[tuple[Path, object]]) -> list[list[Path]]:
    groups = defaultdict(list)
    for path, key in pairs:
        groups[key].append(path)
    return [paths for paths in groups.values() if len(paths) > 1]


def _digest(path: Path, whole: bool) -> tuple[int, bytes]:
    """Length and hash of a file; without `whole` the hash of its first HEAD bytes."""
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.sha256(file.read(-1 if whole else HEAD)).digest()


def _other_format(path: Path) -> str | None:
    """The format of the content, where the suffix names another one."""
    with path.open("rb") as file:
        found = format_of(file.read(132)) or "DICOM"  # without a preamble
    named = SUFFIXES.get(path.suffix.lower())
    return found if named not in (None, found) else None


def _header(path: Path) -> tuple[tuple[int, int], int, str, tuple[str, ...]]:
    """Size (width, height), bits of a pixel, view, and where the rows and the columns of a DICOM image lead."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size, BITS.get(image.mode, 8), "", ()
    except UnidentifiedImageError:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        view, orientation = str(dataset.get("ViewPosition") or ""), dataset.get("PatientOrientation") or ()
        named = (orientation,) if isinstance(orientation, str) else tuple(map(str, orientation))
        return (dataset.Columns, dataset.Rows), dataset.BitsStored, view, named


def _lightness(path: Path, whole: bool) -> float:
    """`lightness_outside` of a file, NaN where few pixels have all of its contrast; ImageError if it is not decoded."""
    if whole:
        grey = read_image(path)
    else:
        file = ImageFile(path)
        grey = Image.fromarray(file.pixels(min(file.size) / (2 * SIDE)))
    if spread(grey) <= FLAT:
        return np.nan
    return lightness_outside(np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float))
