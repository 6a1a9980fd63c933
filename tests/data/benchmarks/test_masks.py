"""Masks of a benchmark: runs, boxes, rows of boxes, files."""

import re

import numpy as np
import pytest
from PIL import Image

from mavl.data import DataError
from mavl.data.benchmarks.benchmark import examine_split, read_split
from mavl.data.benchmarks.masks import BoxMask, MaskFile, RunLengthMask, resize_mask
from mavl.data.images.grey import ImageError
from mavl.prepare.store.tree import StoreSettings, encode
from tests.support.small_benchmarks import benchmark, positives, problems_of, released, split_of

RLE = {"labels": {"kind": "mask"}, "masks": {"kind": "rle", "column": "mask", "size": [4, 3]}}
BOXES = {"labels": {"kind": "mask"}, "masks": {"kind": "boxes", "column": "mask", "size": [4, 6]}}


def test_runs_in_a_small_frame():
    # 4 rows, 3 columns: pixels 3 and 4 end the first column and begin the second; 5 + 4 = 9 is row 1 of the third.
    expected = [[0, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert RunLengthMask.parse(" 3 2 4 1", (4, 3)).read().astype(int).tolist() == expected


@pytest.mark.parametrize(
    ("text", "pixels"),
    [("", []), ("0 1", [0]), ("0 2 0 2", [0, 1, 2, 3]), ("3 0 0 1", [3]), ("11 1", [11]), ("0 12", range(12))],
)
def test_gaps_and_runs_of_no_pixels(text, pixels):
    assert np.flatnonzero(RunLengthMask.parse(text, (4, 3)).read().T).tolist() == list(pixels)


@pytest.mark.parametrize(
    "text", [f"{2**63 - 1} 5", f"1 {2**63 - 1} 1 {2**63 - 1}", f"{2**62} {2**62} {2**62} {2**62}", "13 0", f"{2**64} 1"]
)
def test_run_lengths_that_would_overflow(text):
    with pytest.raises(ValueError, match=r"more than the 12 pixels|not all whole numbers"):
        RunLengthMask.parse(text, (4, 3))


def test_rows_of_one_image_are_united(tmp_path):
    split = split_of(tmp_path, "image,mask\na, -1\nb, 3 2\nc,-1\nb, 9 1\n", **RLE)
    assert split.labels[:, 0].tolist() == [0, 1, 0]
    assert np.argwhere(split.mask(1)).tolist() == [[0, 1], [1, 2], [3, 0]]
    assert split.mask(0).shape == (4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3 2 4", "are 3 numbers, not pairs"),
        ("3 x", "'3 x' are not all whole numbers"),
        ("3 -2", "hold the negative number -2"),
        ("3 2 4 4", "runs end at pixel 13 of 12: check masks.size (4, 3)"),
    ],
)
def test_malformed_runs(tmp_path, text, message):
    (found,) = problems_of(tmp_path, f"image,mask\na,-1\nb,{text}\n", **RLE)
    assert found.startswith("test.csv:3: ")
    assert message in found


def test_boxes_are_cut_at_the_frame_and_united():
    mask = BoxMask.parse("-1.0;1.9;3.0;2.0|4;3;9;9", (4, 6)).read()
    assert np.argwhere(mask).tolist() == [[1, 0], [1, 1], [2, 0], [2, 1], [3, 4], [3, 5]]


def test_a_box_that_starts_above_or_left_of_the_frame():
    above = BoxMask.parse("2;-2;2;3", (4, 6))
    assert np.argwhere(above.read()).tolist() == [[0, 2], [0, 3]]
    assert above.outside == ("2;-2;2;3",)
    left = BoxMask.parse("-2;1;3;1", (4, 6))
    assert np.argwhere(left.read()).tolist() == [[1, 0]]
    assert left.outside == ("-2;1;3;1",)
    assert BoxMask.parse("-1;-1;8;6", (4, 6)).outside == ()  # a pixel on each side is rounding
    for text in ("0;-3;2;3", "-2;0;2;1", "0;4;1;1", "6;0;1;1", "1e300;0;1;1"):
        with pytest.raises(ValueError, match="holds no pixel"):
            BoxMask.parse(text, (4, 6))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1;1;2", "'1;1;2' is not four numbers x;y;w;h"),
        ("1;1;2;two", "is not four numbers"),
        ("1;1;2;inf", "is not four numbers"),
        ("1;1;2;0", "holds no pixel of the 4 x 6 frame"),
        ("6;1;2;2", "holds no pixel"),
    ],
)
def test_malformed_boxes(tmp_path, text, message):
    (found,) = problems_of(tmp_path, f"image,mask\na,\nb,0;0;1;1|{text}\n", **BOXES)
    assert found.startswith("test.csv:3: box ")
    assert message in found


