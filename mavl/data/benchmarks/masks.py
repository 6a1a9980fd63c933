"""The region of a finding: run lengths, boxes or mask files, checked with the split and painted by `read`.

Every mask has `empty`, `read() -> bool [H, W]`, and `|` for a second part of the same image's mask. H and W are the
frame in which the split file's numbers are given, or the mask file's own; neither need be the image's size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field, PositiveInt

from mavl.config.loader import Settings
from mavl.data.benchmarks.tables import Column, PathTemplate, Table
from mavl.data.images.formats import STORED
from mavl.data.images.grey import ImageError
from mavl.vocab import ABSENT, PRESENT, UNKNOWN, unknown_name

BoxFormat = Literal["xywh", "xyxy"]
BOX_FORMATS: dict[BoxFormat, str] = {"xywh": "x;y;w;h", "xyxy": "x1;y1;x2;y2"}
"""How the four numbers of a box are written: upper left corner and size, or two corners."""

NO_REGION = ("", "-1", "nan")
FINDING_BLANK = "{finding}"

ROUNDING = 1
"""Pixels by which a box may reach out of its frame without being a problem."""


@dataclass(frozen=True, eq=False)
class RunLengthMask:
    """Runs int64 [n, 2], first pixel and the one after the last, counted down the columns of a frame (H, W)."""

    size: tuple[int, int]
    runs: np.ndarray

    @classmethod
    def parse(cls, text: str, size: tuple[int, int]) -> Self:
        """`"3 2 4 1"` is gap 3, run 2, gap 4, run 1: the pixels 3, 4 and 9."""
        try:
            numbers = np.array(text.split(), dtype=np.int64)
        except (ValueError, OverflowError):
            raise ValueError(f"run lengths {shorten(text)!r} are not all whole numbers") from None
        if len(numbers) % 2:
            raise ValueError(f"run lengths {shorten(text)!r} are {len(numbers)} numbers, not pairs of gap and length")
        if (numbers < 0).any():
            raise ValueError(f"run lengths {shorten(text)!r} hold the negative number {numbers.min()}")
        runs = numbers.cumsum().reshape(-1, 2)
        if len(runs) and runs[-1, 1] > size[0] * size[1]:
            fix = f"check masks.size {size}, and that a gap counts from the end of the run before it"
            raise ValueError(f"runs end at pixel {runs[-1, 1]} of {size[0] * size[1]}: {fix}")
        return cls(size, runs)

    def __or__(self, other: Self) -> Self:
        return replace(self, runs=np.concatenate([self.runs, other.runs]))

    @property
    def empty(self) -> bool:
        return not (self.runs[:, 0] < self.runs[:, 1]).any()

    def read(self) -> np.ndarray:
        """bool [H, W]."""
        height, width = self.size
        mask = np.zeros(height * width, dtype=bool)
        for start, stop in self.runs:
            mask[start:stop] = True
        return mask.reshape(width, height).T


@dataclass(frozen=True, eq=False)
class BoxMask:
    """Boxes int64 [n, 4], (left, top, right, bottom) with right and bottom outside, in a frame (H, W).

    outside: the texts of those that were cut at the frame by more than ROUNDING.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    outside: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, size: tuple[int, int], box_format: BoxFormat = "xywh") -> Self:
        """Fractions of a pixel are cut off (as the released masks were made), and so is what lies outside the frame.

        box_format: xywh for "x;y;width;height", xyxy for two corners "left;top;right;bottom", the second one outside.
        """
        (height, width), boxes, outside = size, [], []
        for box in filter(None, text.split("|")):
            try:
                x, y, w, h = (int(float(number)) for number in box.split(";"))
            except (ValueError, OverflowError):
                raise ValueError(f"box {shorten(box)!r} is not four numbers {BOX_FORMATS[box_format]}") from None
            if box_format == "xyxy":
                w, h = w - x, h - y
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
            if left >= right or top >= bottom:
                raise ValueError(f"box {box!r} holds no pixel of the {height} x {width} frame: check masks.size")
            boxes.append((left, top, right, bottom))
            if max(-x, -y, x + w - width, y + h - height) > ROUNDING:
                outside.append(box)
        return cls(size, np.array(boxes, dtype=np.int64).reshape(-1, 4), tuple(outside))

    def __or__(self, other: Self) -> Self:
        return replace(self, boxes=np.concatenate([self.boxes, other.boxes]))

    @property
    def empty(self) -> bool:
        return len(self.boxes) == 0

    def read(self) -> np.ndarray:
        """bool [H, W], the union of the boxes."""
        mask = np.zeros(self.size, dtype=bool)
        for left, top, right, bottom in self.boxes:
            mask[top:bottom, left:right] = True
        return mask


@dataclass(frozen=True)
class MaskFile:
    """A mask image; a pixel belongs to it when any of its colours is above 0."""

    path: Path

    def __or__(self, other: Self) -> Self:
        if other != self:
            raise ValueError(f"one image has two mask files, {self.path} and {other.path}")
        return self

    @property
    def empty(self) -> bool:
        return not self.read().any()

    def read(self) -> np.ndarray:
        """bool [H, W], the size of the file; ImageError where it is none."""
        try:
            with Image.open(self.path) as image:
                if image.info.get("comment") == STORED:
                    raise ImageError("a JPEG of an image store; make the store of the config, which copies masks")
                # RGB resolves the colours of a palette and drops transparency; 16-bit grey would be clipped by it.
                pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
            raise ImageError(f"{self.path}: the mask cannot be read ({error})") from error
        return np.atleast_3d(pixels).any(axis=-1)


