"""Pixels of any kind -> 8-bit grey or a mask, and the limits of an image."""

import io
from typing import Any

import numpy as np
from PIL import Image

MAX_SIDE, MAX_PIXELS, MAX_ASPECT = 20_000, 64_000_000, 100
"""Limits of an image. The largest radiographs, joined ones of a whole spine, have some 30 million pixels."""

MAX_BYTES = 1 << 29
"""Limit of a file, and of what it is after decompression: MAX_PIXELS of 64 bits."""

FLAT = 32
"""Pixels that fill no more than this of 255 grey levels have lost their contrast."""

LABELS, DEEP_LABELS = 64, 1024
"""Whole mask values below these number regions: in any mask, and without gaps in one of more than 8 bits."""

IGNORED = 255
"""The value beside numbers of regions that marks pixels of no region, as around those of PASCAL VOC."""

LOSSY = ("JPEG", "MPO", "WEBP")
"""Formats whose compression may change the values of a mask."""


class ImageError(ValueError):
    """An image that cannot be used: one line with the file and what is wrong with it.

    torch gives an error of a loader's worker the whole traceback as its message: its last line is kept.
    """

    def __init__(self, message: str):
        super().__init__(message.rpartition("ImageError: ")[2].strip() if message.startswith("Caught ") else message)


def check_size(width: int, height: int) -> None:
    """ImageError for an image outside of the limits."""
    longer, shorter = max(width, height), min(width, height)
    if shorter < 1 or longer > MAX_SIDE or longer > MAX_ASPECT * shorter or width * height > MAX_PIXELS:
        raise ImageError(
            f"{width} x {height} pixels exceed the limits: sides of 1 to {MAX_SIDE:,}, the longer at most "
            f"{MAX_ASPECT} times the other, {MAX_PIXELS:,} pixels"
        )


def to_grey(image: Image.Image) -> Image.Image:
    """8-bit grey: colours as luma, transparency over black, deeper pixels by `deep_to_8_bits`."""
    check_size(*image.size)
    deep = _deep_pixels(image)
    if deep is not None:
        return Image.fromarray(deep_to_8_bits(deep))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.new("RGB", image.size)
        image.paste(coloured, mask=coloured.getchannel("A"))
    elif image.mode in ("P", "CMYK"):
        image = image.convert("RGB")
    # Of equal red, green and blue Pillow's luma is that very value, as its three weights sum to 2**16.
    return image.convert("L")


def to_mask(image: Image.Image) -> np.ndarray:
    """bool [H, W]: the pixels whose brightest colour, times their opacity, is above half of the image's largest.

    Numbers of regions, by `_numbers`, count from 1, and of a coloured palette every colour but black. In an image with
    one visible colour its opacity alone counts. ImageError where two levels exist but all pixels count, where
    compression left no clear region, and for negative pixels.
    """
    check_size(*image.size)
    values, opacity = _deep_pixels(image), None
    deep = values is not None
    if values is None:
        bands = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB")).astype(np.float64)
        values = bands[..., :3].max(axis=-1)
        opacity = bands[..., 3] / 255 if bands.shape[-1] == 4 else None
        if image.mode == "P" and (bands[..., :3] != values[..., None]).any():
            indices = np.where(values > 0, np.asarray(image).clip(min=1), 0)
            values = 255.0 * (_without_ignored(indices) > 0)
    if not np.isfinite(values).all():
        raise ImageError("has pixels that are not finite numbers")
    if opacity is not None and (opacity <= 0.5).any():
        shown = values[opacity > 0.5]
        values = values * opacity if len(np.unique(shown)) > 1 else 255 * opacity
    low, top = values.min(initial=0), values.max(initial=0)
    if low < (-top / 10 if image.mode == "F" else 0):  # resizing leaves floats a little below 0
        raise ImageError(f"a mask with negative pixels, the least being {low:g}: save it with 0 outside of the region")
    if image.format in LOSSY and 0 < top <= 127:
        raise ImageError(f"{image.format} mask whose brightest value is {top:g} of 255: save it as PNG")
    numbers = _numbers(values, deep)
    mask = values > top / 2 if numbers is None or image.format in LOSSY else numbers > 0
    if mask.all() and (len(np.unique(values)) > 1 or _indices(image) > 1):
        raise ImageError("a mask of which no pixel is dark: save it with 0 outside of the region")
    return mask


def _numbers(values: np.ndarray, deep: bool) -> np.ndarray | None:
    """The number of each pixel's region [H, W], 0 outside; None for values that are shades, such as soft borders."""
    if values.min() < 0 or values.max() >= DEEP_LABELS or (values != np.rint(values)).any():
        return None
    values = _without_ignored(values)
    levels = np.flatnonzero(np.bincount(values.ravel().astype(np.intp)))
    without_gaps = len(levels) >= levels[-1] != IGNORED
    return values if levels[-1] < LABELS or (deep and without_gaps) else None