def test_boxes_that_are_cut_at_the_frame_are_tolerated_problems(tmp_path):
    (tmp_path / "test.csv").write_text("image,mask\na,-1;0;3;3\nb,-2;0;3;3|1;1;1;1\nc,4;2;3;4\nd,4;2;4;2\n")
    split, problems = examine_split(benchmark(**BOXES), "test", tmp_path)
    assert [(problem.kind, problem.tolerated, str(problem)) for problem in problems] == [
        ("box_outside", True, f"test.csv:{line}: box {box} (x;y;w;h) in a frame of 6 x 4")
        for line, box in ((3, "-2;0;3;3"), (4, "4;2;3;4"), (5, "4;2;4;2"))
    ]
    assert split.labels.tolist() == [[-1]] * 4  # the masks are not read
    assert split_of(tmp_path, (tmp_path / "test.csv").read_text(), **BOXES).labels.tolist() == [[1]] * 4


ROWS = {
    "findings": ["edema", "mass"],
    "labels": {"kind": "mask"},
    "masks": {
        "kind": "box_rows",
        "finding": "finding",
        "names": {"Tumour": "mass"},
        "columns": ["x", "y", "w", "h"],
        "size": [4, 6],
    },
}


def test_a_row_holds_one_box_of_one_finding(tmp_path):
    text = "image,finding,x,y,w,h\na,Edema,0,0,1,1\nb,Tumour,4.9,1,1,2\na,mass,1,0,9,1\na,EDEMA,2,3,1,1\n"
    split = split_of(tmp_path, text, **ROWS)
    assert split.labels.tolist() == [[1, 1], [-1, 1]]  # of edema in b the list says nothing
    assert split.rows == ["test.csv:2", "test.csv:3"]
    assert np.argwhere(split.mask(0, "edema")).tolist() == [[0, 0], [3, 2]]
    assert np.argwhere(split.mask(0, "mass")).tolist() == [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]
    assert np.argwhere(split.mask(1, "mass")).tolist() == [[1, 4], [2, 4]]
    with pytest.raises(DataError, match=r"test.csv:3: .*b has no mask of edema"):
        split.mask(1, "edema")
    fewer = split.select(["mass"]).without({0})
    assert (fewer.labels.tolist(), list(fewer.masks)) == ([[1]], ["mass"])
    assert fewer.mask(0).sum() == 2


def test_boxes_of_unknown_findings_and_bad_numbers_are_all_reported(tmp_path):
    text = "image,finding,x,y,w,h\na,Oedema,0,0,1,1\nb,mass,6,0,1,1\nc,mass,0,0,,1\nd,mass,0,0,1,1\n"
    unknown, outside, blank = problems_of(tmp_path, text, **ROWS)
    assert unknown.startswith("test.csv:2: a region of an unknown finding 'Oedema'; did you mean 'edema'?")
    assert outside.startswith("test.csv:3: box '6;0;1;1' holds no pixel of the 4 x 6 frame")
    assert blank.startswith("test.csv:4: box '0;0;;1' is not four numbers")


def test_chestxray14_boxes_in_the_official_list(tmp_path):
    (tmp_path / "images_002/images").mkdir(parents=True)
    (tmp_path / "images_002/images/00013118_008.png").touch()
    heading = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    row = "00013118_008.png,Atelectasis,225.084745762712,547.019216763771,86.7796610169492,79.1864406779661,,,\n"
    (tmp_path / "BBox_List_2017.csv").write_text(heading + row)
    split = read_split(released("chestxray14_boxes"), "test", tmp_path)
    assert split.paths == [tmp_path / "images_002/images/00013118_008.png"]
    assert split.groups == ["13118"]
    assert dict(zip(split.findings, split.labels[0].tolist(), strict=True))["atelectasis"] == 1
    mask = split.mask(0, "atelectasis")
    assert mask[547:626, 225:311].all()
    assert mask.sum() == 79 * 86


