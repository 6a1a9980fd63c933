"""A fine-tuned U-Net ready to be asked: images -> masks in their own size.

segmenter = load("runs/finetune_seg/rsna/seed_0/best")
mask = segmenter.predict_mask("film.png")      # bool [H, W]
"""

import os
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from mavl.checkpoint import finetuned
from mavl.checkpoint.finetuned import Finetuned
from mavl.checkpoint.folder import CheckpointError
from mavl.data.images.grey import equalize_histogram, to_grey
from mavl.data.images.read import read_image
from mavl.data.images.transforms import eval_transform

KIND = "segmenter"
THRESHOLD = 0.5
"""A pixel with a greater probability belongs to the mask. SPEC §12."""


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A model of KIND on its device."""

    source: Finetuned

    @property
    def finding(self) -> str:
        return self.source.findings[0]

    def probability(self, image: str | os.PathLike | Image.Image) -> np.ndarray:
        """float32 [H, W] in the image's own size: how probable it is that a pixel belongs to the finding.

        image: a file, or an image as it would be read from one. ImageError for a file that cannot be read.
        """
        picture = to_grey(image) if isinstance(image, Image.Image) else read_image(image)
        if self.source.equalize:
            picture = Image.fromarray(equalize_histogram(np.asarray(picture)))
        return self.probability_shown(picture)

    @torch.no_grad()
    def probability_shown(self, picture: Image.Image) -> np.ndarray:
        """As `probability`, of an image (mode "L") that is equalised already where it should be."""
        pixels = eval_transform(self.source.image_size, self.source.interpolation)(picture)[None]
        unet = self.source.model
        probability = unet(pixels.to(next(unet.parameters()).device)).float().sigmoid()
        size = (picture.height, picture.width)
        return F.interpolate(probability, size, mode="bilinear", align_corners=False)[0, 0].cpu().numpy()

    def predict_mask(self, image: str | os.PathLike | Image.Image) -> np.ndarray:
        """bool [H, W] in the image's own size."""
        return self.probability(image) > THRESHOLD


def load(source: str | os.PathLike, device: str | torch.device | None = None) -> Segmenter:
    """A model folder, released fine-tuned .pth or hub id -> Segmenter, on the GPU if there is one and none is named.

    CheckpointError where it is of another kind.
    """
    loaded = finetuned.load(source)
    if loaded.kind != KIND:
        raise CheckpointError(f"{source}: a {loaded.kind}, not a {KIND}")
    loaded.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return Segmenter(loaded)
