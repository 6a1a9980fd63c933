"""prepare_data.py radgraph --csv: graphs of the reports of any hospital, and a table of its images."""

import argparse
import copy
import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mavl.config.data import LABELS, MANIFESTS, SPLITS
from mavl.data.labels import LabelStore
from mavl.data.phantom import draw
from mavl.data.samples import read_reports
from mavl.prepare import radgraph
from mavl.prepare.radgraph import labels as label_files
from mavl.prepare.radgraph.graphs import RADGRAPH_XL

XL = {old: new for new, old in RADGRAPH_XL.items()}


@pytest.fixture(scope="module")
def graphs():
    return [draw(seed=3, index=index, size=32).graph for index in range(4)]


@pytest.fixture(scope="module")
def labels():
    return np.stack([draw(seed=3, index=index, size=32).labels for index in range(4)])


@pytest.fixture
def prepare(tmp_path, monkeypatch):
    """prepare({name: graph}, rows, "--study-column", …) -> the folder that the command wrote."""
    monkeypatch.setattr(label_files, "draw_picture", lambda *_: None)

    def prepare(reports: dict, rows: list[dict], *more: str) -> Path:
        (tmp_path / "graphs.json").write_text(json.dumps(reports))
        with open(tmp_path / "images.csv", "w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        parser, files = argparse.ArgumentParser(), ["--graphs", "graphs.json", "--csv", "images.csv", "--out", "out"]
        monkeypatch.chdir(tmp_path)
        radgraph.add_arguments(parser)
        assert radgraph.run(parser.parse_args([*files, "--workers", "1", *more])) == 0
        return tmp_path / "out"

    return prepare


def manifests(out: Path) -> dict[str, dict]:
    return {split: json.loads((out / f"rad_graph_metric_{split}.json").read_text()) for split in SPLITS}


def problems(out: Path) -> list[list[str]]:
    with open(out / "problems.csv", newline="") as file:
        return list(csv.reader(file))[1:]


def test_studies_are_found_by_the_names_of_their_graphs(prepare, graphs, labels):
    """Two images of study b, the names with .txt on either side, and folders as part of a name."""
    names = ["a", "b.txt", "2021/c", "2022/c"]
    rows = [
        {"film": "x/1.dcm", "report": "a.txt", "set": "train", "projection": "PA"},
        {"film": "./x/2.dcm", "report": "b", "set": "val", "projection": "LL"},
        {"film": "x//3.dcm", "report": "b", "set": "val", "projection": ""},
        {"film": "x/4.dcm", "report": "2022/c", "set": "Test", "projection": "AP"},
        {"film": "x/5.dcm", "report": "2021/c", "set": "train", "projection": "AP"},
    ]
    columns = ["--image-column", "film", "--study-column", "report", "--split-column", "set"]
    out = prepare(dict(zip(names, graphs, strict=True)), rows, *columns)
    np.testing.assert_array_equal(LabelStore(out / LABELS).array, labels)
    assert manifests(out) == {
        "train": {"x/1.dcm": {"labels_id": 0, "view": "PA"}, "x/5.dcm": {"labels_id": 2, "view": "AP"}},
        "validate": {"x/2.dcm": {"labels_id": 1, "view": "LL"}, "x/3.dcm": {"labels_id": 1, "view": None}},
        "test": {"x/4.dcm": {"labels_id": 3, "view": "AP"}},
    }
    assert problems(out) == []
    out = prepare(dict(zip(names, graphs, strict=True)), rows, *columns, "--views", "frontal")
    assert {split: len(of) for split, of in manifests(out).items()} == {"train": 2, "validate": 0, "test": 1}
    assert json.loads((out / "summary.json").read_text())["left_out_by_view"] == {"LL": 1, "unknown": 1}


def test_without_a_study_column_graph_n_is_that_of_row_n(prepare, graphs, labels):
    """As the radgraph package names the graphs of a list of reports, here with RadGraph-XL's labels."""
    reports = copy.deepcopy({str(number): graph | {"data_source": None} for number, graph in enumerate(graphs)})
    for graph in reports.values():
        for entity in graph["entities"].values():
            entity["label"] = XL[entity["label"]]
    rows = [{"image": f"{number}.png", "patient": f"p{number // 2}"} for number in range(4)]
    out = prepare(reports, rows, "--image-column", "image", "--patient-column", "patient")
    listed = {image: entry["labels_id"] for of in manifests(out).values() for image, entry in of.items()}
    assert listed == {"0.png": 0, "1.png": 1, "2.png": 2, "3.png": 3}
    split_of = {image: split for split, of in manifests(out).items() for image in of}
    assert split_of["0.png"] == split_of["1.png"]
    assert split_of["2.png"] == split_of["3.png"]
    np.testing.assert_array_equal(LabelStore(out / LABELS).array, labels)
    assert problems(out) == []
    for split, of in manifests(out).items():
        if of:
            samples = read_reports(out / MANIFESTS[split], LabelStore(out / LABELS), Path("/films"), "")
            assert samples.images[0] == f"/films/{next(iter(of))}"


def test_everything_wrong_is_listed_and_nothing_stops(prepare, graphs):
    reports = {"a": graphs[0], "b": graphs[1], "c": 7, "a.txt": graphs[2]}
    rows = [
        {"image": "1.png", "study": "a", "split": "train"},
        {"image": "1.png", "study": "b", "split": "train"},
        {"image": "", "study": "b", "split": "train"},
        {"image": "4.png", "study": "", "split": "train"},
        {"image": "5.png", "study": "b", "split": "holdout"},
        {"image": "6.png", "study": "d", "split": "test"},
        {"image": "7.png", "study": "a", "split": "test"},
    ]
    columns = ["--image-column", "image", "--study-column", "study", "--split-column", "split"]
    out = prepare(reports, rows, *columns)
    assert problems(out) == [
        ["image twice", "1.png", "again at images.csv:3, as train; the first row counts"],
        ["unreadable row", "images.csv:4", "it names no image"],
        ["unreadable row", "images.csv:5", "it names no study"],
        ["unknown split", "images.csv:6", "'holdout'; expected one of train, training, validate, validation, valid, "
         "val, dev, development, test, testing"],
        ["group in several splits", "a", "images: train 1, test 1"],
        ["report is no graph", "c", "expected an object that has an object `entities`"],
        ["study with two graphs", "a", "the first one counts"],
        ["study without graph", "d", "its images are left out"],
        ["graph without images", "b", ""],
    ]  # fmt: skip
    assert manifests(out)["train"] == {"1.png": {"labels_id": 0, "view": None}}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--image-column", "film"], r"images\.csv: unknown column 'film'; known: image"),
        ([], "--csv takes --graphs and --image-column, the column with the paths of the images"),
        (["--image-column", "image", "--study-column", "image"], r"none of its reports belongs to an image of --csv"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(prepare, graphs, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        prepare({"0": graphs[0]}, [{"image": "1.png"}], *arguments)


def test_columns_without_a_table_are_refused(tmp_path):
    parser = argparse.ArgumentParser()
    radgraph.add_arguments(parser)
    arguments = ["--graphs", "graphs.json", "--root", ".", "--image-column", "image", "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="are those of --csv, which is missing"):
        radgraph.run(parser.parse_args(arguments))
