"""Data for fine-tuning: no patient crosses splits, labels by policy worked by hand, what is said of each decision."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mavl.backbones import Preprocessing
from mavl.config.finetune import ClassificationData, FinetuneClsSettings
from mavl.data import DataError
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.benchmarks.splits import Split
from mavl.data.classification import (
    LabelledImages,
    check_labels,
    counts,
    draw_splits,
    label_train,
    read_labelled,
    without_shared,
    write_images,
)
from mavl.data.images.transforms import eval_transform
from mavl.train.classification import open_data
from tests.support.small_benchmarks import benchmark

ROOT = Path("/data")


def settings(**changed) -> ClassificationData:
    return ClassificationData(benchmark="none", **changed)


def split(name: str, groups: list | None, labels=None, paths=None) -> Split:
    n = len(groups or paths)
    labels = np.array(labels if labels is not None else [[i % 2] for i in range(n)], dtype=np.int8)
    paths = [ROOT / path for path in (paths or [f"{name}{i}.png" for i in range(n)])]
    findings = tuple("abcdef"[: labels.shape[1]])
    return Split(name, findings, paths, labels, groups, [f"{name}.csv:{i + 2}" for i in range(n)], None)


# No patient in two splits ---------------------------------------------------------------------------------------------

patients = st.lists(st.integers(0, 9).map(str), min_size=4, max_size=30)


@given(
    train=patients,
    valid=st.none() | patients,
    test=patients,
    share=st.sampled_from([0.01, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 3),
)
def test_no_patient_crosses_train_valid_and_test(train, valid, test, share, seed):
    splits = {"train": split("train", train), "test": split("test", test)}
    if valid is not None:
        splits["valid"] = split("valid", valid)
    try:
        drawn, _ = draw_splits(splits, settings(data_pct=share, valid_share=0.3), seed, ROOT)
    except DataError as error:
        assert "split has no image left" in str(error)  # noqa: PT017
        return
    groups = [set(each.groups) for each in drawn.values()]
    assert [a & b for i, a in enumerate(groups) for b in groups[:i]] == [set(), set(), set()]
    assert drawn["test"].groups == test  # the test split is never touched
    assert set(drawn["train"].groups) <= set(train)


def test_whom_two_splits_share_stays_in_the_one_nearer_to_the_test():
    splits = {
        "train": split("train", ["1", "2", "3", "4", "1"]),
        "valid": split("valid", ["2", "5", "6"]),
        "test": split("test", ["1", "5"]),
    }
    drawn, notes = draw_splits(splits, settings(), 0, ROOT)
    assert {name: each.groups for name, each in drawn.items()} == {
        "train": ["3", "4"],
        "valid": ["2", "6"],
        "test": ["1", "5"],
    }
    assert notes == [
        "valid: 1 image of 1 patient left out, which test has too",
        "train: 2 images of 1 patient left out, which test has too",
        "train: 1 image of 1 patient left out, which valid has too",
    ]


def test_without_patients_images_are_told_by_their_path_wherever_the_root_lies():
    paths = [f"{i}.png" for i in range(40)]
    splits = {"train": split("train", None, paths=paths), "test": split("test", None, paths=["3.png", "x.png"])}
    drawn, notes = draw_splits(splits, settings(data_pct=0.5), 0, ROOT)
    assert notes[:2] == [
        "the benchmark names no patients: images are drawn one by one",
        "train: 1 image left out, which test has too",
    ]
    spelt = replace(splits["test"], paths=[ROOT / f"../{ROOT.name}/3.png", ROOT / "../3.png"])
    assert without_shared(spelt, [splits["train"]], ROOT)[0].paths == [ROOT / "../3.png"]
    moved = {
        name: replace(each, paths=[Path("/elsewhere/below") / path.name for path in each.paths])
        for name, each in splits.items()
    }
    again = draw_splits(moved, settings(data_pct=0.5), 0, Path("/elsewhere/below"))[0]
    for name, each in drawn.items():
        assert [path.name for path in each.paths] == [path.name for path in again[name].paths]


def test_a_missing_validation_split_is_drawn_from_train_by_patient():
    groups = [str(i // 2) for i in range(40)]  # 20 patients with two images
    labels = [[int(i < 8)] for i in range(40)]  # 4 of them present
    drawn, notes = draw_splits(
        {"train": split("train", groups, labels), "test": split("test", ["x"])}, settings(), 7, ROOT
    )
    valid = drawn["valid"]
    assert valid.name == "valid"
    assert len(valid) == 6  # one of the 4, and a tenth of the 16: 3 patients
    assert valid.labels.sum() == 2
    assert notes == [
        "no validation split: 6 images of 3 of 20 training patients drawn for it by seed 7",
    ]


def test_shares_are_said_and_other_seeds_draw_others():
    groups = [str(i) for i in range(100)]
    splits = {"train": split("train", groups), "valid": split("valid", ["v"]), "test": split("test", ["t"])}
    seeds = [draw_splits(splits, settings(data_pct=0.1), seed, ROOT) for seed in (0, 0, 1)]
    assert len(seeds[0][0]["train"]) == 10
    assert seeds[0][0]["train"].groups == seeds[1][0]["train"].groups
    assert seeds[0][0]["train"].groups != seeds[2][0]["train"].groups
    assert seeds[0][1][0].startswith("10 % of train: 10 of 100 patients drawn by seed 0")


def test_a_missing_test_split_is_drawn_once_and_for_all_seeds():
    groups = [str(i // 2) for i in range(40)]  # 20 patients with two images
    labels = [[int(i < 10)] for i in range(40)]  # 5 of them present
    runs = [draw_splits({"train": split("train", groups, labels)}, settings(), seed, ROOT) for seed in (0, 1)]
    test = runs[0][0]["test"]
    assert (len(test), test.labels.sum(), test.name) == (8, 2, "test")  # a fifth: one patient of the 5, 3 of the 15
    assert test.groups == runs[1][0]["test"].groups
    assert runs[0][0]["valid"].groups != runs[1][0]["valid"].groups
    assert runs[0][1] == [
        "no test split: 8 images of 4 of 20 training patients drawn for it, the same ones for every seed",
        "no validation split: 4 images of 2 of 16 training patients drawn for it by seed 0",
    ]


def test_a_missing_training_split_is_an_error():
    with pytest.raises(DataError, match="no train split"):
        draw_splits({"test": split("test", ["1"])}, settings(), 0, ROOT)


# Labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unlabelled", "uncertain", "expected"),
    [
        ("zeros", "ignore", [[1, 0, -1], [-1, 0, 0]]),
        ("zeros", "ones", [[1, 0, 1], [1, 0, 0]]),
        ("ones", "zeros", [[1, 0, 0], [0, 1, 0]]),
    ],
)
def test_policies(tmp_path, unlabelled, uncertain, expected):
    (tmp_path / "train.csv").write_text("image,a,b,c\nx.png,1,0,-1\ny.png,-1.0,,0\n")
    columns = {"findings": ["a", "b", "c"], "splits": {"train": "train.csv"}, "images": {"column": "image"}}
    file, data = benchmark(**columns), settings(unlabelled=unlabelled, uncertain=uncertain)
    train = read_split(file, "train", tmp_path)
    changed, [said] = label_train(file, data, tmp_path, train)
    assert changed.labels.tolist() == expected
    assert train.labels.tolist() == [[1, 0, -1], [-1, -1, 0]]
    meaning = {"ignore": "left out of the loss", "zeros": "counted as absent", "ones": "counted as present"}
    assert said == (
        f"of 6 training labels 1 (16.7 %) are blank, {meaning[unlabelled]}; 2 (33.3 %) are -1, {meaning[uncertain]}; "
        "in validation and test they stay unknown"
    )


def test_a_label_that_the_benchmark_gives_to_minus_one_is_not_uncertain(tmp_path):
    (tmp_path / "train.csv").write_text("image,edema\nx.png,-1\ny.png,\n")
    labels = {"kind": "columns", "values": {"-1": 0}}
    file = benchmark(splits={"train": "train.csv"}, images={"column": "image"}, labels=labels)
    data = settings(unlabelled="ignore", uncertain="ones")
    changed, [said] = label_train(file, data, tmp_path, read_split(file, "train", tmp_path))
    assert changed.labels.tolist() == [[0], [-1]]
    assert "0 (0.0 %) are -1" in said


def test_chexperts_blanks_and_minus_ones_are_told_apart_in_train_alone(tmp_path):
    header = "Path,Cardiomegaly,Edema\n"
    (tmp_path / "train.csv").write_text(header + "p1/a.jpg,1.0,\np2/b.jpg,-1.0,0.0\np3/c.jpg,,-1\np3/d.jpg,0,1\n")
    (tmp_path / "test.csv").write_text(header + "p4/a.jpg,1.0,\np5/b.jpg,0.0,1.0\n")
    file = Benchmark(
        name="c",
        title="C",
        findings=("cardiomegaly", "edema"),
        splits={"train": "train.csv", "test": "test.csv"},
        images={"column": "Path"},
        groups={"pattern": r"p(\d+)"},
        labels={"kind": "columns", "columns": {"cardiomegaly": "Cardiomegaly", "edema": "Edema"}},
    )
    data = settings(unlabelled="zeros", uncertain="ones")
    splits = read_labelled(file, data, tmp_path)
    train, [said] = label_train(file, data, tmp_path, splits["train"])
    assert train.labels.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
    assert splits["test"].labels.tolist() == [[1, -1], [0, 1]]
    assert said == (
        "of 8 training labels 2 (25.0 %) are blank, counted as absent; 2 (25.0 %) are -1, counted as present; "
        "in validation and test they stay unknown"
    )
    part, _ = label_train(file, data, tmp_path, splits["train"].without({0, 3}))  # as a drawn share of it
    assert part.labels.tolist() == [[1, 0], [0, 1]]
    data = settings(findings=("edema",))
    same, [said] = label_train(file, data, tmp_path, read_labelled(file, data, tmp_path)["train"])
    assert same.labels.tolist() == [[-1], [0], [-1], [1]]
    assert said == "of 4 training labels 2 (50.0 %) are blank or -1, left out of the loss"


def test_a_validation_split_that_is_drawn_from_train_keeps_its_unknown_labels(tmp_path):
    lines = ["Path,patient,edema"]
    for i in range(40):
        (tmp_path / f"{i}.png").write_bytes(b"not looked into")
        lines.append(f"{i}.png,{i},{('1', '0', '', '-1')[i % 4]}")
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    file = {
        "name": "c",
        "title": "C",
        "findings": ["edema"],
        "splits": {"train": "all.csv"},
        "images": {"column": "Path"},
        "groups": {"column": "patient"},
        "labels": {"kind": "columns"},
    }
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(file))
    data = {"benchmark": str(tmp_path / "benchmark.yaml"), "root": str(tmp_path), "check_images": "exists"}
    data |= {"unlabelled": "zeros", "uncertain": "ones", "valid_share": 0.5, "workers": 0}
    opened = open_data(FinetuneClsSettings(data=data), progress=False)
    for name in ("train", "valid", "test"):
        of_file = [{0: 1, 1: 0, 2: -1, 3: -1}[int(path.stem) % 4] for path in opened.splits[name].paths]
        assert -1 in of_file
        guessed = [{0: 1, 1: 0, 2: 0, 3: 1}[int(path.stem) % 4] for path in opened.splits[name].paths]
        assert opened.splits[name].labels[:, 0].tolist() == (guessed if name == "train" else of_file)


def test_a_worker_has_the_images_of_its_process(tmp_path):
    names, transform = ["a.png", "ü.png", "c.png"], eval_transform(Preprocessing(16))
    for grey, name in enumerate(names):
        Image.new("L", (16, 16), 90 * grey).save(tmp_path / name)
    images = split("train", ["1", "2", "3"], [[0, 1], [1, 1], [1, -1]])
    dataset = LabelledImages(replace(images, paths=[tmp_path / name for name in names]), transform, False, seed=0)
    again = pickle.loads(pickle.dumps(dataset))
    for index in range(3):
        assert again[0, index]["labels"].tolist() == images.labels[index].tolist()
        assert again[0, index]["image"].unique().tolist() == [90 * index]


def test_labels_that_teach_nothing():
    good, mixed = split("valid", ["1", "2"], [[0, 1], [1, 1]]), split("test", ["3", "4"], [[0, 1], [1, -1]])
    assert check_labels({"train": good, "valid": good, "test": mixed}, "valid_auroc", 1.0) == [
        "without both labels in train: b",
        "without both labels in valid: b",
        "without both labels in test: b",
    ]
    bad = split("train", ["1", "2"], [[0, 1], [-1, 1]])
    with pytest.raises(DataError, match=r"train split; raise data\.data_pct"):
        check_labels({"train": bad, "valid": good, "test": good}, "valid_auroc", 0.1)
    with pytest.raises(DataError, match=r"train split; add images to it, or see data\.findings"):
        check_labels({"train": bad, "valid": good, "test": good}, "valid_auroc", 1.0)
    with pytest.raises(DataError, match=r"valid split; raise data\.valid_share, or set train\.monitor"):
        check_labels({"train": good, "valid": bad, "test": good}, "valid_auroc", 1.0)
    check_labels({"train": good, "valid": bad, "test": good}, "valid_loss", 1.0)


def test_what_a_run_folder_keeps_of_its_images(tmp_path):
    splits = {"train": split("train", ["7", "7"], [[1, -1], [0, 1]], ["a/1.png", "2.png"])}
    write_images(tmp_path / "images.csv", splits, ROOT)
    table = pd.read_csv(tmp_path / "images.csv")
    assert table.to_dict("list") == {
        "split": ["train", "train"],
        "path": ["a/1.png", "2.png"],
        "row": ["train.csv:2", "train.csv:3"],
        "group": [7, 7],
        "a": [1, 0],
        "b": [-1, 1],
    }
    assert counts(splits["train"]) == {
        "images": 2,
        "groups": 1,
        "findings": {
            "a": {"present": 1, "absent": 1, "unknown": 0},
            "b": {"present": 1, "absent": 0, "unknown": 1},
        },
    }