def _without_ignored(numbers: np.ndarray) -> np.ndarray:
    """Numbers [H, W] with 0 for IGNORED, where all others are below LABELS and some above 0."""
    ignored = numbers == IGNORED
    return np.where(ignored, 0, numbers) if 0 < numbers[~ignored].max(initial=0) < LABELS else numbers


def _indices(image: Image.Image) -> int:
    """Number of the palette's entries that an image uses; 1 for an image without a palette."""
    return len(image.getcolors() or ()) if image.mode == "P" else 1


def _deep_pixels(image: Image.Image) -> np.ndarray | None:
    """Pixels [H, W] of more than 8 bits or of a sign, colours as luma, transparent ones 0; None for others."""
    if (coloured := _deep_colours(image)) is not None:
        return coloured
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if image.mode == "L" and tags.get(339) == (2,):  # SampleFormat: signed, which Pillow reads as unsigned
        return np.asarray(image).view(np.int8)
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return None
    pixels = np.asarray(image)
    if tags:
        if pixels.dtype == np.int32 and tags.get(339, (1,)) == (1,):  # Pillow has no unsigned 32 bits
            pixels = pixels.view(np.uint32)
        if tags.get(262) == 0:  # PhotometricInterpretation: 0 is white, which Pillow inverts in 8 bits only
            pixels = pixels.max() - pixels
    if isinstance(key := image.info.get("transparency"), int):
        pixels = np.where(pixels == key, 0, pixels)
    return pixels


def _deep_colours(image: Image.Image) -> np.ndarray | None:
    """Luma [H, W] of a PNG with 16 bits a colour, of which Pillow keeps 8; None for others.

    ImageError for 16 bits a colour in another format.
    """
    arguments = next((tile[3] for tile in getattr(image, "tile", ())), None)
    raw = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if not isinstance(raw, str) or raw.startswith("I") or ";16" not in raw:
        return None
    if image.format != "PNG" or raw not in ("RGB;16B", "RGBA;16B"):
        kind = f"{image.format} with 16 bits a colour" if raw[:2] != "LA" else "PNG with opacity and 16 bits"
        raise ImageError(f"{kind}, which cannot be read: save it as 16-bit grey")
    file = getattr(image, "fp")  # noqa: B009  Pillow's Image has it while the file is open
    file.seek(0)
    low: Any = Image.open(io.BytesIO(file.read()), formats=["PNG"])
    # Pillow keeps the first byte of each big-endian pair; of a little-endian one it keeps the second.
    low.tile = [tile._replace(args=f"{image.mode};16L") for tile in low.tile]
    file.seek(0)
    bands = 256.0 * np.asarray(image) + np.asarray(low)
    luma = np.rint(bands[..., :3] @ (0.299, 0.587, 0.114))
    return luma if image.mode == "RGB" else np.rint(luma * bands[..., 3] / 65535)


def deep_to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """uint8 of deeper pixels [H, W]: 0 to their maximum is 0..255, cut to whole numbers (as the release does).

    Negative pixels, or others without contrast, are scaled from their minimum to their maximum.
    """
    low, high = pixels.min(), pixels.max()
    grey = to_8_bits(pixels, min(0, low), high, cut=True)
    return to_8_bits(pixels, low, high, cut=True) if low < high and is_flat(grey) else grey


def is_flat(grey: np.ndarray) -> bool:
    """Whether grey values [n] uint8 have lost their contrast."""
    return int(grey.max()) - int(grey.min()) <= FLAT


def spread(picture: Image.Image) -> int:
    """Grey levels from the 1st to the 99th percentile of an image in mode "L", without its few extreme pixels."""
    cumulative = np.cumsum(picture.histogram())
    low, high = np.searchsorted(cumulative, np.array([0.01, 0.99]) * cumulative[-1])
    return int(high - low)


def to_8_bits(pixels: np.ndarray, low: float, high: float, cut: bool = False) -> np.ndarray:
    """Pixels [H, W] of any number type, low..high scaled to 0..255, rounded or cut; black if both are the same."""
    if not np.isfinite(low) or not np.isfinite(high):
        raise ImageError("has pixels that are not finite numbers")
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = pixels.astype(np.float64)  # and in place from here, as 16 million pixels are no rarity
    scaled -= low
    scaled *= 255
    scaled /= float(high) - float(low)
    return (np.floor if cut else np.rint)(scaled.clip(0, 255, out=scaled), out=scaled).astype(np.uint8)


def equalize_histogram(grey: np.ndarray) -> np.ndarray:
    """Grey [H, W] uint8 -> uint8 with an even histogram, by the released RSNA protocol.

    It is scikit-image's `exposure.equalize_hist` on pixels / 255, with 256 bins from the least to the greatest value,
    then times 255, cut to an integer.
    """
    values = grey / 255
    counts, edges = np.histogram(values, bins=256)
    cumulative = counts.cumsum() / counts.sum()
    return (np.interp(values, (edges[:-1] + edges[1:]) / 2, cumulative) * 255).astype(np.uint8)
