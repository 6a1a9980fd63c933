"""Grey values: pixels of any kind -> 8 bits."""

import numpy as np
from PIL import Image


class ImageError(ValueError):
    """An image that cannot be used: one line with the file and what is wrong with it."""


def to_grey(image: Image.Image) -> Image.Image:
    """8-bit grey: colours as luma, transparency over black, deeper pixels so that the maximum is 255 (SPEC §10)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        return Image.fromarray(to_8_bits(pixels, 0, pixels.max(initial=0)))
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        image = Image.new("RGB", image.size)
        image.paste(coloured, mask=coloured.getchannel("A"))
    elif image.mode in ("P", "CMYK"):
        image = image.convert("RGB")
    # Of equal red, green and blue Pillow's luma is that very value, as its three weights sum to 2**16.
    return image.convert("L")


def to_8_bits(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
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


def equalize_histogram(grey: np.ndarray) -> np.ndarray:
    """Grey [H, W] uint8 -> uint8 with an even histogram, by the released RSNA protocol.

    It is scikit-image's `exposure.equalize_hist` on pixels / 255, with 256 bins from the least to the greatest value,
    then times 255, cut to an integer.
    """
    values = grey / 255
    counts, edges = np.histogram(values, bins=256)
    cumulative = counts.cumsum() / counts.sum()
    return (np.interp(values, (edges[:-1] + edges[1:]) / 2, cumulative) * 255).astype(np.uint8)
