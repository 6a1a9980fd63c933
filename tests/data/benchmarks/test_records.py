"""Tables in JSON: lists of records, parallel lists, COCO."""

import json

import pytest

from mavl.data.benchmarks.benchmark import read_split
from mavl.data.benchmarks.records import read_coco, read_records
from mavl.data.benchmarks.rows import BenchmarkError
from mavl.data.benchmarks.tables import TableFormat
from tests.support.small_benchmarks import benchmark

RECORDS = [
    {"file": " a.png ", "syms": ["x", "y"], "boxes": [[1, 2, 3, 4], [5.5, 6, 7, 8]], "n": 1},
    {"file": "b.png", "syms": [], "boxes": []},
    {"file": "c.png", "syms": ["x"], "boxes": [[0, 0, 1, 1]], "n": None, "of": {"sex": "F", "age": {"years": 40}}},
]


def write(folder, document):
    (folder / "t.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return folder / "t.json"


def problems_of(function, *arguments):
    with pytest.raises(BenchmarkError) as caught:
        function(*arguments)
    return list(map(str, caught.value.problems))


def test_parallel_lists_become_rows(tmp_path):
    assert read_records(write(tmp_path, RECORDS), "", ["syms", "boxes"]) == (
        ["file", "n", "syms", "boxes", "of.sex", "of.age.years"],
        [1, 1, 2, 3],
        [
            ["a.png", "1", "x", "1;2;3;4", "", ""],
            ["a.png", "1", "y", "5.5;6;7;8", "", ""],
            ["b.png", "", "", "", "", ""],
            ["c.png", "", "x", "0;0;1;1", "F", "40"],
        ],
    )


def test_lists_that_stay_in_a_cell(tmp_path):
    names, lines, cells = read_records(write(tmp_path, {"data": {"items": RECORDS}}), "data.items")
    assert (names[:4], lines) == (["file", "syms", "boxes", "n"], [1, 2, 3])
    assert cells[0][:4] == ["a.png", "x|y", "1;2;3;4|5.5;6;7;8", "1"]
    deep = [{"a": [[[1, 2], [3, 4]]], "b": [{"c": 1}], "d": True, "e": [[1, 2], [3, 4]]}]
    assert read_records(write(tmp_path, deep)).cells == [["[[[1, 2], [3, 4]]]", '[{"c": 1}]', "1", "1;2|3;4"]]


def test_a_list_of_objects_may_become_rows(tmp_path):
    studies = [{"id": "a", "findings": [{"label": ["x"], "boxes": [[0, 0, 0.5, 1]]}, {"label": [], "boxes": []}]}]
    studies.append({"id": "b", "findings": []})
    names, lines, cells = read_records(write(tmp_path, studies), "", ["findings"])
    assert (names, lines) == (["id", "findings.label", "findings.boxes"], [1, 1, 2])
    assert cells == [["a", "x", "0;0;0.5;1"], ["a", "", ""], ["b", "", ""]]
    assert read_records(write(tmp_path, studies[1:]), "", ["findings"]).names == ["id", "findings"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "t.json:1: no usable JSON"),
        ("[1,\n2", "t.json:2: no usable JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"a": 1, "a": 2}]', "the name 'a' occurs twice in an object"),
        ({"rows": []}, r"the file is an object with the keys rows, not a list: give the key of the list"),
        ([{"a": 1}, 3], "t.json:2: the list holds a number, not an object"),
        ([], "the file has no records"),
        ([{"a": {"b": 1}, "a.b": 2}], "t.json:1: the column 'a.b' occurs twice in this record"),
        ([{"a": 1, " a": 2}], "t.json:1: the column 'a' occurs twice in this record"),
        ([{"syms": ["a|b"]}], r"t.json:1: syms: the text 'a\|b' in a list holds \|"),
    ],
)
def test_files_without_records(tmp_path, document, message):
    with pytest.raises(BenchmarkError, match=message):
        read_records(write(tmp_path, document))


def test_broken_records_are_all_named(tmp_path):
    records = [RECORDS[0], {"syms": ["x"], "boxes": []}, {"syms": "x", "boxes": []}, {"syms": []}]
    assert problems_of(read_records, write(tmp_path, records), "", ["syms", "boxes"]) == [
        "t.json:2: table.explode: lists of several lengths: syms has 1, boxes has 0",
        "t.json:3: table.explode: syms is a text, not a list",
        "t.json:4: table.explode: boxes is missing, not a list",
    ]
    found = problems_of(read_records, write(tmp_path, {"itmes": []}), "items")
    assert found == ["t.json: unknown key 'items'; did you mean 'itmes'?: check table.format and table.records"]


