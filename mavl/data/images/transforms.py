"""Transforms: grey image -> pixels uint8 [1, S, S] -> normalized tensor [3, S, S]. docs/protocols.md.

S and the statistics are those of the model's `Preprocessing`. Everything before `normalize` works on one channel of
bytes: the three channels are equal, and a batch is twelve times smaller on its way to the device.
"""

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mavl.backbones.preprocessing import Interpolation, Preprocessing
from mavl.data.images.augment import apply_operations, draw_operations
from mavl.data.images.read import ImageFile

RATIO = (3 / 4, 4 / 3)  # width over height of a random crop, torchvision's default
ATTEMPTS = 10
LANES = 4  # channels that torch resizes together


@dataclass(frozen=True)
class EvalTransform:
    """The whole image, resized to S × S without cropping."""

    preprocessing: Preprocessing

    def pixels(self, image: Image.Image | ImageFile) -> Tensor:
        """uint8 [1, S, S]."""
        grey = image if isinstance(image, Image.Image) else image.image()
        size, interpolation = self.preprocessing.image_size, self.preprocessing.interpolation
        return torch.from_numpy(np.array(grey.resize((size, size), Image.Resampling[interpolation.upper()])))[None]

    def item(self, image: Image.Image | ImageFile, generator: np.random.Generator) -> dict[str, Tensor]:
        return {"image": self.pixels(image)}

    def item_and_flip(
        self, image: Image.Image | ImageFile, generator: np.random.Generator
    ) -> tuple[dict[str, Tensor], bool]:
        """The item, and whether left is right in it."""
        return self.item(image, generator), False

    def __call__(self, image: Image.Image | ImageFile) -> Tensor:
        """float32 [3, S, S]."""
        return normalize(self.pixels(image), self.preprocessing)


@dataclass(frozen=True)
class TrainTransform:
    """Random crop of (min_scale, 1) of the area, bicubic, `flip` of half and, with `augment`, two random operations.

    The crop is chosen before anything is decoded, as shares of the sides: an original and its small copy
    (`prepare_data.py store`) show the same part. on_device: `augment_and_normalize` applies the operations.
    """

    preprocessing: Preprocessing
    min_scale: float = 0.2
    augment: bool = True
    on_device: bool = False
    flip: bool = True

    def item(self, image: Image.Image | ImageFile, generator: np.random.Generator) -> dict[str, Tensor]:
        """{"image": uint8 [1, S, S]}, and "operations" int8 [2] where the device applies them."""
        return self.item_and_flip(image, generator)[0]

    def item_and_flip(
        self, image: Image.Image | ImageFile, generator: np.random.Generator
    ) -> tuple[dict[str, Tensor], bool]:
        """The item, and whether left is right in it."""
        box = draw_crop(image.size, self.min_scale, generator)
        flip = generator.random() < 0.5 and self.flip
        codes = torch.from_numpy(draw_operations(generator)) if self.augment else None
        pixels = crop(image, box, self.preprocessing.image_size)
        pixels = pixels.flip(-1) if flip else pixels
        if codes is not None and self.on_device:
            return {"image": pixels, "operations": codes}, flip
        return {"image": pixels if codes is None else apply_operations(pixels[None], codes[None])[0]}, flip


Transform = EvalTransform | TrainTransform
"""image -> a dataset's item; `augment_and_normalize` turns a batch of them into a model's input."""


def eval_transform(preprocessing: Preprocessing, interpolation: Interpolation | None = None) -> EvalTransform:
    """EvalTransform with a benchmark's interpolation, if the benchmark prescribes one."""
    return EvalTransform(with_interpolation(preprocessing, interpolation))


def with_interpolation(preprocessing: Preprocessing, interpolation: Interpolation | None) -> Preprocessing:
    """The preprocessing with a benchmark's interpolation, if the benchmark prescribes one."""
    return replace(preprocessing, interpolation=interpolation) if interpolation else preprocessing


