"""Phantoms as files: the folder of a data set, the contact sheet, the command."""

import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from mavl.data.phantom import contact_sheet, draw, write_dataset
from mavl.data.phantom.__main__ import main

SEED, SIZE = 5, 64


def test_a_contact_sheet_has_a_tile_for_each():
    phantoms = [draw(SEED, index, SIZE) for index in range(6)]
    sheet = contact_sheet(phantoms, columns=4)
    assert sheet.width == 8 + 4 * (SIZE + 8)
    assert sheet.height > 2 * SIZE
    assert contact_sheet(phantoms[:2], columns=4).width == 8 + 2 * (SIZE + 8)
    marked = next(phantom for phantom in phantoms if phantom.findings)
    tile = np.asarray(contact_sheet([marked]))[30 : 30 + SIZE, 8 : 8 + SIZE].astype(int)
    coloured = np.ptp(tile, axis=2) > 0
    union = np.logical_or.reduce(list(marked.masks.values()))
    assert coloured.any()
    assert not (coloured & ~union).any()
    with pytest.raises(ValueError, match="0 phantoms"):
        contact_sheet([])


def test_a_written_data_set_holds_what_was_drawn(tmp_path):
    folder = tmp_path / "set"
    write_dataset(folder, "test", seed=SEED, indices=[3, 4, 6], size=48, exclude=["tube"])
    drawn = {f"s5000000{index}": draw(SEED, index, 48, ["tube"]) for index in (3, 4, 6)}
    with open(folder / "test.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [f"test/{name}" for name in drawn]
    for row, (name, phantom) in zip(rows, drawn.items(), strict=True):
        assert {column for column, value in row.items() if value == "1"} - {"normal", "clear"} == phantom.findings
        assert row["normal"] == str(int(not phantom.findings))
        with Image.open(folder / "images" / f"{row['image']}.png") as image:
            assert image.text == {"Description": "synthetic phantom, not a patient"}
            np.testing.assert_array_equal(np.asarray(image), phantom.image)
        masks = {path.parts[-3]: np.asarray(Image.open(path)) for path in folder.glob(f"masks/*/test/{name}.png")}
        assert masks.keys() == phantom.findings
        for finding, mask in masks.items():
            np.testing.assert_array_equal(mask, 255 * phantom.masks[finding])
    reports = json.loads((folder / "test_reports.json").read_text())
    assert list(reports) == [f"p10/p1000000{index}/s5000000{index}.txt" for index in (3, 4, 6)]
    assert list(reports.values()) == [phantom.graph for phantom in drawn.values()]


def test_masks_of_other_phantoms_do_not_stay(tmp_path):
    for seed in (1, 2):
        write_dataset(tmp_path, "test", seed, range(6), size=48)
    expected = {(name, f"s5000000{index}") for index in range(6) for name in draw(2, index, 48).masks}
    assert {(path.parts[-3], path.stem) for path in tmp_path.glob("masks/*/test/*.png")} == expected
    assert expected != {(name, f"s5000000{index}") for index in range(6) for name in draw(1, index, 48).masks}


def test_the_command_writes_a_folder(tmp_path, monkeypatch):
    command = ["phantom", "--out", str(tmp_path / "out"), "--split", "valid"]
    command += ["--number", "3", "--seed", "1", "--size", "32"]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert len(list((tmp_path / "out" / "images" / "valid").glob("*.png"))) == 3
    assert (tmp_path / "out" / "valid.png").is_file()