def test_nih_sample_boxes(shared):
    split = read_split(released("nih_sample_boxes"), "test", shared("data/nih"))
    counts = {"cardiomegaly": 1, "effusion": 1, "infiltrate": 1, "mass": 1, "pneumonia": 29, "pneumothorax": 1}
    assert (len(split), positives(split)) == (30, counts)
    box = split.mask(0, "cardiomegaly")  # 168.9,254.8,208.8,201.8
    assert (box.shape, box.sum()) == ((512, 512), 208 * 201)
    assert box[254:455, 168:376].all()


def test_mask_files_of_several_findings(tmp_path):
    settings = {"findings": ["edema", "mass"], "masks": {"kind": "file", "path": "masks/{finding}/{}.png"}}
    for finding, image in (("edema", "a"), ("mass", "a"), ("mass", "b")):
        (tmp_path / "masks" / finding).mkdir(parents=True, exist_ok=True)
        pixels = np.array([[finding == "edema", True]])
        Image.fromarray(pixels).save(tmp_path / f"masks/{finding}/{image}.png")
    split = split_of(tmp_path, "image,edema,mass\na,1,1\nb,0,1\nc,,0\n", **settings)
    assert split.mask(0, "edema").tolist() == [[True, True]]
    assert split.mask(0, "mass").tolist() == split.mask(1, "mass").tolist() == [[False, True]]
    assert split.masks["edema"][1:] == [None, None]
    (found,) = problems_of(tmp_path, "image,edema,mass\na,1,1\nb,1,1\n", **settings)
    assert re.match(r"test.csv:3: mask .*masks/edema/b.png is missing", found)


def test_masks_are_shrunk_to_the_pixels_that_centres_fall_on():
    mask = np.zeros((4, 9), bool)
    mask[1, 4] = mask[3, 0] = True
    # 4 rows to 2: the centres lie on rows 1 and 3; 9 columns to 2: on 2.25 and 6.75; to 3: on 1.5, 4.5, 7.5.
    assert not resize_mask(mask, 2).any()
    assert resize_mask(mask[:3], 3).astype(int).tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert resize_mask(mask[3:, :6], 1, 3).tolist() == [[False, False, False]]  # on 1, 3 and 5
    assert resize_mask(np.eye(2, dtype=bool), 4).astype(int).tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2


def test_masks_are_shrunk_as_the_release_does(shared):
    goldens = np.load(shared("goldens/mask224.npz"))
    moved = 0
    for box, packed in zip(goldens["boxes"].tolist(), goldens["masks"], strict=True):
        mask = BoxMask.parse(";".join(map(str, box)), (1024, 1024)).read()
        expected = np.unpackbits(packed).reshape(224, 224).astype(bool)
        np.testing.assert_array_equal(resize_mask(mask, 224, centred=False), expected)
        moved += (resize_mask(mask, 224) != expected).sum()
    assert moved > 100


def test_half_a_pixel_between_the_two_ways_of_shrinking():
    mask = np.arange(1024)[None] >= 512  # of 224 pixels, number 112 begins at 512.0 and has its centre on 514.3
    edge = np.zeros((1, 1024), bool)
    edge[:, 512:514] = True
    assert resize_mask(mask, 1, 224).sum() == resize_mask(mask, 1, 224, centred=False).sum() == 112
    assert (resize_mask(edge, 1, 224).sum(), resize_mask(edge, 1, 224, centred=False).sum()) == (0, 1)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGBA"])
def test_mask_files_of_every_mode(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray(np.array([[0, 0, 300]], np.uint16))
    else:
        image = Image.fromarray(np.array([[0, 0, 255]], np.uint8)).convert("RGB").convert(mode)
    image.save(tmp_path / "mask.png")
    mask = MaskFile(tmp_path / "mask.png")
    assert mask.read().tolist() == [[False, False, True]]
    assert not mask.empty


def test_a_mask_that_was_stored_as_an_image_is_refused(tmp_path):
    """Compression has changed it: pixels around its border would count."""
    (tmp_path / "mask.png").write_bytes(encode(Image.new("L", (9, 9)), StoreSettings()))
    with pytest.raises(ImageError, match=r"mask.png: .*a JPEG of an image store; make the store of the config"):
        MaskFile(tmp_path / "mask.png").read()


def test_missing_mask_files_are_all_named(tmp_path):
    settings = {"labels": {"kind": "mask"}, "masks": {"kind": "file", "path": "masks/{}.png"}}
    found = problems_of(tmp_path, "image\na\nb\n", **settings)
    assert len(found) == 2
    assert re.match(r"test.csv:3: mask .*masks/b.png is missing: check masks.path", found[1])
