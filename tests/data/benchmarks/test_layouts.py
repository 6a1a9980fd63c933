"""Lists as their publishers write them, and lists that contradict themselves."""

import pytest

from mavl.config.loader import load
from mavl.data.benchmarks.benchmark import Benchmark, BenchmarkError, examine_split, read_split
from tests.support.small_benchmarks import benchmark, problems_of, released, split_of

ROWS = {"labels": {"kind": "mask"}, "masks": {"kind": "box_rows", "finding": "f", "columns": ["x", "y", "w", "h"]}}


def masks_of(split, finding="edema"):
    """For each image None, or the number of pixels of its mask."""
    return [None if mask is None else int(mask.read().sum()) for mask in split.masks[finding]]


def case(shared, name):
    folder = shared(f"cases/{name}")
    return load(Benchmark, folder / "bench.yaml"), folder


def test_kaggles_boxes_of_rsna(shared):
    split = read_split(*case(shared, "boxes_rsna_kaggle")[:1], "test", case(shared, "boxes_rsna_kaggle")[1])
    assert split.labels.tolist() == [[0], [1]]
    assert masks_of(split, "pneumonia") == [0, 213 * 379 + 256 * 453]  # beside each other


def test_a_blank_box_is_none_and_a_name_may_stand_for_no_finding(tmp_path):
    settings = {"findings": ["edema", "mass"], **ROWS}
    settings["masks"] = ROWS["masks"] | {"size": [10, 20], "names": {"Nodule": None, "Tumour": "mass"}}
    text = "image,f,x,y,w,h\na,No finding,,,,\nb,edema,,,,\nb,Tumour,1,1,2,2\nc,nodule,1,1,2,2\nc,edema,nan,,NaN,\n"
    split = split_of(tmp_path, text, **settings)
    assert (masks_of(split, "edema"), masks_of(split, "mass")) == ([0, 0, 0], [0, 4, None])
    assert split.labels.tolist() == [[0, 0], [0, 1], [0, -1]]
    half = problems_of(tmp_path, "image,f,x,y,w,h\na,edema,1,,2,2\nb,lump,1,1,2,2\n", **settings)
    assert half[0] == "test.csv:2: box '1;;2;2' is not four numbers x;y;w;h"
    assert half[1].endswith("say under masks.names which finding it is, or null; or set masks.others to ignore")


def test_corner_boxes_in_frames_of_their_own_sizes(tmp_path):
    masks = ROWS["masks"] | {"size": ["rows", "columns"], "box_format": "xyxy"}
    text = "image,f,x,y,w,h,rows,columns\na,edema,1,2,4,5,10,20\nb,edema,0,-3,2.9,2,4.0,30\n"
    split = split_of(tmp_path, text, **ROWS | {"masks": masks})
    assert [split.mask(i).shape for i in range(2)] == [(10, 20), (4, 30)]
    assert masks_of(split) == [9, 4]
    assert split.mask(1)[:2, :2].all()  # its part above the frame is cut off
    text = "image,f,x,y,w,h,rows,columns\na,edema,1,2,4,5,10,20\na,edema,1,2,4,5,10,30\nb,edema,1,2,4,5,0,9\n"
    text += "c,edema,1,2,4,5,x,9\nd,edema,1,2,4,5,inf,9\ne,edema,1,2,4,5,99999,99999\n"
    found = problems_of(tmp_path, text, **ROWS | {"masks": masks})
    assert found[0] == "test.csv:3: one image has frames of (10, 20) and (10, 30) pixels (H, W)"
    assert "9 x 0 pixels exceed the limits" in found[1]
    assert [line.rpartition(": ")[2] for line in found[2:4]] == [
        "'x x 9' is no height and width",
        "'inf x 9' is no height and width",
    ]
    assert "exceed the limits" in found[4]


def test_nihs_own_list_of_findings(shared):
    listed, folder = case(shared, "labels_pipe_nih")
    with pytest.raises(BenchmarkError, match="labels of kind 'list' read a column that lists findings"):
        read_split(listed, "test", folder)
    labels = {"kind": "list", "column": "Finding Labels"}
    listed = Benchmark.model_validate(listed.model_dump() | {"labels": labels})
    assert read_split(listed, "test", folder).labels.tolist() == [[1, 0], [1, 1], [0, 0]]


def test_cells_that_list_findings(tmp_path):
    labels = {"kind": "list", "column": "f", "separator": ";", "names": {"Healthy": None, "Fluid": "edema"}}
    settings = {"findings": ["edema", "mass"], "labels": labels}
    text = "image,f\na, EDEMA ; mass\nb,fluid;\nc,healthy\nd,\ne,No Finding\n"
    split = split_of(tmp_path, text, **settings)
    assert split.labels.tolist() == [[1, 1], [1, 0], [0, 0], [-1, -1], [0, 0]]
    [found] = problems_of(tmp_path, "image,f\na,mas;edema\n", **settings)
    assert found.startswith("test.csv:2: unknown finding 'mas'; did you mean 'mass'? say under labels.names")
    ignoring = settings | {"labels": labels | {"others": "ignore"}}
    assert split_of(tmp_path, "image,f\na,mas;edema\nb,hernia\n", **ignoring).labels.tolist() == [[1, 0], [0, 0]]


def test_no_finding_may_be_a_finding(tmp_path):
    labels = {"kind": "list", "column": "f", "names": {"No Finding": "normal"}}
    split = split_of(tmp_path, "image,f\na,No finding\nb,edema\n", findings=["normal", "edema"], labels=labels)
    assert split.labels.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match=r"labels\.names: unknown finding 'odema'"):
        benchmark(labels={"kind": "list", "column": "f", "names": {"x": "odema"}})


