"""Transforms: grey PIL image -> normalised tensor [3, S, S]. SPEC §8 (training) and §10 (testing).

Everything before the tensor works on one channel; an X-ray has no colours, and the three channels are equal anyway.
"""

import math
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Level 7 of 10 in the released augmentation.
ENHANCE_FACTOR = 1.36
SHEAR = 0.21
TRANSLATE_PIXELS = 7
ROTATE_DEGREES = 21.0
FILL = 128

Transform = Callable[[Image.Image], Tensor]


def _affine(image: Image.Image, **changed) -> Image.Image:
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    bilinear = InterpolationMode.BILINEAR
    return F.affine(image, **still | changed, interpolation=bilinear, fill=[FILL])


def _shear_degrees(sign: int) -> float:
    return sign * math.degrees(math.atan(SHEAR))


# Each takes the image and a random sign.
OPERATIONS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "identity": lambda image, sign: image,
    "autocontrast": lambda image, sign: F.autocontrast(image),
    "equalize": lambda image, sign: F.equalize(image),
    "brightness": lambda image, sign: F.adjust_brightness(image, ENHANCE_FACTOR),
    "sharpness": lambda image, sign: F.adjust_sharpness(image, ENHANCE_FACTOR),
    "shear_x": lambda image, sign: _affine(image, shear=[_shear_degrees(sign), 0.0]),
    "shear_y": lambda image, sign: _affine(image, shear=[0.0, _shear_degrees(sign)]),
    "translate_x": lambda image, sign: _affine(image, translate=[sign * TRANSLATE_PIXELS, 0]),
    "translate_y": lambda image, sign: _affine(image, translate=[0, sign * TRANSLATE_PIXELS]),
    "rotate": lambda image, sign: _affine(image, angle=sign * ROTATE_DEGREES),
}


class RandomOperations(torch.nn.Module):
    """Two draws (with replacement) from OPERATIONS, each applied with probability 0.5."""

    def __init__(self, draws: int = 2, probability: float = 0.5):
        super().__init__()
        self.draws, self.probability = draws, probability

    def forward(self, image: Image.Image) -> Image.Image:
        names = list(OPERATIONS)
        for _ in range(self.draws):
            name = names[torch.randint(len(names), ()).item()]
            sign = 1 if torch.rand(()).item() < 0.5 else -1
            if torch.rand(()).item() < self.probability:
                image = OPERATIONS[name](image, sign)
        return image


def _to_normalised_tensor() -> list[Callable]:
    return [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]


class _Expand(torch.nn.Module):
    """One channel -> three equal ones (a view, no copy)."""

    def forward(self, image: Tensor) -> Tensor:
        return image.expand(3, -1, -1)


def train_transform(size: int = 224, min_scale: float = 0.2, augment: bool = True) -> Transform:
    """Random crop of (min_scale, 1) of the area, bicubic, flip, two random operations, normalise. Uses torch's RNG."""
    crop = v2.RandomResizedCrop(size, scale=(min_scale, 1.0), interpolation=InterpolationMode.BICUBIC)
    operations = [RandomOperations()] if augment else []
    to_tensor, to_float, normalize = _to_normalised_tensor()
    return v2.Compose([crop, v2.RandomHorizontalFlip(), *operations, to_tensor, _Expand(), to_float, normalize])


def eval_transform(size: int = 224, interpolation: str = "bilinear") -> Transform:
    """Resize to size × size without cropping, normalise."""
    resize = v2.Resize([size, size], interpolation=InterpolationMode(interpolation))
    to_tensor, to_float, normalize = _to_normalised_tensor()
    return v2.Compose([resize, to_tensor, _Expand(), to_float, normalize])