def augment_and_normalize(batch: dict[str, Tensor], preprocessing: Preprocessing) -> dict[str, Tensor]:
    """A batch on its device, with its "operations" applied to its "image" and the bytes normalized."""
    operations, image = batch.pop("operations", None), batch.get("image")
    if image is None or image.dtype != torch.uint8:
        return batch
    if operations is not None:
        image = apply_operations(image, operations)
    return batch | {"image": normalize(image, preprocessing)}


def normalize(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 [..., 1, H, W] -> float32 [..., 3, H, W], (pixel / 255 - mean) / std. On any device."""
    mean, std = (_on_device(values, pixels.device) for values in (preprocessing.mean, preprocessing.std))
    return (pixels.float().mul_(1 / 255) - mean).div_(std)


@cache
def _on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Values of three channels as [3, 1, 1], cached: moving them for every batch would make the host wait."""
    return torch.tensor(values, device=device)[:, None, None]


def draw_crop(size: tuple[int, int], min_scale: float, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """A crop (left, top, width, height) of (min_scale, 1) of the area of an image of size (width, height).

    As torchvision's RandomResizedCrop: its width over its height is log-uniform in RATIO; after ten that do not fit,
    the largest in the middle that does.
    """
    width, height = size
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    for _ in range(ATTEMPTS):
        share, slant, across, down = generator.random(4).tolist()
        area = width * height * (min_scale + (1 - min_scale) * share)
        ratio = math.exp(low + (high - low) * slant)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(across * (width - w + 1)), int(down * (height - h + 1)), w, h
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    return (width - w) // 2, (height - h) // 2, w, h


def crop(image: Image.Image | ImageFile, box: tuple[int, int, int, int], size: int) -> Tensor:
    """The part of an image in `box`, in pixels of its full size, resized to uint8 [1, size, size], bicubic.

    A file is decoded at the lowest resolution that leaves the part no smaller than `size`.
    """
    left, top, width, height = box
    pixels = np.asarray(image) if isinstance(image, Image.Image) else image.pixels(min(width, height) / size)
    left, right = _scaled(left, width, pixels.shape[1], image.size[0])
    top, bottom = _scaled(top, height, pixels.shape[0], image.size[1])
    return resize_bicubic(pixels[top:bottom, left:right], size)[None]


def _scaled(start: int, length: int, now: int, full: int) -> tuple[int, int]:
    """A stretch (first, end) of an axis of `full` pixels that now has `now` pixels; at least one."""
    first = min(round(start * now / full), now - 1)
    return first, max(first + 1, round((start + length) * now / full))


def resize_bicubic(pixels: np.ndarray, size: int) -> Tensor:
    """pixels uint8 [h, w] -> uint8 [size, size], antialiased; two to three times as fast as plain torch or Pillow.

    torch always resizes four channels: here four neighbours of a row while the height changes, then four rows while the
    width does. The result may differ from Pillow's, which changes the width first, by some grey values at sharp edges,
    else by one at most.
    """
    height, width = pixels.shape
    if size % LANES:
        return _resize(torch.from_numpy(pixels.reshape(height, width, 1).copy()), size, size)[..., 0]
    groups = -(-width // LANES)
    padded = np.zeros((height, groups * LANES), np.uint8)
    padded[:, :width] = pixels
    down = _resize(torch.from_numpy(padded).view(height, groups, LANES), size, groups)
    quarters = down.reshape(LANES, size // LANES, -1)[..., :width]
    across = _resize(torch.stack(tuple(quarters), dim=-1), size // LANES, size)
    return across.permute(2, 0, 1).reshape(size, size)


def _resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """pixels uint8 [h, w, channels] -> uint8 [height, width, channels]."""
    batch = pixels[None].permute(0, 3, 1, 2)
    return F.interpolate(batch, (height, width), mode="bicubic", antialias=True).permute(0, 2, 3, 1)[0]
