"""A fine-tuned U-Net: images -> masks in their own size.

segmenter = load("runs/finetune_seg/rsna/seed_0/best")
mask = segmenter.predict_mask("film.png")      # bool [H, W]
"""

import os
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from mavl.checkpoint import CheckpointError, finetuned
from mavl.data.images.grey import to_grey
from mavl.data.images.read import read_image
from mavl.model.unet import THRESHOLD, UNet, mask_probability
from mavl.predict.predictor import to_pixels

KIND = "segmenter"


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A U-Net on its device, and the finding that it outlines. equalize: histograms, before its preprocessing."""

    unet: UNet
    finding: str
    equalize: bool

    def probability(self, image: str | os.PathLike | Image.Image) -> np.ndarray:
        """Probability float32 [H, W], in the image's own size, that a pixel belongs to the finding.

        image: a file, or an image as it would be read from one. ImageError for a file that cannot be read.
        """
        picture = to_grey(image) if isinstance(image, Image.Image) else read_image(image)
        pixels = to_pixels(picture, self.unet.preprocessing, self.equalize)
        return mask_probability(self.unet, pixels, (picture.height, picture.width))

    def predict_mask(self, image: str | os.PathLike | Image.Image) -> np.ndarray:
        """bool [H, W] in the image's own size."""
        return self.probability(image) > THRESHOLD


def load(source: str | os.PathLike, device: str | torch.device | None = None) -> Segmenter:
    """A model folder, released fine-tuned .pth or hub id -> Segmenter, by default on the GPU if there is one.

    CheckpointError where it is of another kind.
    """
    loaded = finetuned.load(str(source))
    if not isinstance(loaded.model, UNet):
        raise CheckpointError(f"{source}: a {loaded.kind}, not a {KIND}")
    unet = loaded.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Segmenter(unet, loaded.findings[0], loaded.equalize)
