"""What the table and the files show of a segmentation, and the choice of the images on its page."""

import csv
import json

import numpy as np
import pytest

from mavl.data.benchmarks.splits import Split
from mavl.metrics.segmentation import PixelCounts, summarize
from mavl.report import segmentation as report
from mavl.report.segmentation import choose_cases


def results(*hits: int):
    """Of a mask of four pixels and an empty one, this many hit in the first and none predicted in the second."""
    return {
        f"hit {hit}": summarize(PixelCounts(np.array([4, 0]), np.array([4, 0]), np.array([hit, 0])), resamples=0)
        for hit in hits
    }


def test_which_images_are_shown():
    dice = np.linspace(0.1, 0.9, 9)
    # true and predicted of ten pixels each: a Dice of d needs 10 d in both; then two empty masks, one false alarm
    overlap = PixelCounts(np.r_[np.full(9, 10), 0, 7], np.r_[np.full(9, 10), 0, 0], np.r_[10 * dice, 0, 0])
    chosen = choose_cases(overlap, 2)
    assert chosen["Best"] == [8, 7]
    assert chosen["Median"] == [5, 4]
    assert chosen["Worst"] == [1, 0]
    assert [*chosen.values()][3] == [10]
    few = choose_cases(PixelCounts(np.full(4, 10), np.full(4, 10), np.array([9, 1, 5, 3])), 2)
    assert (few["Best"], few["Median"], few["Worst"]) == ([0, 2], [3], [1])


def test_results_are_written_and_read_back(tmp_path):
    found = results(4, 2)
    report.write_csv(found, tmp_path / "results.csv")
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    # Dice 2 of 4 pixels, and 1 of the empty mask: mean 3/4; IoU (3 / 7 + 1) / 2
    assert list(rows[1])[:5] == ["prediction", "images", "positives", "dice", "dice_low"]
    assert [float(rows[1][name]) for name in ("dice", "dice_positive", "dice_empty")] == [0.75, 0.5, 1]
    assert float(rows[1]["iou"]) == pytest.approx(5 / 7)
    report.write_json(found, tmp_path / "results.json", {"title": "Films"})
    about, read = report.read_results(tmp_path)
    assert (about, repr(read)) == ({"title": "Films"}, repr(found))  # equal but for NaN, which equals nothing


def test_lines_of_every_image(tmp_path):
    split = Split("test", ("lesion",), ["a.png", "b.png"], np.ones((2, 1)), None, ["t.csv:2", "t.csv:3"], None)
    report.write_cases(tmp_path / "cases.csv", split, PixelCounts([4, 0], [4, 0], [2, 0]))
    assert (tmp_path / "cases.csv").read_text().splitlines() == [
        "path,row,dice,iou,predicted,true,both",
        "a.png,t.csv:2,0.5,0.428571429,4,4,2",
        "b.png,t.csv:3,1,1,0,0,0",
    ]


def test_mean_over_seeds(tmp_path, capsys):
    # Dice of the two seeds: 1 and 1/2 with the mask, so 1 and 3/4 over both images: mean 7/8, deviation 1/8 · sqrt(2).
    folders = {}
    for seed, hit in ((0, 4), (1, 2)):
        folders[seed] = tmp_path / str(seed)
        folders[seed].mkdir()
        about = {"title": "Films", "finding": "lesion", "baseline": "Mean mask: none."}
        report.write_json({"U-Net": results(hit)[f"hit {hit}"]}, folders[seed] / "results.json", about)
    report.print_summary(folders, tmp_path)
    printed = capsys.readouterr().out
    assert "87.5 ± 17.7" in printed
    assert max(map(len, printed.splitlines())) <= 80 or "page:" in printed
    [row] = csv.DictReader((tmp_path / "summary.csv").open())
    assert (row["name"], float(row["dice_mean"])) == ("U-Net", 0.875)
    assert json.loads((tmp_path / "summary.json").read_text())["predictions"]["U-Net"]["dice"]["values"] == [1, 0.75]
    report.print_summary({0: folders[0]}, tmp_path)  # one seed has a summary too
    assert json.loads((tmp_path / "summary.json").read_text())["predictions"]["U-Net"]["dice"]["std"] is None
