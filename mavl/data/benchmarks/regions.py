"""Where the regions of findings come from: run lengths or boxes in columns, a box a row, or mask files."""

import os
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from mavl.config.loader import Settings
from mavl.data.benchmarks.images import ImageRows
from mavl.data.benchmarks.labels import Names, Others, name_meanings
from mavl.data.benchmarks.masks import (
    BOX_FORMATS,
    BoxFormat,
    BoxMask,
    Edges,
    Mask,
    MaskFile,
    PolygonMask,
    RunLengthMask,
    Unit,
    parse_coco_runs,
)
from mavl.data.benchmarks.tables import Column, PathTemplate, Table
from mavl.data.images.grey import MAX_SIDE, ImageError, check_size
from mavl.data.images.read import image_size
from mavl.vocab import PRESENT, unknown_name

MaskRows = dict[str, list[Mask | None]]
"""For each finding the mask of each row, None where there is none."""


Form = Literal["rle", "boxes", "polygons", "coco_rle"]
"""How the text of a region is written."""

Side = Annotated[int, Field(gt=0, le=MAX_SIDE)]

FrameSize = tuple[Side, Side] | tuple[str, str] | tuple[str] | Literal["image"]
"""Height and width of a frame in pixels, or the column or columns that hold them; image: the image file's own."""


class Regions(Settings):
    """How the numbers of regions are written.

    size: of their frame, height and width in pixels, [1024, 1024], or the columns that hold them, or the one column
    that holds both, "1024;1024"; image: the size of the image file. box_format: xywh is a box by its upper left corner,
    width and height; xyxy by two corners. unit: of boxes and polygons, pixels or fraction (of the frame's width and
    height). edges: cut covers the columns x to x + w - 1 of a box after the fractions of all numbers are cut off, as in
    the released masks; round covers the pixels whose centres lie in the box, as `fraction` always does.
    """

    size: FrameSize
    box_format: BoxFormat = "xywh"
    unit: Unit = "pixels"
    edges: Edges = "cut"

    def parse(self, rows: ImageRows, texts: Sequence[str], form: Form) -> list[Mask | None]:
        """The masks that the texts of rows describe; None, with a problem, for a text that describes none."""
        sizes = self._sizes(rows, texts)
        return [
            None if size is None else self._mask(rows.table, row, text, size, form)
            for row, (text, size) in enumerate(zip(texts, sizes, strict=True))
        ]

    def _mask(self, table: Table, row: int, text: str, size: tuple[int, int], form: Form) -> Mask | None:
        """One mask; boxes and polygons partly outside the frame are tolerated problems."""
        try:
            if form == "rle":
                return RunLengthMask.parse(text, size)
            if form == "coco_rle":
                return parse_coco_runs(text, size)
            if form == "polygons":
                mask = PolygonMask.parse_polygons(text, size, self.unit)
            else:
                mask = BoxMask.parse(text, size, self.box_format, self.unit, self.edges)
        except ValueError as error:
            table.report(row, "bad_region", str(error))
            return None
        kind = f"box {{}} ({BOX_FORMATS[self.box_format]})" if form == "boxes" else "polygon {} …"
        for region in mask.outside:
            problem = f"{kind.format(region)} in a frame of {size[1]} x {size[0]}"
            table.report(row, "box_outside", problem, tolerated=True)
        return mask

    def _sizes(self, rows: ImageRows, texts: Sequence[str]) -> Sequence[tuple[int, int] | None]:
        """The size of the frame of each row; None, with a problem, where there is none."""
        if self.size == "image":
            return _image_sizes(rows, texts)
        if len(self.size) == 2 and isinstance(self.size[0], int):
            return [(int(self.size[0]), int(self.size[1]))] * len(rows)
        columns = [rows.table.column(column) for column in self.size]
        if not all(columns):
            return [None] * len(rows)
        sizes = []
        for row, cells in enumerate(zip(*columns, strict=True)):
            cells = cells[0].split(";") if len(cells) == 1 else cells
            try:
                height, width = (int(float(cell)) for cell in cells)
                check_size(width, height)
                sizes.append((height, width))
            except (ValueError, OverflowError) as error:
                fault = error if isinstance(error, ImageError) else f"{' x '.join(cells)!r} is no height and width"
                text = f"the frame in the columns {', '.join(map(str, self.size))}: {fault}"
                rows.table.report(row, "bad_region", text)
                sizes.append(None)
        return sizes


def _image_sizes(rows: ImageRows, texts: Sequence[str]) -> list[tuple[int, int] | None]:
    """The size of each row's image file, read where there is a region; of an image that cannot be read None.

    The frame of nothing is one pixel. An image that cannot be read is a tolerated problem: whoever reads it refuses it.
    """
    first = {name: row for row, (name, text) in reversed(list(enumerate(zip(rows.names, texts, strict=True)))) if text}
    sizes: dict[str, tuple[int, int] | None] = {}
    for name, row in first.items():
        try:
            width, height = image_size(rows.root / name)
            sizes[name] = (height, width)
        except ImageError as error:
            sizes[name] = None
            rows.table.report(row, "bad_region", f"no frame for its regions: {error}", tolerated=True)
    return [sizes[name] if text else (1, 1) for name, text in zip(rows.names, texts, strict=True)]


