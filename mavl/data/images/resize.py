"""Antialiased bicubic resizing of grey bytes, two to three times as fast as plain torch or Pillow.

torch resizes bytes by vector instructions, but four channels at a time always, so that of one channel three quarters of
the work are wasted. Here the four are real: going down the columns, four neighbours in a row; then going along the
rows, four rows. Where an image has sharp edges the result may differ from Pillow's, which takes the rows first, by some
grey values, else by one at most.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

LANES = 4


def resize_bicubic(pixels: np.ndarray, size: int) -> Tensor:
    """pixels uint8 [h, w] -> uint8 [size, size]."""
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
