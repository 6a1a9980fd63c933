"""The region of a finding: run lengths, boxes or mask files, checked with the split and painted by `read`.

Its height and width are those of the frame of the split file's numbers, or of the mask file; the image's may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from mavl.config.loader import Settings
from mavl.data.benchmarks.tables import Column, PathTemplate, Table
from mavl.data.images.read import STORED, ImageError
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
    """A mask image; a pixel belongs to it when any of its colours is above 0. reason: why it cannot be read."""

    path: Path
    reason: str | None = None

    def __or__(self, other: Self) -> Self:
        return self  # the path is made of the image's id, so that both rows name this file

    @property
    def empty(self) -> bool:
        return not self.read().any()

    def read(self) -> np.ndarray:
        """bool [H, W], the size of the file; ImageError if it cannot be read."""
        try:
            with Image.open(self.path) as image:
                if image.info.get("comment") == STORED:
                    raise ImageError("a JPEG of an image store; make the store of the config, which copies masks")
                # RGB resolves the colours of a palette and drops transparency; 16-bit grey would be clipped by it.
                pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
            raise ImageError(f"{self.path}: the mask cannot be read ({error})") from error
        return np.asarray(np.atleast_3d(pixels).any(axis=-1))


Mask = RunLengthMask | BoxMask | MaskFile

MaskRows = dict[str, list[Mask | None]]
"""For each finding the mask of each row, None where there is none."""


class RegionMasks(Settings):
    """Regions written in a column, in a frame of `size` (H, W) pixels; blank, -1 or nan is none.

    rle: SIIM-ACR's pairs "gap length": pixels counted down the columns, the gap from the end of the previous run.
    boxes: RSNA's "x;y;w;h|x;y;w;h", from the top left corner, or with `box_format` xyxy two corners "x1;y1;x2;y2".
    """

    kind: Literal["rle", "boxes"]
    column: Column
    size: tuple[PositiveInt, PositiveInt]
    box_format: BoxFormat = "xywh"

    def read(self, table: Table, ids: list[str], root: Path, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows; a text that describes none is a problem."""
        texts = ["" if text.lower() in ("-1", "nan") else text for text in table.column(self.column)]
        return {findings[0]: [_parse(self, table, row, text) for row, text in enumerate(texts)] or [None] * len(table)}


class BoxRows(Settings):
    """A row holds one box of one finding, as in ChestX-ray14's list.

    finding: the column of the finding, in any case or as `names` translates it; columns: the numbers of `box_format`.
    """

    kind: Literal["box_rows"]
    finding: Column
    names: dict[str, str] = Field(default_factory=dict)
    columns: tuple[Column, Column, Column, Column]
    size: tuple[PositiveInt, PositiveInt]
    box_format: BoxFormat = "xywh"

    def read(self, table: Table, ids: list[str], root: Path, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows; an unknown name or a box outside the frame is a problem."""
        of_text = {finding.lower(): finding for finding in findings} | self.names
        masks: MaskRows = {finding: [None] * len(table) for finding in findings}
        columns = [table.column(column) for column in (self.finding, *self.columns)]
        for row, (name, *box) in enumerate(zip(*columns, strict=False)):  # a column that does not exist is empty
            finding = of_text.get(name, of_text.get(name.lower(), ""))
            if finding in findings:
                masks[finding][row] = _parse(self, table, row, ";".join(box))
            else:
                fix = "say under masks.names which finding it is"
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
                if mask.path.is_file():
                    masks[finding][row] = mask
                else:
                    table.report(row, "missing_mask", f"mask {mask.path} is missing: check masks.path, and root")
        return masks


def resize_mask(mask: np.ndarray, height: int, width: int | None = None) -> np.ndarray:
    """mask [H, W] -> [height, width or height], each pixel the one that its centre falls on (nearest)."""
    shape = zip((height, width or height), mask.shape, strict=True)
    rows, columns = (((np.arange(size) + 0.5) * length / size).astype(int) for size, length in shape)
    return mask.take(columns, axis=1).take(rows, axis=0)


def _parse(masks: RegionMasks | BoxRows, table: Table, row: int, text: str) -> Mask | None:
    """The mask that a text describes; a text that describes none, and boxes outside the frame, become problems."""
    (height, width), box_format = masks.size, masks.box_format
    try:
        if masks.kind == "rle":
            return RunLengthMask.parse(text, masks.size)
        mask = BoxMask.parse(text, masks.size, box_format)
    except ValueError as error:
        table.report(row, "bad_region", str(error))
        return None
    for box in mask.outside:
        problem = f"box {box} ({BOX_FORMATS[box_format]}) in a frame of {width} x {height}"
        table.report(row, "box_outside", problem, tolerated=True)
    return mask