@dataclass(frozen=True)
class DamagedMask(MaskFile):
    """A mask file that cannot be read, so that its image has no label."""

    reason: str


Mask = RunLengthMask | BoxMask | MaskFile

MaskRows = dict[str, list[Mask | None]]
"""For each finding the mask of each row, None where there is none."""


def label_by(mask: Mask | None) -> tuple[Mask | None, int]:
    """The mask, and the label of its finding: UNKNOWN where there is no mask, or its file is damaged."""
    if mask is None:
        return None, UNKNOWN
    try:
        return mask, ABSENT if mask.empty else PRESENT
    except ImageError as error:
        return DamagedMask(mask.path, str(error)), UNKNOWN


class RegionMasks(Settings):
    """Regions written in a column, in a frame of `size` (H, W) pixels; blank, -1 or nan is none.

    rle: SIIM-ACR's pairs "gap length": pixels counted down the columns, the gap from the end of the previous run.
    boxes: RSNA's "x;y;w;h|x;y;w;h" in pixels, x to the right and y down from the top left corner, or with `box_format`
    xyxy two corners "x1;y1;x2;y2".
    """

    kind: Literal["rle", "boxes"]
    column: Column
    size: tuple[PositiveInt, PositiveInt]
    box_format: BoxFormat = "xywh"

    def read(self, table: Table, ids: pd.Series, root: Path, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows; a text that describes none is a problem."""
        box_format = self.box_format if self.kind == "boxes" else None
        texts = table.column(self.column)
        if texts is None:
            return {findings[0]: [None] * len(table)}
        texts = texts.where(~texts.str.lower().isin(NO_REGION), "")
        return {findings[0]: [_parse(table, row, text, self.size, box_format) for row, text in enumerate(texts)]}


class BoxRows(Settings):
    """A row holds one box of one finding, as in ChestX-ray14's list; four columns hold the box's numbers.

    finding: the column of the finding, by its own name in any case, or as `names` translates it; columns: the box's
    four numbers, in the order of `box_format`.
    """

    kind: Literal["box_rows"]
    finding: Column
    names: dict[str, str] = Field(default_factory=dict)
    columns: tuple[Column, Column, Column, Column]
    size: tuple[PositiveInt, PositiveInt]
    box_format: BoxFormat = "xywh"

    def read(self, table: Table, ids: pd.Series, root: Path, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows; a name or box that makes no sense is a problem."""
        of_text = {finding.lower(): finding for finding in findings} | self.names
        masks: MaskRows = {finding: [None] * len(table) for finding in findings}
        columns = [table.column(column) for column in (self.finding, *self.columns)]
        if any(column is None for column in columns):
            return masks
        for row, (name, *box) in enumerate(zip(*columns, strict=True)):
            finding = of_text.get(name, of_text.get(name.lower()))
            if finding in masks:
                masks[finding][row] = _parse(table, row, ";".join(box), self.size, self.box_format)
            else:
                fix = "say under masks.names which finding it is"
                table.report(row, "bad_region", f"a box of an {unknown_name('finding', name, findings)}: {fix}")
        return masks


class FileMasks(Settings):
    """One mask file an image, its path made of the image's id: "pngs_masks/{}.png".

    With {finding} in the path there is one for each finding that is labelled present.
    """

    kind: Literal["file"]
    path: PathTemplate

    @property
    def by_finding(self) -> bool:
        return FINDING_BLANK in self.path

    def read(self, table: Table, ids: pd.Series, root: Path, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows, by the ids of their images; a file that does not exist is a problem."""
        masks: MaskRows = {finding: [None] * len(table) for finding in findings}
        for finding, present in zip(findings, (labels == PRESENT).T, strict=True):
            path = self.path.replace(FINDING_BLANK, finding)
            for row in np.flatnonzero(present | (not self.by_finding)):
                mask = MaskFile(root / path.replace("{}", ids[row]))
                if mask.path.is_file():
                    masks[finding][row] = mask
                else:
                    table.report(row, "missing_mask", f"mask {mask.path} is missing: check masks.path, and root")
        return masks


def unite(one: Mask | None, other: Mask | None) -> Mask | None:
    """The mask of one finding in one image from two rows, each of which may have none."""
    if one is None or other is None:
        return one or other
    return one | other


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """mask [H, W] -> [size, size], each pixel the one that its centre falls on (nearest)."""
    rows, columns = (((np.arange(size) + 0.5) * length / size).astype(int) for length in mask.shape)
    return mask[np.ix_(rows, columns)]


def _parse(table: Table, row: int, text: str, size: tuple[int, int], box_format: BoxFormat | None) -> Mask | None:
    """The mask that a text describes, boxes with a format and run lengths without.

    A text that describes none, and boxes outside the frame, become problems.
    """
    try:
        mask = BoxMask.parse(text, size, box_format) if box_format else RunLengthMask.parse(text, size)
    except ValueError as error:
        table.report(row, "bad_region", str(error))
        return None
    for box in mask.outside if isinstance(mask, BoxMask) else ():
        problem = f"box {box} ({BOX_FORMATS[box_format]}) in a frame of {size[1]} x {size[0]}"
        table.report(row, "box_outside", problem, tolerated=True)
    return mask


def shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"