class RegionMasks(Regions):
    """Regions written in a column; blank, -1 or nan is none.

    rle: SIIM-ACR's pairs "gap length": pixels counted down the columns, the gap from the end of the previous run.
    boxes: RSNA's "x;y;w;h|x;y;w;h", from the top left corner, or with `box_format` xyxy two corners "x1;y1;x2;y2".
    polygons: "x;y;x;y;x;y|…", which cover the pixels whose centres lie in them. coco_rle: COCO's run lengths, as
    numbers "5;3;4" or compressed. all_lists: the mask of an image is the union of its rows in the lists of all splits.
    """

    kind: Form
    column: Column
    all_lists: bool = False

    def read(self, rows: ImageRows, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows; a text that describes none is a problem."""
        texts = ["" if text.lower() in ("-1", "nan") else text for text in rows.table.column(self.column)]
        return {findings[0]: self.parse(rows, texts, self.kind) if texts else [None] * len(rows)}


class FindingRows(Regions):
    """A row holds the region of one finding, or says by a blank one that there is none.

    finding: the column of the finding, in any case or as `names` translates it, to null where it is not among the
    benchmark's; with `separator` of several findings. others: null for every other text. A blank region with another
    text, such as "No finding", is of all findings; where the labels say that the finding is present, a blank region
    means that it is not known.
    """

    finding: Column
    names: Names = Field(default_factory=dict)
    separator: Annotated[str, Field(min_length=1)] | None = None
    others: Others = "refuse"

    def place(
        self, rows: ImageRows, findings: Sequence[str], labels: np.ndarray, texts: Sequence[str], form: Form
    ) -> MaskRows:
        """The masks of the rows, "" for a blank one; an unknown name or a region outside the frame is a problem."""
        of_text = name_meanings(findings, self.names)
        masks: MaskRows = {finding: [None] * len(rows) for finding in findings}
        cells = rows.table.column(self.finding)
        if not cells or not texts:
            return masks  # a column that does not exist is a problem already
        named = [[name.strip() for name in cell.split(self.separator)] if self.separator else [cell] for cell in cells]
        asked = [[of for name in of_row if (of := of_text.get(name.lower()))] for of_row in named]
        known = [text if of_row else "" for of_row, text in zip(asked, texts, strict=True)]
        for row, (of_row, text, mask) in enumerate(zip(asked, texts, self.parse(rows, known, form), strict=True)):
            if not text:
                for absent in of_row or findings:
                    if labels[row, findings.index(absent)] != PRESENT:
                        masks[absent][row] = mask
            for finding in of_row if text else ():
                masks[finding][row] = mask
            for name in named[row] if text and self.others == "refuse" else ():
                if name.lower() not in of_text:
                    fix = "say under masks.names which finding it is, or null; or set masks.others to ignore"
                    text = f"a region of an {unknown_name('finding', name, findings)}: {fix}"
                    rows.table.report(row, "bad_region", text)
        return masks


class BoxRows(FindingRows):
    """Of box_rows the region is a box, as in ChestX-ray14's list.

    columns: the four numbers of `box_format`, or the one column that holds them, "x;y;w;h", of one or, with | between
    them, several boxes.
    """

    kind: Literal["box_rows"]
    columns: tuple[Column, Column, Column, Column] | tuple[Column]

    def read(self, rows: ImageRows, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows, by `place`."""
        columns = [rows.table.column(column) for column in self.columns]
        cells = zip(*columns, strict=True) if all(columns) else ()
        boxes = [";".join(box) if any(map(_is_filled, box)) else "" for box in cells]
        return self.place(rows, findings, labels, boxes, "boxes")


class ShapeRows(FindingRows):
    """Of polygon_rows and coco_rle_rows the region is in one `column`, as polygons and coco_rle are."""

    kind: Literal["polygon_rows", "coco_rle_rows"]
    column: Column

    def read(self, rows: ImageRows, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows, by `place`."""
        form = "polygons" if self.kind == "polygon_rows" else "coco_rle"
        return self.place(rows, findings, labels, rows.table.column(self.column), form)


def _is_filled(number: str) -> bool:
    return number.lower() not in ("", "nan")


class FileMasks(Settings):
    """A mask file for each image's id, "masks/{}.png", or with {finding} for each finding that is labelled present."""

    kind: Literal["file"]
    path: PathTemplate

    @property
    def by_finding(self) -> bool:
        return "{finding}" in self.path

    def read(self, rows: ImageRows, findings: Sequence[str], labels: np.ndarray) -> MaskRows:
        """The masks of the rows, by the ids of their images; a file that does not exist is a problem."""
        masks: MaskRows = {finding: [None] * len(rows) for finding in findings}
        for column, finding in enumerate(findings):
            path = self.path.replace("{finding}", finding)
            for row, image in enumerate(rows.ids):
                if self.by_finding and labels[row, column] != PRESENT:
                    continue
                mask = MaskFile(rows.root / path.replace("{}", image))
                if os.path.isfile(mask.path):  # of a name that is too long Path's own would raise
                    masks[finding][row] = mask
                else:
                    rows.table.report(row, "missing_mask", f"mask {mask.path} is missing: check masks.path, and root")
        return masks
