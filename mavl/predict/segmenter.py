"""A fine-tuned U-Net: images -> masks in their own size.

segmenter = load("runs/finetune_seg/rsna/seed_0/best")
mask = segmenter.predict_mask("film.png")      # bool [H, W]
"""

import os
from dataclasses import dataclass

import numpy as np
import torch

from mavl.checkpoint import CheckpointError, finetuned
from mavl.model.unet import THRESHOLD, UNet, mask_probability
from mavl.predict.arrays import ImageSource, ValueRange, read_picture
from mavl.predict.predictor import to_pixels
from mavl.provenance import training_images

KIND = "segmenter"


@dataclass(frozen=True, eq=False, repr=False)
class Segmenter:
    """A U-Net on its device, and the finding that it outlines.

    equalize: histograms, before its preprocessing; trained_on: what the model folder says of the training images.
    """

    unet: UNet
    finding: str
    equalize: bool
    trained_on: dict | None = None

    def __repr__(self) -> str:
        return f"Segmenter({self.finding!r}, on {next(self.unet.parameters()).device})"

    def probability(self, image: ImageSource, *, value_range: ValueRange = None) -> np.ndarray:
        """Probability float32 [H, W], in the image's own size, that a pixel belongs to the finding.

        image: as `mavl.predict.arrays.read_picture` takes it. ImageError for one that cannot be read.
        """
        picture = read_picture(image, "image", value_range)
        pixels = to_pixels(picture, self.unet.preprocessing, self.equalize)
        return mask_probability(self.unet, pixels, (picture.height, picture.width))

    def predict_mask(self, image: ImageSource, *, value_range: ValueRange = None) -> np.ndarray:
        """bool [H, W] in the image's own size."""
        return self.probability(image, value_range=value_range) > THRESHOLD


def load(source: str | os.PathLike, device: str | torch.device | None = None) -> Segmenter:
    """A model folder, released fine-tuned .pth or hub id -> Segmenter, by default on the GPU if there is one.

    CheckpointError where it is of another kind.
    """
    loaded = finetuned.load(str(source))
    if not isinstance(loaded.model, UNet):
        raise CheckpointError(f"{source}: a {loaded.kind}, not a {KIND}")
    unet = loaded.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Segmenter(unet, loaded.findings[0], loaded.equalize, training_images(loaded.about))
