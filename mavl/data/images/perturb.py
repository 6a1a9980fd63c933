"""Changes of a film that change nothing of its findings: does a model's score stay the same?

All work on grey pixels uint8 [S, S] at the side of the model's input.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mavl.data.images.read import ImageFile
from mavl.data.images.transforms import EvalTransform

DEGREES, QUALITY, PERCENTILES = 5, 30, (5, 95)
MARKER = 0.12
"""Side of the planted letter, as a share of the image's."""


def window(pixels: np.ndarray) -> np.ndarray:
    """The 5th to the 95th percentile stretched over all grey levels, what is beyond cut off."""
    low, high = np.percentile(pixels, PERCENTILES)
    return (np.clip((pixels - low) / max(1.0, high - low), 0, 1) * 255).round().astype(np.uint8)


def rotate(pixels: np.ndarray) -> np.ndarray:
    """Turned by 5 degrees, black outside."""
    return np.asarray(Image.fromarray(pixels).rotate(DEGREES, Image.Resampling.BILINEAR))


def compress(pixels: np.ndarray) -> np.ndarray:
    """Through a JPEG of quality 30."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY)
    return np.asarray(Image.open(file).convert("L"))


def mark(pixels: np.ndarray) -> np.ndarray:
    """A white L in the upper left corner, as a marker of the side."""
    image = Image.fromarray(pixels)
    side = round(MARKER * pixels.shape[0])
    left, thick = round(0.05 * pixels.shape[1]), max(1, side // 5)
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, left, left + thick, left + side), fill=255)
    draw.rectangle((left, left + side - thick, left + round(0.7 * side), left + side), fill=255)
    return np.asarray(image)


def mirror(pixels: np.ndarray) -> np.ndarray:
    """Left exchanged with right."""
    return np.ascontiguousarray(pixels[:, ::-1])


PERTURBATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "window": window,
    "rotation": rotate,
    "jpeg": compress,
    "marker": mark,
    "flip": mirror,
}


@dataclass(frozen=True)
class PerturbedTransform(EvalTransform):
    """The transform of an evaluation, and then one of PERTURBATIONS."""

    perturbation: str = "flip"

    def pixels(self, image: Image.Image | ImageFile) -> Tensor:
        changed = PERTURBATIONS[self.perturbation](super().pixels(image)[0].numpy())
        return torch.from_numpy(np.array(changed))[None]
