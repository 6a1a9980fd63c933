"""Polygons and COCO's run lengths, as pixels worked out by hand and against a reference."""

import json

import numpy as np
import pytest

from mavl.data.benchmarks.benchmark import examine_split, read_split
from mavl.data.benchmarks.masks import PolygonMask, parse_coco_runs
from tests.support.small_benchmarks import benchmark, problems_of, split_of


def pixels(text, size=(6, 8), **options):
    return np.argwhere(PolygonMask.parse_polygons(text, size, **options).read()).tolist()


def block(rows, columns):
    return [[row, column] for row in rows for column in columns]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1;1;4;1;4;3;1;3", block([1, 2], [1, 2, 3])),  # corners on the borders of pixels
        ("1;1|4;1|4;3|1;3", block([1, 2], [1, 2, 3])),  # the same as points
        ("1.4;1.6;3.6;1.6;3.6;3.4;1.4;3.4", [[2, 1], [2, 2], [2, 3]]),  # the centres 1.5 … 3.5 and 2.5
        # a triangle under a line that falls from (0, 0.2) to (4, 4.2): at the centre of column c it is at c + 0.7
        ("0;0.2;4;4.2;0;4", [[1, 0], [2, 0], [2, 1], [3, 0], [3, 1], [3, 2]]),
        ("-5;-5;2;-5;2;2;-5;2", block([0, 1], [0, 1])),  # cut at the frame
        ("6;4;20;4;20;20;6;20", block([4, 5], [6, 7])),
        ("0;0;1;0;1;1;0;1|3;3;4;3;4;4;3;4", [[0, 0], [3, 3]]),  # two polygons
        ("2.6;2.6;2.8;2.6;2.7;2.9", [[2, 2]]),  # smaller than a pixel
        # there and back along a line adds nothing
        ("1;1;4;1;4;3;4;5;4;3;1;3", block([1, 2], [1, 2, 3])),
        ("0;0;4;0;4;4;0;4;0;0;1;1;3;1;3;3;1;3;1;1", None),  # a hole by the even-odd rule
    ],
)
def test_pixels_of_a_polygon(text, expected):
    if expected is None:
        expected = [pixel for pixel in block(range(4), range(4)) if pixel not in block([1, 2], [1, 2])]
    assert sorted(pixels(text)) == sorted(expected)


def test_a_diagonal_holds_the_centres_on_its_side():
    # the line y = x goes through the centres of the diagonal's pixels: a centre on a polygon's upper edge is in it
    assert pixels("0;0;2;2;0;2") == [[0, 0], [1, 0], [1, 1]]
    assert pixels("0;0;2;0;2;2") == [[0, 1]]
    low, high = pixels("0;0;6;6;0;6"), pixels("0;0;6;0;6;6")
    assert sorted(low + high) == block(range(6), range(6))  # two polygons that share an edge share no pixel


def test_shares_of_the_frame():
    assert pixels("0.25;0.5;0.5;0.5;0.5;1;0.25;1", unit="fraction") == block([3, 4, 5], [2, 3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1;1;2", "has 3 numbers, not three points"),
        ("1;1|2;2", "has 4 numbers, not three points"),
        ("1;1;2;2;x;3", "is not all numbers"),
        ("1;1;2;2;nan;3", "is not all numbers"),
        ("1;1;2;2;1e300;3", "is not all numbers of a usable size"),
        ("9;9;12;9;12;12", "holds no pixel of the 6 x 8 frame"),
    ],
)
def test_polygons_that_are_none(text, message):
    with pytest.raises(ValueError, match=message):
        PolygonMask.parse_polygons(text, (6, 8))


def compressed(counts):
    """COCO's text of run lengths, after the reference implementation (rleToString of cocoapi's maskApi.c)."""
    letters = []
    for index, count in enumerate(counts):
        value, more = count - counts[index - 2] if index > 2 else count, True
        while more:
            bits, value = value & 0x1F, value >> 5
            more = value != -1 if bits & 0x10 else value != 0
            letters.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(letters)


def test_run_lengths_of_coco_count_down_the_columns():
    # 3 rows, 4 columns: 2 outside, 3 inside (rows 2 of column 0, 0 and 1 of column 1), 4 outside, 3 inside
    expected = [[0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 1]]
    for text in ("2;3;4;3", compressed([2, 3, 4, 3])):
        assert parse_coco_runs(text, (3, 4)).read().astype(int).tolist() == expected
    assert parse_coco_runs("12", (3, 4)).empty
    assert parse_coco_runs("", (3, 4)).empty
    assert parse_coco_runs("0;12", (3, 4)).read().all()


