"""The region of a finding: run lengths, boxes or mask files, checked with the split and painted by `read`.

Its height and width are those of the frame of the split file's numbers, or of the mask file; the image's may differ.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from mavl.config.loader import Settings
from mavl.data.benchmarks.tables import Column, Names, PathTemplate, Table, name_meanings
from mavl.data.images.grey import MAX_SIDE, ImageError, check_size
from mavl.data.images.read import read_mask
from mavl.vocab import PRESENT, unknown_name

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

MaskRows = dict[str, list[Mask | None]]
"""For each finding the mask of each row, None where there is none."""


Side = Annotated[int, Field(gt=0, le=MAX_SIDE)]

FrameSize = tuple[Side, Side] | tuple[str, str]
"""Height and width of a frame in pixels, or the columns that hold them."""


class RegionMasks(Settings):
    """Regions written in a column, in a frame of `size` (H, W) pixels; blank, -1 or nan is none.

    rle: SIIM-ACR's pairs "gap length": pixels counted down the columns, the gap from the end of the previous run.
    boxes: RSNA's "x;y;w;h|x;y;w;h", from the top left corner, or with `box_format` xyxy two corners "x1;y1;x2;y2".
    all_lists: the mask of an image is the union of its rows in the lists of all splits.
    """

    kind: Literal["rle", "boxes"]
    column: Column
    size: FrameSize
    box_format: BoxFormat = "xywh"
    all_lists: bool = False

    def read(self, table: Table, ids: list[str], root: Path, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows; a text that describes none is a problem."""
        texts = ["" if text.lower() in ("-1", "nan") else text for text in table.column(self.column)]
        sizes = _sizes(self.size, table)
        masks = [_parse(self, table, row, *each) for row, each in enumerate(zip(texts, sizes, strict=False))]
        return {findings[0]: masks or [None] * len(table)}


class BoxRows(Settings):
    """A row holds one box of one finding, as in ChestX-ray14's list, or says by a blank box that there is none.

    finding: the column of the finding, in any case or as `names` translates it, to null where it is not among the
    benchmark's; columns: the numbers of `box_format`. A blank box with another text, such as "No finding", is of all.
    """

    kind: Literal["box_rows"]
    finding: Column
    names: Names = Field(default_factory=dict)
    columns: tuple[Column, Column, Column, Column]
    size: FrameSize
    box_format: BoxFormat = "xywh"

    def read(self, table: Table, ids: list[str], root: Path, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows; an unknown name or a box outside the frame is a problem."""
        of_text = name_meanings(findings, self.names)
        masks: MaskRows = {finding: [None] * len(table) for finding in findings}
        columns = [table.column(column) for column in (self.finding, *self.columns)]
        sizes = _sizes(self.size, table)
        # a column that does not exist is empty
        for row, (name, *box, size) in enumerate(zip(*columns, sizes, strict=False)):
            finding = of_text.get(name.lower())
            if not any(number.lower() not in ("", "nan") for number in box):
                for absent in (finding,) if finding else findings:
                    masks[absent][row] = size and BoxMask.parse("", size)
            elif finding:
                masks[finding][row] = _parse(self, table, row, ";".join(box), size)
            elif name.lower() not in of_text:
                fix = "say under masks.names which finding it is, or null"
                table.report(row, "bad_region", f"a box of an {unknown_name('finding', name, findings)}: {fix}")
        return masks


class FileMasks(Settings):
    """A mask file for each image's id, "masks/{}.png", or with {finding} for each finding that is labelled present."""

    kind: Literal["file"]
    path: PathTemplate

    @property
    def by_finding(self) -> bool:
        return "{finding}" in self.path

    def read(self, table: Table, ids: list[str], root: Path, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows, by the ids of their images; a file that does not exist is a problem."""
        masks: MaskRows = {finding: [None] * len(table) for finding in findings}
        for column, finding in enumerate(findings):
            path = self.path.replace("{finding}", finding)
            for row, image in enumerate(ids):
                if self.by_finding and labels[row, column] != PRESENT:
                    continue
                mask = MaskFile(root / path.replace("{}", image))
                if os.path.isfile(mask.path):  # of a name that is too long Path's own would raise
                    masks[finding][row] = mask
                else:
                    table.report(row, "missing_mask", f"mask {mask.path} is missing: check masks.path, and root")
        return masks


def resize_mask(mask: np.ndarray, height: int, width: int | None = None, centred: bool = True) -> np.ndarray:
    """mask [H, W] -> [height, width or height], each pixel the one that its centre falls on (nearest).

    centred: False takes the pixel that its upper left corner falls on, as the release does.
    """
    shape, half = zip((height, width or height), mask.shape, strict=True), 0.5 * centred
    rows, columns = (((np.arange(size) + half) * length / size).astype(int) for size, length in shape)
    return mask.take(columns, axis=1).take(rows, axis=0)


def _sizes(size: FrameSize, table: Table) -> Sequence[tuple[int, int] | None]:
    """The size of the frame of each row; None, with a problem, where its columns hold none."""
    if isinstance(size[0], int):
        return [(int(size[0]), int(size[1]))] * len(table)
    sizes = []
    for row, texts in enumerate(zip(*(table.column(column) for column in size), strict=False)):
        try:
            height, width = (int(float(text)) for text in texts)
            check_size(width, height)
            sizes.append((height, width))
        except (ValueError, OverflowError) as error:
            fault = error if isinstance(error, ImageError) else f"{' x '.join(texts)!r} is no height and width"
            table.report(row, "bad_region", f"the frame in the columns {', '.join(map(str, size))}: {fault}")
            sizes.append(None)
    return sizes


def _parse(
    masks: RegionMasks | BoxRows, table: Table, row: int, text: str, size: tuple[int, int] | None
) -> Mask | None:
    """The mask that a text describes; a text that describes none, and boxes outside the frame, become problems."""
    if size is None:
        return None
    try:
        if masks.kind == "rle":
            return RunLengthMask.parse(text, size)
        mask = BoxMask.parse(text, size, masks.box_format)
    except ValueError as error:
        table.report(row, "bad_region", str(error))
        return None
    for box in mask.outside:
        problem = f"box {box} ({BOX_FORMATS[masks.box_format]}) in a frame of {size[1]} x {size[0]}"
        table.report(row, "box_outside", problem, tolerated=True)
    return mask
