"""The region of a finding: run lengths, boxes or mask files, checked with the split and painted by `read`.

Its height and width are those of the frame of the split file's numbers, or of the mask file; the image's may differ.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np

from mavl.data.images.grey import ImageError
from mavl.data.images.read import read_mask

BoxFormat = Literal["xywh", "xyxy"]
BOX_FORMATS: dict[BoxFormat, str] = {"xywh": "x;y;w;h", "xyxy": "x1;y1;x2;y2"}
"""How the four numbers of a box are written: upper left corner and size, or two corners."""

ROUNDING = 1
"""Pixels by which a box may reach out of its frame without being a problem."""


@dataclass(frozen=True, eq=False)
class RegionMask:
    """A mask of several parts, int64 [n, …], in a frame `size` (H, W); `read` is bool [H, W], their union."""

    size: tuple[int, int]
    parts: np.ndarray

    def __or__(self, other: Self) -> Self:
        if self.size != other.size:
            raise ValueError(f"one image has frames of {self.size} and {other.size} pixels (H, W)")
        return replace(self, parts=np.concatenate([self.parts, other.parts]))

    @property
    def empty(self) -> bool:
        return len(self.parts) == 0


class RunLengthMask(RegionMask):
    """Parts [n, 2]: first pixel of a run and the one after its last, counted down the columns."""

    @classmethod
    def parse(cls, text: str, size: tuple[int, int]) -> Self:
        """`"3 2 4 1"` is gap 3, run 2, gap 4, run 1: the pixels 3, 4 and 9."""
        try:
            numbers = np.array(text.split(), dtype=np.int64)
        except (ValueError, OverflowError):
            raise ValueError(f"run lengths {text[:40]!r} are not all whole numbers") from None
        if len(numbers) % 2:
            raise ValueError(f"run lengths {text[:40]!r} are {len(numbers)} numbers, not pairs of gap and length")
        if (numbers < 0).any():
            raise ValueError(f"run lengths {text[:40]!r} hold the negative number {numbers.min()}")
        if (numbers > size[0] * size[1]).any():  # before the sum, which could overflow
            raise ValueError(
                f"run lengths {text[:40]!r} hold {numbers.max()}, more than the {size[0] * size[1]} pixels"
            )
        runs = numbers.cumsum().reshape(-1, 2)
        if len(runs) and runs[-1, 1] > size[0] * size[1]:
            fix = f"check masks.size {size}, and that a gap counts from the end of the run before it"
            raise ValueError(f"runs end at pixel {runs[-1, 1]} of {size[0] * size[1]}: {fix}")
        return cls(size, runs[runs[:, 0] < runs[:, 1]])

    def read(self) -> np.ndarray:
        height, width = self.size
        mask = np.zeros(height * width, dtype=bool)
        for start, stop in self.parts:
            mask[start:stop] = True
        return mask.reshape(width, height).T


@dataclass(frozen=True, eq=False)
class BoxMask(RegionMask):
    """Parts [n, 4]: (left, top, right, bottom), with right and bottom outside."""

    outside: tuple[str, ...] = ()
    """The texts of the boxes that were cut at the frame by more than ROUNDING."""

    @classmethod
    def parse(cls, text: str, size: tuple[int, int], box_format: BoxFormat = "xywh") -> Self:
        """Boxes separated by |. Fractions of a pixel are cut off, as in the released masks, and boxes at the frame."""
        (height, width), boxes, outside = size, [], []
        for box in filter(None, text.split("|")):
            try:
                x, y, w, h = (int(float(number)) for number in box.split(";"))
            except (ValueError, OverflowError):
                raise ValueError(f"box {box[:40]!r} is not four numbers {BOX_FORMATS[box_format]}") from None
            if box_format == "xyxy":
                w, h = w - x, h - y
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
            if left >= right or top >= bottom:
                raise ValueError(f"box {box!r} holds no pixel of the {height} x {width} frame: check masks.size")
            boxes.append((left, top, right, bottom))
            if max(-x, -y, x + w - width, y + h - height) > ROUNDING:
                outside.append(box)
        return cls(size, np.array(boxes, dtype=np.int64).reshape(-1, 4), tuple(outside))

    def read(self) -> np.ndarray:
        mask = np.zeros(self.size, dtype=bool)
        for left, top, right, bottom in self.parts:
            mask[top:bottom, left:right] = True
        return mask


@dataclass(frozen=True)
class MaskFile:
    """A mask image. reason: why it cannot be read."""

    path: Path
    reason: str | None = None

    def __or__(self, other: Self) -> Self:
        return self  # the path is made of the image's id, so that both rows name this file

    @property
    def empty(self) -> bool:
        return not self.read().any()

    def read(self) -> np.ndarray:
        """bool [H, W], the size of the file, by `read_mask`; ImageError if it cannot be read."""
        try:
            return read_mask(self.path)
        except ImageError as error:
            reason = str(error).removeprefix(f"{self.path}: ")
            raise ImageError(f"{self.path}: the mask cannot be read ({reason})") from error


Mask = RunLengthMask | BoxMask | MaskFile


def resize_mask(mask: np.ndarray, height: int, width: int | None = None, centred: bool = True) -> np.ndarray:
    """mask [H, W] -> [height, width or height], each pixel the one that its centre falls on (nearest).

    centred: False takes the pixel that its upper left corner falls on, as the release does.
    """
    shape, half = zip((height, width or height), mask.shape, strict=True), 0.5 * centred
    rows, columns = (((np.arange(size) + half) * length / size).astype(int) for size, length in shape)
    return mask.take(columns, axis=1).take(rows, axis=0)
