"""Where the regions of findings come from: run lengths or boxes in columns, a box a row, or mask files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mavl.config.loader import Settings
from mavl.data.benchmarks.labels import Names, name_meanings
from mavl.data.benchmarks.masks import BOX_FORMATS, BoxFormat, BoxMask, Mask, MaskFile, RunLengthMask
from mavl.data.benchmarks.tables import Column, PathTemplate, Table
from mavl.data.images.grey import MAX_SIDE, ImageError, check_size
from mavl.vocab import PRESENT, unknown_name

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
