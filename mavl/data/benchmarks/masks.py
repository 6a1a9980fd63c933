"""Where a finding is: run lengths, boxes or mask files, checked when a split is read and painted when asked for.

Every mask has `empty`, `read() -> bool [H, W]`, and `|` for a second part of the same image's mask. H and W are the
frame in which the split file's numbers are given, or the mask file's own; neither need be the image's size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image
from pydantic import Field, PositiveInt

from mavl.config.loader import Settings
from mavl.data.benchmarks.tables import Column, PathTemplate, Table
from mavl.data.images.formats import STORED
from mavl.data.images.grey import ImageError
from mavl.vocab import ABSENT, PRESENT, UNKNOWN, unknown_name

NO_REGION = ("", "-1", "nan")
FINDING_BLANK = "{finding}"


class RegionMasks(Settings):
    """Regions written in a column, in a frame of `size` (H, W) pixels; blank, -1 or nan is none.

    rle: SIIM-ACR's pairs "gap length": pixels counted down the columns, the gap from the end of the previous run.
    boxes: RSNA's "x;y;w;h|x;y;w;h" in pixels, x to the right and y down from the top left corner.
    """

    kind: Literal["rle", "boxes"]
    column: Column
    size: tuple[PositiveInt, PositiveInt]


class BoxRows(Settings):
    """A row holds one box of one finding, as in ChestX-ray14's list; the box's numbers stand in four columns.

    finding: the column that says whose box it is, by the finding's own name in any case, or as `names` translates it;
    columns: x, y, w, h, as in RegionMasks.
    """

    kind: Literal["box_rows"]
    finding: Column
    names: dict[str, str] = Field(default_factory=dict)
    columns: tuple[Column, Column, Column, Column]
    size: tuple[PositiveInt, PositiveInt]


class FileMasks(Settings):
    """One mask file an image, its path made of the image's id: "pngs_masks/{}.png".

    With {finding} in the path there is one for each finding that the image's labels say is present.
    """

    kind: Literal["file"]
    path: PathTemplate

    @property
    def by_finding(self) -> bool:
        return FINDING_BLANK in self.path


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
    """Boxes int64 [n, 4], (left, top, right, bottom) with right and bottom outside, in a frame (H, W)."""

    size: tuple[int, int]
    boxes: np.ndarray

    @classmethod
    def parse(cls, text: str, size: tuple[int, int]) -> Self:
        """Fractions of a pixel are cut off (as the released masks were made), and so is what lies outside the frame."""
        boxes = []
        for box in filter(None, text.split("|")):
            try:
                x, y, w, h = (int(float(number)) for number in box.split(";"))
            except (ValueError, OverflowError):
                raise ValueError(f"box {shorten(box)!r} is not four numbers x;y;w;h") from None
            left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, size[1]), min(y + h, size[0])
            if left >= right or top >= bottom:
                raise ValueError(f"box {box!r} holds no pixel of the {size[0]} x {size[1]} frame: check masks.size")
            boxes.append((left, top, right, bottom))
        return cls(size, np.array(boxes, dtype=np.int64).reshape(-1, 4))

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
                # RGB looks colours of a palette up and leaves transparency out; 16-bit grey would be clipped by it.
                pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damaged files
            raise ImageError(f"{self.path}: the mask cannot be read ({error})") from error
        return np.atleast_3d(pixels).any(axis=-1)


@dataclass(frozen=True)
class DamagedMask(MaskFile):
    """A mask file that could not be read when its image was to be labelled by it."""

    reason: str


Mask = RunLengthMask | BoxMask | MaskFile


def label_by(mask: Mask | None) -> tuple[Mask | None, int]:
    """The mask, and what it says of its finding: UNKNOWN where there is none, or a file that turns out damaged."""
    if mask is None:
        return None, UNKNOWN
    try:
        return mask, ABSENT if mask.empty else PRESENT
    except ImageError as error:
        return DamagedMask(mask.path, str(error)), UNKNOWN


def region_masks(table: Table, settings: RegionMasks) -> list[Mask | None]:
    """The mask of each row; what cannot be parsed is reported to the table."""
    kind = {"rle": RunLengthMask, "boxes": BoxMask}[settings.kind]
    texts = table.column(settings.column)
    masks: list[Mask | None] = [kind.parse("", settings.size)] * len(table)
    for row in np.flatnonzero(~texts.str.lower().isin(NO_REGION)):
        try:
            masks[row] = kind.parse(texts.iat[row], settings.size)
        except ValueError as error:
            table.report(row, str(error))
    return masks


def box_rows(table: Table, settings: BoxRows, findings: Sequence[str]) -> dict[str, list[Mask | None]]:
    """For each finding the mask of each row, None in the rows of others; bad names and boxes are reported."""
    of_text = {finding.lower(): finding for finding in findings} | settings.names
    names, *numbers = table.columns([settings.finding, *settings.columns])
    masks: dict[str, list[Mask | None]] = {finding: [None] * len(table) for finding in findings}
    for row, (name, box) in enumerate(zip(names, zip(*numbers, strict=True), strict=True)):
        finding = of_text.get(name, of_text.get(name.lower()))
        if finding not in masks:
            fix = "say under masks.names which finding it is"
            table.report(row, f"a box of an {unknown_name('finding', name, findings)}: {fix}")
            continue
        try:
            masks[finding][row] = BoxMask.parse(";".join(box), settings.size)
        except ValueError as error:
            table.report(row, str(error))
    return masks


def file_masks(table: Table, settings: FileMasks, ids: Iterable[str], root: Path) -> list[Mask | None]:
    """The mask of each row; files that are not there are reported to the table."""
    masks: list[Mask | None] = [MaskFile(root / settings.path.replace("{}", image)) for image in ids]
    _report_missing(table, masks)
    return masks


def finding_files(
    table: Table, settings: FileMasks, ids: Sequence[str], root: Path, findings: Sequence[str], labels: np.ndarray
) -> dict[str, list[Mask | None]]:
    """For each finding the mask of each row whose label, in labels [n, C], is present; None in the other rows."""
    masks = {}
    for finding, present in zip(findings, (labels == PRESENT).T, strict=True):
        path = settings.path.replace(FINDING_BLANK, finding)
        files = zip(ids, present, strict=True)
        masks[finding] = [MaskFile(root / path.replace("{}", image)) if there else None for image, there in files]
        _report_missing(table, masks[finding])
    return masks


def unite(one: Mask | None, other: Mask | None) -> Mask | None:
    """The mask of what two rows show of one finding in one image."""
    if one is None or other is None:
        return one or other
    return one | other


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """mask [H, W] -> [size, size], each pixel the one that its centre falls on (nearest)."""
    rows, columns = (((np.arange(size) + 0.5) * length / size).astype(int) for length in mask.shape)
    return mask[np.ix_(rows, columns)]


def _report_missing(table: Table, masks: Iterable[MaskFile | None]) -> None:
    for row, mask in enumerate(masks):
        if mask is not None and not mask.path.is_file():
            table.report(row, f"mask {mask.path} is missing: check masks.path, and root")


def shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:40] + "…"
