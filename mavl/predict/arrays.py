"""Images in memory, PIL images, arrays and tensors -> 8-bit grey."""

import os
from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image

from mavl.data.images.grey import ImageError, to_8_bits
from mavl.data.images.read import grey_picture, read_image
from mavl.progress import plural

Array = np.ndarray | torch.Tensor
ImageSource = str | os.PathLike | Image.Image | Array
"""A file, or an image in memory, as `read_picture` takes it."""

ValueRange = tuple[float, float] | None
"""The values of black and of white in an array; None for arrays whose type says it: uint8 and uint16."""

SHAPES = "[H, W], [H, W, 1 or 3] or [1 or 3, H, W]"


def as_sources(images: ImageSource | Iterable[ImageSource]) -> Iterable[ImageSource]:
    """One image, or name of images, as an iterable; several as they are. ImageError for what is neither."""
    if isinstance(images, str | os.PathLike | Image.Image | np.ndarray | torch.Tensor):
        return [images]
    if not isinstance(images, Iterable):
        raise ImageError(f"a {type(images).__name__}; expected a file, a PIL image, an array, a tensor, or several")
    return images


def read_picture(source: ImageSource, name: str, value_range: ValueRange = None) -> Image.Image:
    """The grey image, mode "L", upright, of a file, a PIL image, or an array or tensor as `array_picture` takes it.

    name: of the image, for errors; a file has its own. ImageError for an image that cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        return read_image(source)
    if isinstance(source, Image.Image):
        return grey_picture(source, name)
    return array_picture(source, name, value_range)


def array_picture(array: Array, name: str, value_range: ValueRange = None) -> Image.Image:
    """The grey image, mode "L", of an array or tensor of one of SHAPES; `name` is for errors.

    uint8 is taken as it is and uint16 as a file with 16 bits, unless there is a value_range. Other types need one,
    within which all values lie. ImageError for other shapes, NaN, and values outside of the range.
    """
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    if not isinstance(array, np.ndarray):
        raise ImageError(f"{name}: a {type(array).__name__}; expected a file, a PIL image, an array or a tensor")
    if array.ndim == 3 and array.shape[-1] not in (1, 3) and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] != 3) or not array.size:
        raise ImageError(f"{name}: an array of shape {list(array.shape)}; one image has {SHAPES}, several are a list")
    if array.dtype.kind not in "uif":
        raise ImageError(f"{name}: an array of {array.dtype}; expected uint8, uint16 or float")
    if value_range is not None:
        array = _scaled(array, name, *value_range)
    elif array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name}: an array of {array.dtype} needs value_range=(black, white), such as (0, 1)")
    if array.dtype == np.uint16 and array.ndim == 3:
        array = np.rint(array @ (0.299, 0.587, 0.114)).astype(np.uint16)  # Pillow's luma
    return grey_picture(Image.fromarray(np.ascontiguousarray(array)), name)


def _scaled(array: np.ndarray, name: str, black: float, white: float) -> np.ndarray:
    """uint8 of the array: black is 0, white is 255; black may be the larger one."""
    if bad := int(np.count_nonzero(~np.isfinite(array))):
        raise ImageError(f"{name}: {plural(bad, 'value')} of the array NaN or infinite")
    low, high = min(black, white), max(black, white)
    if not np.isfinite([low, high]).all() or low == high:
        raise ImageError(f"{name}: value_range is {black:g} to {white:g}; expected two numbers that differ")
    if array.min() < low or array.max() > high:
        found = f"{array.min():g} to {array.max():g}"
        raise ImageError(f"{name}: values from {found} exceed value_range, {low:g} to {high:g}")
    grey = to_8_bits(array, low, high)
    return grey if black < white else 255 - grey
