"""Benchmarks whose publishers write JSON beside or instead of a table, as `test_official` has those of tables."""

import json

from PIL import Image

from mavl.data.benchmarks.benchmark import read_split
from tests.support.small_benchmarks import covered, names, present, refused, released


def test_tbx11k(tmp_path):
    classes = ["ActiveTuberculosis", "ObsoletePulmonaryTuberculosis", "PulmonaryTuberculosis"]
    document = {"categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]}
    document["images"] = [
        {"id": 7, "file_name": "tb/tb9001.png", "width": 512, "height": 512},
        {"id": 8, "file_name": "health/h0001.png", "width": 512, "height": 512},
    ]
    box = {"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 4200.0, "bbox": [101.5, 88.2, 70.0, 60.0]}
    document["annotations"] = [box, box | {"id": 2, "category_id": 2, "bbox": [0, 0, 1, 1]}]
    (tmp_path / "annotations/json").mkdir(parents=True)
    (tmp_path / "annotations/json/TBX11K_val.json").write_text(json.dumps(document))
    split = read_split(released("tbx11k"), "test", tmp_path)
    assert (names(split, tmp_path), split.labels.tolist()) == (
        ["imgs/tb/tb9001.png", "imgs/health/h0001.png"],
        [[1], [0]],
    )
    # the centres 101.5 … 170.5 and 88.5 … 147.5
    assert split.mask(0)[88:148, 101:171].all()
    assert covered(split, 0) == (70 * 60 + 1, 0, 0, 147, 170)
    assert not split.mask(1).any()


def test_padchest_gr(tmp_path):
    rows = "StudyID,ImageID,label,boxes_count,split,PatientID,PatientSex_DICOM,PatientAge\n"
    rows += "1,a.png,pleural effusion,1,test,p1,F,39\n1,a.png,scoliosis,0,test,p1,F,39\n1,a.png,nodule,2,test,p1,F,39\n"
    rows += "2,b.png,Normal,0,test,p2,M,71\n3,c.png,atelectasis,1,train,p3,M,50\n1,a.png,fracture,0,test,p1,F,39\n"
    (tmp_path / "master_table.csv").write_text(rows)
    both = {"labels": ["pleural effusion", "goiter"], "boxes": [[0.25, 0.5, 0.75, 1.0], [0, 0, 0.05, 0.1]]}
    single = {"labels": ["nodule"], "boxes": [[0.5, 0.1, 0.6, 0.3]]}
    reports = [
        {"StudyID": "1", "ImageID": "a.png", "findings": [both, single, {"labels": ["fracture"], "boxes": []}]},
        {"StudyID": "2", "ImageID": "b.png", "findings": []},
    ]
    (tmp_path / "grounded_reports_20240819.json").write_text(json.dumps(reports))
    (tmp_path / "PadChest_GR").mkdir()
    Image.new("L", (20, 10)).save(tmp_path / "PadChest_GR/a.png")
    split = read_split(released("padchest_gr"), "test", tmp_path)
    assert (names(split, tmp_path), split.groups) == (["PadChest_GR/a.png", "PadChest_GR/b.png"], ["p1", "p2"])
    assert present(split) == [["fracture", "nodule", "effusion"], []]
    assert split.metadata == {"sex": ["women", "men"], "age": ["below 40", "60 to 80"]}
    # 20 x 10 pixels: the columns 5 … 14 and rows 5 … 9, and the pixel (0, 0)
    assert split.mask(0, "effusion")[5:, 5:15].all()
    assert covered(split, 0, "effusion") == (51, 0, 0, 9, 14)
    assert covered(split, 0, "nodule") == (4, 1, 10, 2, 11)
    assert split.masks["fracture"][0] is None
    both["boxes"].append([0.5, 0.5, 1.5, 0.7])
    both["boxes"].append([0.5, 0.5, 0.5, 0.7])
    (tmp_path / "grounded_reports_20240819.json").write_text(json.dumps(reports))
    found = refused("padchest_gr", tmp_path)
    assert found[0] == "master_table.csv:2: box '0.5;0.5;0.5;0.7' holds no pixel of the 10 x 20 frame: check masks.size"


def test_chexlocalize(tmp_path):
    # 3 rows, 4 columns: 2 outside, 3 inside, 4 outside, 3 inside; compressed, each number is a letter from "0" on, the
    # fourth the difference to the second: 3 - 3 = 0
    inside, nothing = {"size": [3, 4], "counts": "2340"}, {"size": [3, 4], "counts": "<"}
    tasks = {"Edema": inside, "Lung Lesion": nothing, "Airspace Opacity": {"size": [3, 4], "counts": "0<"}}
    segmentations = {
        "patient90001_study1_view1_frontal": tasks,
        "patient90002_study2_view3_lateral": {"Edema": nothing},
    }
    (tmp_path / "CheXlocalize").mkdir()
    file = tmp_path / "CheXlocalize/gt_segmentations_test.json"
    file.write_text(json.dumps(segmentations))
    split = read_split(released("chexlocalize"), "test", tmp_path)
    assert names(split, tmp_path) == [
        "CheXpert/test/patient90001/study1/view1_frontal.jpg",
        "CheXpert/test/patient90002/study2/view3_lateral.jpg",
    ]
    assert (present(split), split.groups) == ([["opacity", "edema"], []], ["patient90001", "patient90002"])
    assert split.mask(0, "edema").astype(int).tolist() == [[0, 1, 0, 1], [0, 1, 0, 1], [1, 0, 0, 1]]
    assert split.mask(0, "opacity").all()
    assert not split.mask(0, "lesion").any()
    assert split.labels[1].tolist().count(-1) == 9  # of which the film says nothing
    segmentations = {"patient90001_study1_view1_frontal": tasks, "90002": {"Edema": nothing, "Edemma": inside}}
    tasks["Edema"] = {"size": [3, 5], "counts": "2340"}
    tasks["Lung Lesion"] = {"size": [3], "counts": "<"}
    file.write_text(json.dumps(segmentations))
    assert refused("chexlocalize", tmp_path) == [
        "gt_segmentations_test.json:1: run lengths '2340' are of 12 pixels, not 15: check masks.size (3, 5)",
        "gt_segmentations_test.json:2: the frame in the columns size: '3' is no height and width",
        "gt_segmentations_test.json:4: '90002' does not fit ^(patient\\d+)_(study\\d+)_: check images.rewrite.pattern",
        "gt_segmentations_test.json:5: '90002' does not fit ^(patient\\d+)_(study\\d+)_: check images.rewrite.pattern",
    ]