COCO = {
    "categories": [{"id": 1, "name": "Edema"}, {"id": 2, "name": "Mass"}],
    "images": [
        {"id": 7, "file_name": "a.png", "width": 6, "height": 4},
        {"id": 9, "file_name": "b.png", "width": 5, "height": 8},
    ],
    "annotations": [
        {"id": 1, "image_id": 9, "category_id": 2, "bbox": [1, 1, 2, 3], "width": 5},
        {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1.5, 1], "label_text": "at the base"},
    ],
}


def test_coco_has_a_row_an_annotation_and_one_an_image_without(tmp_path):
    names, lines, cells = read_coco(write(tmp_path, COCO))
    assert names == ["file_name", "width", "height", "category", "bbox", "annotation.width", "label_text"]
    assert lines == [1, 2, 2]
    assert cells == [
        ["a.png", "6", "4", "", "", "", ""],
        ["b.png", "5", "8", "Mass", "1;1;2;3", "5", ""],
        ["b.png", "5", "8", "Edema", "0;0;1.5;1", "", "at the base"],
    ]


def test_ids_of_coco_that_lead_nowhere(tmp_path):
    broken = COCO | {"annotations": [{"image_id": 8, "category_id": 1}, {"image_id": 7, "category_id": 3}]}
    assert problems_of(read_coco, write(tmp_path, broken)) == [
        "t.json: annotation 1 has the image_id 8, which no entry has as its id",
        "t.json:1: annotation 2 has the category_id 3, which no entry has as its id",
    ]
    twice = COCO | {"images": [*COCO["images"], {"id": 7}]}
    assert problems_of(read_coco, write(tmp_path, twice)) == ["t.json:3: two images have the id 7"]
    odd = COCO | {"images": [{"id": [1]}, {"file_name": "x"}], "annotations": [{"image_id": {}, "category_id": []}]}
    assert problems_of(read_coco, write(tmp_path, odd)) == [
        "t.json:2: an image without an id",
        "t.json: annotation 1 has the image_id {}, which no entry has as its id",
    ]
    [missing] = problems_of(read_coco, write(tmp_path, {"images": []}))
    assert missing.startswith("t.json: unknown key 'categories'")


def test_boxes_and_labels_of_coco(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(COCO))
    settings = {
        "findings": ["edema", "mass"],
        "splits": {"test": "t.json"},
        "table": {"format": "coco"},
        "images": {"column": "file_name", "path": "films/{}"},
        "labels": {"kind": "rows", "column": "category", "names": {"": None}},
    }
    masks = {"kind": "box_rows", "finding": "category", "names": {"": None}, "columns": ["bbox"], "edges": "round"}
    split = read_split(benchmark(**settings, masks=masks | {"size": ["height", "width"]}), "test", tmp_path)
    assert split.paths == [tmp_path / "films/a.png", tmp_path / "films/b.png"]
    assert (split.labels.tolist(), split.rows) == ([[0, 0], [1, 1]], ["t.json:1", "t.json:2"])
    assert (split.mask(1, "mass").shape, int(split.mask(1, "mass")[1:4, 1:3].sum())) == ((8, 5), 6)
    assert (int(split.mask(1, "mass").sum()), int(split.mask(1, "edema").sum())) == (6, 1)  # 0.5 lies in 0 … 1.5
    assert not split.mask(0, "mass").any()
    unknown = read_split(benchmark(**settings | {"labels": {"kind": "rows", "column": "category"}}), "test", tmp_path)
    assert unknown.labels.tolist() == [[-1, -1], [1, 1]]  # a blank category says nothing unless names give it


@pytest.mark.parametrize(
    "settings",
    [
        {"records": "x"},
        {"explode": ["x"]},
        {"format": "json", "separator": ";"},
        {"format": "json", "header": False},
        {"format": "coco", "records": "x"},
    ],
)
def test_keys_of_another_format(settings):
    with pytest.raises(ValueError, match="not of a table in the format"):
        TableFormat.model_validate(settings)


def test_a_json_list_that_is_read_as_text_says_what_to_set(tmp_path):
    with pytest.raises(BenchmarkError, match=r"set table\.format to json"):
        read_split(benchmark(splits={"test": write(tmp_path, RECORDS).name}), "test", tmp_path)


def test_objects_under_their_names(tmp_path):
    document = {"data": {"a": {"x": {"n": 1}, "y": {"n": 2}}, "b": {"x": {"n": 3}}}}
    assert read_records(write(tmp_path, document), "data", (), ["image", "finding"]) == (
        ["image", "finding", "n"],
        [1, 2, 3],
        [["a", "x", "1"], ["a", "y", "2"], ["b", "x", "3"]],
    )
    with pytest.raises(BenchmarkError, match=r"'n' is a number, not an object"):
        read_records(write(tmp_path, document), "data", (), ["image", "finding", "deeper"])
    with pytest.raises(BenchmarkError, match="a number, not an object whose names are the column 'deeper'"):
        read_records(write(tmp_path, document), "data", (), ["image", "finding", "part", "deeper"])