def test_one_image_in_two_spellings(shared, tmp_path):
    with pytest.raises(BenchmarkError, match=r"test.csv:3: a.png has other labels than in test.csv:2"):
        read_split(*case(shared, "same_image_two_spellings")[:1], "test", shared("cases/same_image_two_spellings"))
    text = "image,edema\na/b.png,1\n.\\a\\b.png,1\na//c/../b.png,1\nc.png,0\n"
    split = split_of(tmp_path, text, images={"path": "films/{}"})
    assert split.paths == [tmp_path / "films/a/b.png", tmp_path / "films/c.png"]
    split = split_of(tmp_path, "image,edema\nD:\\x\\a.png,1\n", images={"strip": "D:/x/"})
    assert split.paths == [tmp_path / "a.png"]


def test_one_image_of_two_patients_is_refused(tmp_path):
    text = "image,edema,patient\na,1,p1\na,1,p2\nb,1,p1\nb,1,p1\n"
    assert problems_of(tmp_path, text, groups={"column": "patient"}) == [
        "test.csv:3: a is of 'p2' here and of 'p1' in test.csv:2"
    ]


def test_repeated_rows_are_said_once(tmp_path, capsys):
    split_of(tmp_path, "image,edema\na,1\na,1\nb,0\nb,0\n", name="said")
    line = "said, test: 2 × repeated_row, such as test.csv:3: a was named in test.csv:2"
    assert capsys.readouterr().err.splitlines() == [line]
    split_of(tmp_path, "image,edema\na,1\na,1\nb,0\nb,0\n", name="said")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["a[1]", "a?", "a*"])
def test_names_of_images_are_no_patterns(tmp_path, name):
    (tmp_path / name).mkdir()
    for film in (f"{name}/x.png", "ab.png"):
        (tmp_path / film).touch()
    split = split_of(tmp_path, f"image,edema\n{name},1\n", images={"path": "{}/*.png"})
    assert split.paths == [tmp_path / name / "x.png"]
    [found] = problems_of(tmp_path, "image,edema\n/../[z],1\n", images={"path": "{}/*.png"})
    assert "no image matches" in found


def test_path_labels_are_no_patterns(tmp_path):
    labels = {"kind": "path", "positive": "(+).", "negative": "[-]"}
    split = split_of(tmp_path, "image\na(+).png\nb[-].png\n", labels=labels)
    assert split.labels.tolist() == [[1], [0]]
    assert len(problems_of(tmp_path, "image\na+.png\nb-.png\n(+).[-]\n", labels=labels)) == 3


SIIM = {"images": {"path": "{}.png"}, "labels": {"kind": "mask"}, "splits": {"test": "a.csv", "train": "b.csv"}}


@pytest.mark.parametrize(("all_lists", "pixels"), [(True, [0, 5]), (False, [0, 2])])
def test_masks_of_one_image_are_united_over_all_lists(tmp_path, all_lists, pixels):
    masks = {"kind": "rle", "column": "m", "size": [4, 3], "all_lists": all_lists}
    (tmp_path / "a.csv").write_text("image,m\nx,-1\ny,0 2\n")
    (tmp_path / "b.csv").write_text("image,m\nz,1 1\n./y,4 2 0 1\ny,1 1\n")
    made = benchmark(**SIIM, masks=masks)
    split = read_split(made, "test", tmp_path)
    assert ([path.name for path in split.paths], masks_of(split)) == (["x.png", "y.png"], pixels)
    assert masks_of(read_split(made, "train", tmp_path)) == [1, 5 if all_lists else 4]


def test_a_missing_list_of_masks_is_said(tmp_path, capsys):
    masks = {"kind": "rle", "column": "m", "size": [4, 3], "all_lists": True}
    (tmp_path / "a.csv").write_text("image,m\nx,-1\n")
    split, [problem] = examine_split(benchmark(**SIIM, masks=masks), "test", tmp_path)
    assert (len(split), problem.tolerated) == (1, True)
    assert str(problem) == "b.csv: the list of train is missing, with masks of images of test: they may be incomplete"
    read_split(benchmark(**SIIM, masks=masks), "test", tmp_path)
    assert "the list of train is missing" in capsys.readouterr().err
    (tmp_path / "b.csv").write_text("image,m\nx,1 x\n")
    with pytest.raises(BenchmarkError, match=r"b.csv:2: run lengths '1 x' are not all whole numbers"):
        read_split(benchmark(**SIIM, masks=masks), "test", tmp_path)


def test_siim_acr_unites_the_rows_of_all_lists(tmp_path):
    for split, cell in (("test", "0 3"), ("val", "5 2"), ("train", "-1")):
        (tmp_path / f"{split}.csv").write_text(f"ImageId,EncodedPixels\n1.2.3,{cell}\n")
    assert masks_of(read_split(released("siim_acr"), "test", tmp_path), "pneumothorax") == [5]


def test_the_header_with_a_blank_of_siim(shared):
    listed, folder = case(shared, "header_with_space_siim")
    split = read_split(listed, "test", folder)
    assert masks_of(split, "pneumothorax") == [0, 16]  # its row that is there twice counts once


def test_chexpert14_asks_what_the_release_asks():
    columns = released("chexpert14").labels.columns
    assert (columns["enlarge"], columns["abnormality"]) == ("Enlarged Cardiomediastinum", "Pleural Other")
