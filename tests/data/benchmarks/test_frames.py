"""Boxes of each format, unit and frame, as pixels worked out by hand."""

import numpy as np
import pytest
from PIL import Image

from mavl.data.benchmarks.benchmark import examine_split, read_split
from mavl.data.benchmarks.masks import BoxMask
from mavl.data.images.grey import ImageError
from mavl.data.images.read import image_size
from mavl.prepare.doctor.images import inspect_mask
from mavl.prepare.store.tree import StoreSettings, encode
from tests.support.small_benchmarks import benchmark, problems_of, split_of

ROWS = {
    "labels": {"kind": "mask"},
    "masks": {"kind": "box_rows", "finding": "f", "columns": ["a", "b", "c", "d"], "size": [10, 20]},
}


def rows_with(**masks):
    return ROWS | {"masks": ROWS["masks"] | masks}


def corners(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(first column, first row, last column, last row) of a mask that is one box."""
    rows, columns = np.nonzero(mask)
    box = (columns.min(), rows.min(), columns.max(), rows.max())
    assert mask.sum() == (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    return tuple(map(int, box))


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        # 2.6 + 3.6 = 6.2: cut to 2 and 3, the columns 2, 3, 4; the centres 3.5, 4.5, 5.5 lie in it
        ("2.6;0;3.6;1", {}, (2, 0, 4, 0)),
        ("2.6;0;3.6;1", {"edges": "round"}, (3, 0, 5, 0)),
        # corners 2.4 and 6.6: the centres 2.5 … 5.5; of 6.5, which is in it, too
        ("2.4;1;6.6;3", {"box_format": "xyxy", "edges": "round"}, (2, 1, 6, 2)),
        ("2.4;1;6.6;3", {"box_format": "xyxy"}, (2, 1, 5, 2)),
        # a box that touches a centre by its left edge holds it, by its right edge it does not
        ("2.5;0;2;1", {"edges": "round"}, (2, 0, 3, 0)),
        # no centre lies in 2.6 … 3.2, whose middle is 2.9, nor in 3.6 … 4.4, whose middle is 4.0
        ("2.6;0;0.6;1", {"edges": "round"}, (2, 0, 2, 0)),
        ("3.6;0;0.8;1", {"edges": "round"}, (4, 0, 4, 0)),
        # shares of 20 columns and 10 rows: 5 … 15 and 2 … 5
        ("0.25;0.2;0.75;0.5", {"box_format": "xyxy", "unit": "fraction"}, (5, 2, 14, 4)),
        ("0.25;0.2;0.5;0.3", {"unit": "fraction"}, (5, 2, 14, 4)),
        ("0;0;1;1", {"unit": "fraction"}, (0, 0, 19, 9)),
        # cut at the frame
        ("-3;-0.2;5.2;3", {"edges": "round"}, (0, 0, 1, 2)),
        ("19.8;9.9;30;30", {"box_format": "xyxy", "edges": "round"}, (19, 9, 19, 9)),
    ],
)
def test_pixels_of_a_box(text, options, expected):
    assert corners(BoxMask.parse(text, (10, 20), **options).read()) == expected


@pytest.mark.parametrize(
    "text", ["20;0;1;1", "3;3;0;1", "5;5;4;9", "nan;0;1;1", "0;0;inf;1", "1;2;3", "1;2;3;4;5", "0;0;1e999;1"]
)
@pytest.mark.parametrize("edges", ["cut", "round"])
def test_boxes_without_pixels_or_numbers(text, edges):
    with pytest.raises(ValueError, match=r"holds no pixel|is not four numbers x1;y1;x2;y2"):
        BoxMask.parse(text, (10, 20), "xyxy", edges=edges)


def test_a_frame_of_the_size_of_each_image(tmp_path):
    for name, size in (("a.png", (8, 4)), ("b.png", (4, 8))):
        Image.new("L", size).save(tmp_path / name)
    text = "image,f,a,b,c,d\na.png,edema,1,1,3,2\nb.png,edema,0.5,0,1,9\nc.png,No finding,,,,\na.png,edema,7,3,1,1\n"
    split = split_of(tmp_path, text, **rows_with(size="image"))
    assert split.labels.tolist() == [[1], [1], [0]]
    assert [split.mask(i).shape for i in range(3)] == [(4, 8), (8, 4), (1, 1)]  # c.png is not opened
    assert np.argwhere(split.mask(0)).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3], [3, 7]]
    assert corners(split.mask(1)) == (0, 0, 0, 7)
    assert examine_split(benchmark(**rows_with(size="image")), "test", tmp_path)[1] == []
    found = problems_of(tmp_path, "image,f,a,b,c,d\na.png,edema,8,0,1,1\n", **rows_with(size="image"))
    assert found == ["test.csv:2: box '8;0;1;1' holds no pixel of the 4 x 8 frame: check masks.size"]


def test_an_image_that_cannot_be_read_has_no_frame(tmp_path):
    text = "image,f,a,b,c,d\nlost.png,edema,1,1,3,2\nb.png,no finding,,,,\n"
    (tmp_path / "test.csv").write_text(text)
    split, [problem] = examine_split(benchmark(**rows_with(size="image")), "test", tmp_path)
    assert (split.masks["edema"][0], problem.kind, problem.tolerated, problem.line) == (None, "bad_region", True, 2)
    assert str(problem).startswith("test.csv:2: no frame for its regions: ")
    assert read_split(benchmark(**rows_with(size="image")), "test", tmp_path).labels.tolist() == [[-1], [0]]


def test_a_blank_box_may_be_united_with_one_of_a_known_frame(tmp_path):
    Image.new("L", (8, 4)).save(tmp_path / "a.png")
    text = "image,f,a,b,c,d\na.png,edema,,,,\na.png,edema,1,1,3,2\na.png,edema,,,,\n"
    split = split_of(tmp_path, text, **rows_with(size="image"))
    assert corners(split.mask(0)) == (1, 1, 3, 2)
    facts = inspect_mask(split.masks["edema"][0])
    assert (facts.size, facts.empty, facts.full) == ((8, 4), False, False)


def test_one_column_may_hold_all_numbers(tmp_path):
    masks = {"columns": ["box"], "box_format": "xyxy", "unit": "fraction"}
    text = "image,f,box\na,edema,0;0;0.5;0.1|0.5;0.9;1;1\nb,edema,\nc,edema,0;0;0.5\n"
    with pytest.raises(ValueError, match=r"test.csv:4: box '0;0;0.5' is not four numbers x1;y1;x2;y2"):
        split_of(tmp_path, text, **rows_with(**masks))
    split = split_of(tmp_path, text.replace("0;0;0.5\n", "0;0;.5;1\n"), **rows_with(**masks))
    assert [int(split.mask(i).sum()) for i in range(3)] == [20, 0, 100]


def test_a_finding_that_is_present_without_a_box_has_no_region(tmp_path):
    """Of a finding that the labels say is there a blank box is not the news that it is absent."""
    settings = rows_with(columns=["box"]) | {"labels": {"kind": "columns", "columns": {"edema": "y"}}}
    split = split_of(tmp_path, "image,f,box,y\na,edema,,1\nb,edema,,0\nc,edema,,\n", **settings)
    assert [None if mask is None else mask.empty for mask in split.masks["edema"]] == [None, True, True]


@pytest.mark.parametrize("suffix", ["jpg", "tif", "png"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_of_an_image_is_that_of_the_upright_one(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("L", (9, 5)).save(tmp_path / f"a.{suffix}", exif=exif)
    assert image_size(tmp_path / f"a.{suffix}") == ((5, 9) if orientation > 4 else (9, 5))


def test_a_stored_image_has_no_size_of_its_own(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(Image.new("L", (9, 9)), StoreSettings()))
    with pytest.raises(ImageError, match=r"a.png: a JPEG of an image store, .* use the original"):
        image_size(tmp_path / "a.png")
