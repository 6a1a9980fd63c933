"""Manifests of MIMIC: one image in several entries."""

import json
from pathlib import Path

import numpy as np
import pytest

from mavl.data import DataError
from mavl.data.labels import LabelStore
from mavl.data.samples import examine_manifest, image_path, read_reports


def examine(folder: Path, text: str):
    (folder / "train.json").write_text(text)
    return examine_manifest(folder / "train.json", folder / "labels.npy", 3)


def entry(row) -> str:
    return json.dumps({"labels_id": row})


@pytest.mark.parametrize("other", ["p10/a.jpg", "./p10/a.jpg", "p10//a.jpg", "p10\\\\a.jpg", "p11/../p10/a.jpg"])
@pytest.mark.parametrize(("row", "kind"), [(1, "repeated_row"), (2, "label_conflict")])
def test_one_image_in_two_entries(tmp_path, other, row, kind):
    kept, [problem] = examine(tmp_path, f'{{"p10/a.jpg": {entry(1)}, "{other}": {entry(row)}}}')
    assert (problem.kind, problem.tolerated) == (kind, row == 1)
    assert len(kept) == 1


def test_entries_that_contradict_each_other_are_refused(tmp_path):
    np.save(tmp_path / "labels.npy", np.zeros((3, 51, 75), np.int8))
    (tmp_path / "train.json").write_text(f'{{"a.jpg": {entry(0)}, "./a.jpg": {entry(1)}}}')
    with pytest.raises(DataError, match=r"\./a\.jpg is a\.jpg in another spelling: keep one of them"):
        read_reports(tmp_path / "train.json", LabelStore(tmp_path / "labels.npy"), None, "")


@pytest.mark.parametrize("row", ["true", "-1", "3", '"1"', "1.0", "null"])
def test_rows_that_no_label_file_has(tmp_path, row):
    kept, [problem] = examine(tmp_path, f'{{"a.jpg": {{"labels_id": {row}}}, "b.jpg": {entry(2)}}}')
    assert (list(kept), problem.kind) == (["b.jpg"], "label_store")


def test_manifests_nested_too_deeply_are_one_error(tmp_path):
    (tmp_path / "train.json").write_text('{"a": ' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"train\.json: more than 100 levels"):
        examine_manifest(tmp_path / "train.json", tmp_path / "labels.npy", 3)


def test_an_image_lies_below_the_root_whatever_its_spelling():
    assert image_path("/old/./p10\\a.jpg", Path("root"), "/old") == Path("root/p10/a.jpg")
    assert image_path("p10//a.jpg", None, "/old") == Path("p10/a.jpg")