def test_compressed_run_lengths_of_many_masks():
    generator = np.random.default_rng(0)
    for share in (0.01, 0.3, 0.9):
        mask = generator.random((70, 50)) < share
        mask[20:60, 10:40] = share > 0.1
        flat = mask.T.ravel()
        borders = np.flatnonzero(np.diff(np.r_[False, flat, not flat[-1]]))
        counts = np.diff(np.r_[0, borders]).tolist()
        text = compressed(counts)
        assert (parse_coco_runs(text, (70, 50)).read() == mask).all()
        assert (parse_coco_runs(";".join(map(str, counts)), (70, 50)).read() == mask).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2;3;4;2", "are of 11 pixels, not 12: check masks.size"),
        ("2;-3;13", "are of 12 pixels|not those of COCO"),
        ("2;x", "not those of COCO"),
        ("é", "not those of COCO"),
        (compressed([2, 300, 4])[:-2], "are of|not those of COCO"),
    ],
)
def test_run_lengths_that_are_not_coco(text, message):
    with pytest.raises(ValueError, match=message):
        parse_coco_runs(text, (3, 4))


def test_polygons_of_records(tmp_path):
    records = [
        {"file": "a.png", "syms": ["Mass", "Edema"], "polygons": [[[1, 1], [4, 1], [4, 3], [1, 3]], []]},
        {"file": "b.png", "syms": ["Mass", "mass"], "polygons": [[[0, 0], [1, 0], [1, 1]], [[1, 1], [3, 1], [3, 9]]]},
    ]
    (tmp_path / "t.json").write_text(json.dumps(records))
    settings = {
        "findings": ["edema", "mass"],
        "splits": {"test": "t.json"},
        "table": {"format": "json", "explode": ["syms", "polygons"]},
        "labels": {"kind": "rows", "column": "syms"},
        "masks": {"kind": "polygon_rows", "finding": "syms", "column": "polygons", "size": [6, 8]},
    }
    split, problems = examine_split(benchmark(**settings), "test", tmp_path)
    assert split.labels.tolist() == [[1, 1], [0, 1]]
    assert np.argwhere(split.mask(0, "mass")).tolist() == block([1, 2], [1, 2, 3])
    assert split.masks["edema"][0] is None  # present, but without a region
    assert split.mask(1, "mass").shape == (6, 8)
    assert [str(problem) for problem in problems] == ["t.json:2: polygon 1;1|3;1|3;9 … in a frame of 8 x 6"]
    records[0]["polygons"][1] = [[1, 1], [2, 2]]
    (tmp_path / "t.json").write_text(json.dumps(records))
    with pytest.raises(ValueError, match=r"t.json:1: polygon '1;1\|2;2' has 4 numbers, not three points x;y or more"):
        read_split(benchmark(**settings), "test", tmp_path)


def test_run_lengths_of_a_coco_file(tmp_path):
    segmentation = {"size": [3, 4], "counts": compressed([2, 3, 4, 3])}
    document = {
        "categories": [{"id": 1, "name": "Mass"}],
        "images": [{"id": 1, "file_name": "a.png", "height": 3, "width": 4}, {"id": 2, "file_name": "b.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": segmentation}],
    }
    document["images"][1] |= {"height": 5, "width": 5}
    (tmp_path / "t.json").write_text(json.dumps(document))
    masks = {"kind": "coco_rle_rows", "finding": "category", "names": {"": None}, "column": "segmentation.counts"}
    settings = {
        "findings": ["mass"],
        "splits": {"test": "t.json"},
        "table": {"format": "coco"},
        "images": {"column": "file_name"},
        "labels": {"kind": "mask"},
        "masks": masks | {"size": ["height", "width"]},
    }
    split = read_split(benchmark(**settings), "test", tmp_path)
    assert (split.labels.tolist(), int(split.mask(0).sum()), split.mask(1).shape) == ([[1], [0]], 6, (5, 5))


def test_shapes_in_a_column_of_one_finding(tmp_path):
    polygons = {"labels": {"kind": "mask"}, "masks": {"kind": "polygons", "column": "m", "size": [6, 8]}}
    split = split_of(tmp_path, "image,m\na,1;1;4;1;4;3;1;3\nb,-1\na,0;0;1;0;1;1;0;1\n", **polygons)
    assert np.argwhere(split.mask(0)).tolist() == [[0, 0], *block([1, 2], [1, 2, 3])]
    assert split.labels.tolist() == [[1], [0]]
    runs = {"labels": {"kind": "mask"}, "masks": {"kind": "coco_rle", "column": "m", "size": [3, 4]}}
    assert problems_of(tmp_path, "image,m\na,2;3;4;2\n", **runs) == [
        "test.csv:2: run lengths '2;3;4;2' are of 11 pixels, not 12: check masks.size (3, 4)"
    ]
