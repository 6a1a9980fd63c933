"""The region of a finding: run lengths, boxes, polygons or mask files, checked with the split and painted by `read`.

Its height and width are those of the frame of the split file's numbers, or of the mask file; the image's may differ.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np

from mavl.data.images.grey import ImageError
from mavl.data.images.read import read_mask

BoxFormat = Literal["xywh", "xyxy"]
BOX_FORMATS: dict[BoxFormat, str] = {"xywh": "x;y;w;h", "xyxy": "x1;y1;x2;y2"}
"""How the four numbers of a box are written: upper left corner and size, or two corners."""

Unit = Literal["pixels", "fraction"]

Edges = Literal["cut", "round"]
"""Which pixels a box covers: see `BoxMask.parse`."""

Points = list[tuple[float, float]]

LARGEST = 1e9
"""What the coordinates of a polygon stay below, so that sums and products of them are exact enough."""

ROUNDING = 1
"""Pixels by which a box or a polygon may reach out of its frame without being a problem."""


@dataclass(frozen=True, eq=False)
class RegionMask:
    """A mask of several parts, int64 [n, …], in a frame `size` (H, W); `read` is bool [H, W], their union."""

    size: tuple[int, int]
    parts: np.ndarray

    def __or__(self, other: Self) -> Self:
        if self.size == other.size:
            return replace(self, parts=np.concatenate([self.parts, other.parts]))
        if self.empty or other.empty:  # the frame of nothing may be unknown
            return other if self.empty else self
        raise ValueError(f"one image has frames of {self.size} and {other.size} pixels (H, W)")

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
    def parse(
        cls,
        text: str,
        size: tuple[int, int],
        box_format: BoxFormat = "xywh",
        unit: Unit = "pixels",
        edges: Edges = "cut",
    ) -> Self:
        """Boxes separated by |, without what is outside of the frame.

        Pixel (0, 0) reaches from 0 to 1 on both axes. By `edges` a box covers these pixels:
        cut: the fractions of its four numbers are cut off, as in the released masks, so that it covers the columns from
        x to x + w - 1, or from x1 to x2 - 1, and the rows alike.
        round: those whose centres lie in it; one too small for any covers the pixel in which its own centre lies.

        Args:
            unit: fraction: the numbers are shares of the width and the height, and `edges` is round.
        """
        (height, width), boxes, outside = size, [], []
        scale = (width, height) * 2 if unit == "fraction" else (1, 1, 1, 1)
        for box in filter(None, text.split("|")):
            try:
                x, y, right, bottom = (float(number) * of for number, of in zip(box.split(";"), scale, strict=True))
                if edges == "cut" and unit == "pixels":
                    x, y, right, bottom = map(int, (x, y, right, bottom))
                if not all(map(math.isfinite, (x, y, right, bottom))):
                    raise ValueError
            except (ValueError, OverflowError):
                raise ValueError(f"box {box[:40]!r} is not four numbers {BOX_FORMATS[box_format]}") from None
            if box_format == "xywh":
                right, bottom = x + right, y + bottom
            if max(x, 0) >= min(right, width) or max(y, 0) >= min(bottom, height):
                raise ValueError(f"box {box!r} holds no pixel of the {height} x {width} frame: check masks.size")
            columns, rows = _pixels(max(x, 0), min(right, width)), _pixels(max(y, 0), min(bottom, height))
            boxes.append((columns[0], rows[0], columns[1], rows[1]))
            if max(-x, -y, right - width, bottom - height) > ROUNDING:
                outside.append(box)
        return cls(size, np.array(boxes, dtype=np.int64).reshape(-1, 4), tuple(outside))

    def read(self) -> np.ndarray:
        mask = np.zeros(self.size, dtype=bool)
        for left, top, right, bottom in self.parts:
            mask[top:bottom, left:right] = True
        return mask


def _pixels(start: float, end: float) -> tuple[int, int]:
    """The first pixel whose centre lies in an interval, and the one after its last; at least the one of its middle."""
    first, last = math.ceil(start - 0.5), math.ceil(end - 0.5)
    return (first, last) if first < last else (middle := math.floor((start + end) / 2), middle + 1)


@dataclass(frozen=True, eq=False)
class PolygonMask(RunLengthMask):
    """The union of polygons, without what is outside of the frame."""

    outside: tuple[str, ...] = ()
    """The beginnings of the polygons that were cut at the frame by more than ROUNDING."""

    @classmethod
    def parse_polygons(cls, text: str, size: tuple[int, int], unit: Unit = "pixels") -> Self:
        """Polygons "x;y;x;y;x;y" separated by |, or one of points "x;y|x;y|x;y".

        Pixel (0, 0) reaches from 0 to 1 on both axes. A polygon covers the pixels whose centres lie in it or on its
        upper or left edge, where it crosses itself by the even-odd rule. One that is too small for any covers the pixel
        in which the mean of its vertices lies.

        Args:
            unit: fraction: the numbers are shares of the width and the height.
        """
        height, width = size
        runs, outside = [np.empty((0, 2), dtype=np.int64)], []
        for points in _polygons(text):
            if unit == "fraction":
                points = [(x * width, y * height) for x, y in points]
            (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
            if max(left, 0) >= min(right, width) or max(top, 0) >= min(bottom, height):
                fix = "check masks.size"
                raise ValueError(f"polygon {text[:40]!r} holds no pixel of the {height} x {width} frame: {fix}")
            covered = list(_runs(points, height, width))
            if not covered:
                x, y = np.clip(np.mean(points, axis=0), 0, (width - 1, height - 1)).astype(int)
                covered = [(x * height + y, x * height + y + 1)]
            runs.append(np.array(covered, dtype=np.int64))
            if max(-left, -top, right - width, bottom - height) > ROUNDING:
                outside.append(text[:40])
        return cls(size, np.concatenate(runs), tuple(outside))


def _polygons(text: str) -> list[Points]:
    """The polygons of a text; ValueError for one of fewer than three points."""
    try:
        parts = [[float(number) for number in part.split(";")] for part in text.split("|") if part]
        if not all(abs(number) < LARGEST for part in parts for number in part):
            raise ValueError
    except ValueError:
        raise ValueError(f"polygon {text[:40]!r} is not all numbers of a usable size") from None
    if all(len(part) == 2 for part in parts):
        parts = [[number for part in parts for number in part]] if parts else []
    for part in parts:
        if len(part) % 2 or len(part) < 6:
            raise ValueError(f"polygon {text[:40]!r} has {len(part)} numbers, not three points x;y or more")
    return [list(zip(part[::2], part[1::2], strict=True)) for part in parts]


def _runs(points: Points, height: int, width: int) -> Iterator[tuple[int, int]]:
    """For each column whose centre a polygon crosses, the runs of pixels between its crossings with that line."""
    x, y = np.array(points).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    for column in range(max(0, math.ceil(x.min() - 0.5)), min(width, math.ceil(x.max() - 0.5))):
        centre = column + 0.5
        crossed = (x <= centre) != (next_x <= centre)
        share = (centre - x[crossed]) / (next_x - x)[crossed]
        crossings = np.sort(y[crossed] + share * (next_y - y)[crossed])
        ends = np.clip(np.ceil(crossings - 0.5).astype(np.int64), 0, height)
        for start, stop in zip(ends[::2], ends[1::2], strict=True):
            if start < stop:
                yield column * height + int(start), column * height + int(stop)


def parse_coco_runs(text: str, size: tuple[int, int]) -> RunLengthMask:
    """COCO's run lengths: of pixels outside and inside in turn, down the columns, as numbers "5;3;4" or compressed."""
    pixels = size[0] * size[1]
    if not text:
        return RunLengthMask(size, np.empty((0, 2), dtype=np.int64))
    numbers = list(map(int, text.split(";"))) if re.fullmatch(r"\d+(;\d+)*", text) else []
    try:
        counts = numbers if sum(numbers) == pixels else _decompressed(text)  # which may be of digits and ; alone
    except (ValueError, IndexError):
        raise ValueError(f"run lengths {text[:40]!r} are not those of COCO") from None
    if min(counts) < 0 or sum(counts) != pixels:
        counts = numbers if ";" in text else counts
        fix = f"check masks.size {size}"
        raise ValueError(f"run lengths {text[:40]!r} are of {sum(counts)} pixels, not {pixels}: {fix}")
    ends = np.cumsum(counts, dtype=np.int64)
    starts = ends[:-1:2]
    runs = np.stack([starts, ends[1::2]], axis=1)
    return RunLengthMask(size, runs[runs[:, 0] < runs[:, 1]])


def _decompressed(text: str) -> Sequence[int]:
    """The numbers of COCO's compressed text: five bits a letter, and from the third on differences to the last but one.

    IndexError for a text that ends within a number.
    """
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64:
                raise ValueError
            value |= (bits & 31) << shift
            position, shift, more = position + 1, shift + 5, bool(bits & 32)
            if not more and bits & 16:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


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
