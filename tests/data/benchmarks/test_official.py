"""Benchmarks read from files in their publishers' layouts: images, labels, boxes and masks as worked out by hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mavl.data.benchmarks.benchmark import examine_split, read_split
from tests.support.dicom_files import write_dicom
from tests.support.small_benchmarks import covered, names, positives, present, refused, released

DET10 = [
    {"file_name": "1.png", "syms": [], "boxes": []},
    {"file_name": "2.png", "syms": ["Effusion", "Nodule", "Effusion"]},
]
DET10[1]["boxes"] = [[799, 666, 937, 761], [339, 575, 386, 625], [0, 0, 10, 20]]


def test_chestx_det10(tmp_path):
    (tmp_path / "test.json").write_text(json.dumps(DET10))
    (tmp_path / "train.json").write_text(json.dumps(DET10[:1]))
    split = read_split(released("chestxdet10"), "test", tmp_path)
    assert names(split, tmp_path) == ["test_data/1.png", "test_data/2.png"]
    assert present(split) == [[], ["effusion", "nodule"]]
    assert (split.labels >= 0).all()
    assert split.mask(1, "effusion").shape == (1024, 1024)
    assert split.mask(1, "effusion")[666:761, 799:937].all()
    assert covered(split, 1, "effusion")[0] == 138 * 95 + 10 * 20
    assert covered(split, 1, "nodule") == (47 * 50, 575, 339, 624, 385)
    assert not split.mask(0, "mass").any()
    assert split.masks["mass"][1] is None
    train = read_split(released("chestxdet10"), "train", tmp_path)
    assert names(train, tmp_path) == ["train_data/1.png"]


def test_broken_records_of_chestx_det10(tmp_path):
    broken = [*DET10, {"file_name": "3.png", "syms": ["Masss"], "boxes": [[1, 1, 2, 2]]}]
    broken += [{"file_name": "4.png", "syms": ["Mass", "Mass"], "boxes": [[5, 5, 4, 9], [1, 2, 3]]}]
    (tmp_path / "test.json").write_text(json.dumps(broken))
    label, box, corners, numbers = refused("chestxdet10", tmp_path)
    assert label.startswith("test.json:3: unknown finding 'Masss'; did you mean 'mass'? say under labels.names")
    assert box.startswith("test.json:3: a region of an unknown finding 'Masss'")
    assert corners == "test.json:4: box '5;5;4;9' holds no pixel of the 1024 x 1024 frame: check masks.size"
    assert numbers == "test.json:4: box '1;2;3' is not four numbers x1;y1;x2;y2"
    (tmp_path / "test.json").write_text(json.dumps([{"file_name": "3.png", "syms": ["Mass"], "boxes": []}]))
    assert refused("chestxdet10", tmp_path) == [
        "test.json:1: table.explode: lists of several lengths: syms has 1, boxes has 0"
    ]


def test_chestx_det(tmp_path):
    records = [
        {"file_name": "1.png", "syms": [], "boxes": [], "polygons": []},
        {"file_name": "2.png", "syms": ["Pleural Thickening"], "boxes": [[10, 20, 14, 23]]},
    ]
    records[1]["polygons"] = [[[10, 20], [14, 20], [14, 23], [10, 23], [10, 20]]]
    (tmp_path / "ChestX_Det_test.json").write_text(json.dumps(records))
    split = read_split(released("chestxdet"), "test", tmp_path)
    assert (names(split, tmp_path), present(split)) == (["test_data/1.png", "test_data/2.png"], [[], ["thicken"]])
    assert (split.mask(1, "thicken").shape, covered(split, 1, "thicken")) == ((1024, 1024), (12, 20, 10, 22, 13))
    assert not split.mask(0, "diffuse nodule").any()
    records[1]["polygons"] = [[[10, 20], [14, 20]]]
    (tmp_path / "ChestX_Det_test.json").write_text(json.dumps(records))
    [found] = refused("chestxdet", tmp_path)
    assert found == "ChestX_Det_test.json:2: polygon '10;20|14;20' has 4 numbers, not three points x;y or more"


VINDR = released("vindr_cxr").labels.columns


def vindr(root, boxes):
    labels = ["image_id," + ",".join(VINDR.values()) + ",No finding"]
    for image, found in (("a", ("Cardiomegaly", "Pneumonia", "Nodule/Mass")), ("b", ()), ("c", ("ILD",))):
        labels.append(",".join([image, *(str(int(name in found)) for name in VINDR.values()), "0"]))
    (root / "annotations").mkdir()
    (root / "annotations/image_labels_test.csv").write_text("\n".join(labels))
    (root / "annotations/annotations_test.csv").write_text(f"image_id,class_name,x_min,y_min,x_max,y_max\n{boxes}")
    (root / "test").mkdir()
    write_dicom(root / "test/a.dicom", np.zeros((30, 40), np.uint8))
    write_dicom(root / "test/c.dicom", np.zeros((50, 20), np.uint8))


def test_vindr_cxr(tmp_path):
    # 2.5 … 6.4: the centres 2.5, 3.5, 4.5 and 5.5; 1.6 … 3.5: the centre 2.5
    boxes = "a,Cardiomegaly,2.5,1.6,6.4,3.5\na,Nodule/Mass,1,1,2,2\na,Cardiomegaly,0,0,1,1\nb,No finding,,,,\n"
    vindr(tmp_path, boxes + "c,ILD,10,40,20.4,50.0\n")
    split = read_split(released("vindr_cxr"), "test", tmp_path)
    assert names(split, tmp_path) == ["test/a.dicom", "test/b.dicom", "test/c.dicom"]
    assert present(split) == [["cardiomegaly", "nodule or mass", "pneumonia"], [], ["interstitial lung disease"]]
    assert split.mask(0, "cardiomegaly").shape == (30, 40)
    assert np.argwhere(split.mask(0, "cardiomegaly")).tolist() == [[0, 0], [2, 2], [2, 3], [2, 4], [2, 5]]
    assert covered(split, 2, "interstitial lung disease") == (100, 40, 10, 49, 19)
    assert np.argwhere(split.mask(0, "nodule or mass")).tolist() == [[1, 1]]
    assert split.masks["pneumonia"][0] is None  # a label of the whole image
    assert not split.mask(1, "cardiomegaly").any()
    assert split.groups is None


def test_broken_rows_of_vindr_cxr(tmp_path):
    vindr(tmp_path, "a,Cardiomegaly,2,1,60,3\na,Cardiomegali,2,1,6,3\na,Cardiomegaly,x,1,6,3\nc,ILD,30,1,40,2\n")
    _, problems = examine_split(released("vindr_cxr"), "test", tmp_path)
    assert [(problem.line, problem.kind) for problem in problems] == [
        (2, "box_outside"),
        (2, "bad_region"),
        (2, "bad_region"),
        (4, "bad_region"),
    ]
    assert [problem for problem in problems if not problem.tolerated] == problems[1:]
    assert str(problems[0]) == "image_labels_test.csv:2: box 2;1;60;3 (x1;y1;x2;y2) in a frame of 40 x 30"


def test_vinbigdata_by_two_of_three_readers(tmp_path):
    rows = ["image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"]
    rows += ["a,Cardiomegaly,3,R10,2.0,3.0,6.0,7.0", "a,Cardiomegaly,3,R8,4.0,3.0,8.0,7.0", "a,No finding,14,R9,,,,"]
    rows += ["a,ILD,5,R10,0.0,0.0,9.0,9.0", "a,Nodule/Mass,8,R8,0.0,0.0,1.0,1.0"]
    rows += [f"b,No finding,14,R{reader},,,," for reader in (1, 2, 3)]
    (tmp_path / "train.csv").write_text("\n".join(rows))
    (tmp_path / "train").mkdir()
    write_dicom(tmp_path / "train/a.dicom", np.zeros((10, 20), np.uint8))
    split = read_split(released("vinbigdata"), "test", tmp_path)
    assert (names(split, tmp_path), present(split)) == (["train/a.dicom", "train/b.dicom"], [["cardiomegaly"], []])
    assert covered(split, 0, "cardiomegaly") == (24, 3, 2, 6, 7)  # the columns 2 … 5 and 4 … 7 of 4 rows
    assert split.masks["interstitial lung disease"] == [None, None]
    (tmp_path / "train.csv").write_text("\n".join([*rows, "b,Cyst,3,R1,,,,", "b,ILD,5,,1,1,2,2"]))
    problems = [line for line in refused("vinbigdata", tmp_path) if ":10:" in line or ":11:" in line]
    assert problems[0].startswith("train.csv:10: unknown finding 'Cyst'")
    assert problems[1] == "train.csv:11: column 'rad_id' names no reader"


def test_rsna_of_kaggle(tmp_path):
    rows = "patientId,x,y,width,height,Target\n0004,,,,,0\n"
    rows += "0043,264.0,152.0,213.0,379.0,1\n0043,562.0,152.0,256.0,453.0,1\n"
    (tmp_path / "stage_2_train_labels.csv").write_text(rows)
    split = read_split(released("rsna_kaggle"), "test", tmp_path)
    assert names(split, tmp_path) == ["stage_2_train_images/0004.dcm", "stage_2_train_images/0043.dcm"]
    assert split.labels.tolist() == [[0], [1]]
    assert covered(split, 1) == (213 * 379 + 256 * 453, 152, 264, 604, 817)
    assert not split.mask(0).any()
    (tmp_path / "stage_2_train_labels.csv").write_text(rows + "0044,1,2,,4,1\n0045,1,2,3,4,2\n")
    found = refused("rsna_kaggle", tmp_path)
    assert found[0] == "stage_2_train_labels.csv:5: box '1;2;;4' is not four numbers x;y;w;h"
    assert found[1].startswith("stage_2_train_labels.csv:6: pneumonia (column 'Target') is '2'")
    assert found[2].startswith("stage_2_train_labels.csv:6: a region of an unknown finding '2'")


def test_siim_of_kaggle(tmp_path):
    folder = tmp_path / "dicom-images-train"
    rows = ["ImageId, EncodedPixels", "1.2.1, -1", "1.2.2, 1025 2 1022 3", "1.2.2, 0 1"]
    for number in range(1, 120):  # more than are looked up one by one
        (folder / f"study{number}/series{number}").mkdir(parents=True)
        (folder / f"study{number}/series{number}/1.2.{number}.dcm").touch()
        rows += [f"1.2.{number}, -1"] if number > 2 else []
    (tmp_path / "train-rle.csv").write_text("\n".join(rows))
    split = read_split(released("siim_kaggle"), "test", tmp_path)
    assert len(split) == 119
    assert names(split, tmp_path)[1] == "dicom-images-train/study2/series2/1.2.2.dcm"
    assert positives(split) == {"pneumothorax": 1}
    # down the columns: 1025 and 1026 are rows 1 and 2 of column 1; 1027 + 1022 = 2049 … 2051 rows 1 to 3 of column 2
    assert np.argwhere(split.mask(1)).tolist() == [[0, 0], [1, 1], [1, 2], [2, 1], [2, 2], [3, 2]]
    (tmp_path / "train-rle.csv").write_text("\n".join([*rows, "1.2.999, -1", "1.2.1, 3 x"]))
    found = refused("siim_kaggle", tmp_path)
    assert found[0].startswith("train-rle.csv:122: no image matches")
    assert found[1] == "train-rle.csv:123: run lengths '3 x' are not all whole numbers"


def test_open_i(tmp_path):
    rows = (
        "file_name,labels_automatic\nCXR1_IM-0001-4001.png,\nCXR2_IM-0652-1001.png,Cardiomegaly|Pulmonary Atelectases\n"
    )
    rows += "CXR2_IM-0652-2001.png,Cardiomegaly|Pulmonary Atelectases\nCXR3_IM-1384.png,pleural thickening|granulomas\n"
    rows += "CXR4_1_IM-0001.png,Calcified Granuloma|thickening of bronchi|infiltrates\n"
    (tmp_path / "labels.csv").write_text(rows)
    split = read_split(released("openi"), "test", tmp_path)
    both = ["atelectasis", "cardiomegaly"]
    assert present(split) == [[], both, both, ["thicken"], ["infiltrate", "calcified granuloma"]]
    assert (split.labels >= 0).all()
    assert split.groups == ["CXR1", "CXR2", "CXR2", "CXR3", "CXR4"]
    assert names(split, tmp_path)[0] == "images/CXR1_IM-0001-4001.png"
    (tmp_path / "labels.csv").write_text(rows + "film.png,edema\n")
    [found] = refused("openi", tmp_path)
    assert found.startswith("labels.csv:7: 'images/film.png' holds no group")


REPORT = """<eCitation><uId id="CXR7001"/><MedlineCitation><Article><Abstract>
<AbstractText Label="FINDINGS">The XXXX are clear.</AbstractText></Abstract></Article></MedlineCitation>
<MeSH><major>Cardiomegaly/mild</major><automatic>cardiomegaly</automatic><automatic>granulomas</automatic></MeSH>
<parentImage id="CXR7001_IM-0901-1001"/><parentImage id="CXR7001_IM-0901-2001"/></eCitation>"""


def test_the_list_of_open_i_is_made_of_its_reports(tmp_path, monkeypatch):
    """The lines of docs/data.md, on two reports."""
    page = (Path(__file__).resolve().parents[3] / "docs/data.md").read_text(encoding="utf-8")
    [code] = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "labels_automatic" in block]
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "data/openi").mkdir(parents=True)
    (tmp_path / "ecgen-radiology/1.xml").write_text(REPORT)
    other = re.sub("<automatic>.*</automatic>", "", REPORT.replace("7001", "7002"))
    (tmp_path / "ecgen-radiology/2.xml").write_text(other)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert (tmp_path / "data/openi/labels.csv").read_text().splitlines() == [
        "file_name,labels_automatic",
        "CXR7001_IM-0901-1001.png,cardiomegaly|granulomas",
        "CXR7001_IM-0901-2001.png,cardiomegaly|granulomas",
        "CXR7002_IM-0901-1001.png,",
        "CXR7002_IM-0901-2001.png,",
    ]
    split = read_split(released("openi"), "test", tmp_path / "data/openi")
    assert (present(split), split.groups) == ([["cardiomegaly"]] * 2 + [[]] * 2, ["CXR7001"] * 2 + ["CXR7002"] * 2)


def test_nih_cxr_lt(tmp_path):
    chosen = released("nih_cxr_lt")
    columns = ["Pneumoperitoneum", *chosen.labels.columns.values()]
    rows = ["id," + ",".join(columns) + ",subj_id"]
    for image, name in (("00000013_005.png", "Nodule"), ("00000099_000.png", "Pneumoperitoneum")):
        rows.append(",".join([image, *(str(int(column == name)) for column in columns), image[4:8]]))
        (tmp_path / "images_003/images").mkdir(parents=True, exist_ok=True)
        (tmp_path / "images_003/images" / image).touch()
    (tmp_path / "nih-cxr-lt_single-label_test.csv").write_text("\n".join(rows))
    split = read_split(chosen, "test", tmp_path)
    assert (present(split), split.groups) == ([["nodule"], []], ["13", "99"])
    assert names(split, tmp_path)[0] == "images_003/images/00000013_005.png"


MS_CXR = """dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split
d1,Pneumonia,left basilar opacity,files/p10/p10000001/s50000001/d1.jpg,1520,1410,640,588,2539,3050,test
d1,Pneumonia,left basilar opacity,files/p10/p10000001/s50000001/d1.jpg,0,0,10,20,2539,3050,test
d1,Pleural Effusion,small effusion,files/p10/p10000001/s50000001/d1.jpg,5,6,7,8,2539,3050,test
d2,Edema,edema,files/p11/p11000002/s50000002/d2.jpg,1,1,2,2,3056,2544,train
"""


def test_ms_cxr(tmp_path):
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text(MS_CXR)
    split = read_split(released("ms_cxr"), "test", tmp_path)
    assert (names(split, tmp_path), split.groups) == (["files/p10/p10000001/s50000001/d1.jpg"], ["p10000001"])
    assert present(split) == [["pneumonia", "effusion"]]
    assert (split.labels == -1).sum() == 6
    assert split.mask(0, "pneumonia").shape == (3050, 2539)
    assert split.mask(0, "pneumonia")[1410:1998, 1520:2160].all()
    assert covered(split, 0, "pneumonia")[0] == 640 * 588 + 200
    assert covered(split, 0, "effusion") == (56, 6, 5, 13, 11)
    assert len(read_split(released("ms_cxr"), "train", tmp_path)) == 1
    broken = MS_CXR.replace("640,588,2539", "640,588,wide").replace("small effusion", "a").replace(",5,6,", ",9999,6,")
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").write_text(broken)
    frame, box = refused("ms_cxr", tmp_path)
    assert frame.endswith(
        "v1.1.0.csv:2: the frame in the columns image_height, image_width: '3050 x wide' is no height and width"
    )
    assert box.endswith("v1.1.0.csv:4: box '9999;6;7;8' holds no pixel of the 3050 x 2539 frame: check masks.size")


@pytest.mark.parametrize(
    ("name", "file", "images"),
    [
        ("chestxdet10", "ChestX_Det10_test.head.json", 12),
        ("chestxdet", "ChestX_Det_test.head.json", 12),
        ("vinbigdata", "vinbigdata_train.head.csv", 13),
        ("rsna_kaggle", "stage_2_train_labels.head.csv", 11),
    ],
)
def test_beginnings_of_the_real_files(shared, tmp_path, name, file, images):
    chosen = released(name)
    head = shared(f"data/official/{file}").read_text()
    (tmp_path / chosen.splits["test"]).write_text(head)
    split, problems = examine_split(chosen, "test", tmp_path)
    assert len(split) == images
    assert {problem.kind for problem in problems} <= {"bad_region"}  # the films themselves are not there
    assert (split.labels >= 0).all()
