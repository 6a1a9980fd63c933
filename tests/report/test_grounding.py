"""What the table, the files and the page show of maps and masks made by hand."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mavl.metrics.grounding import METRICS
from mavl.metrics.margins import ALL, MAPS
from mavl.report.pictures.gallery import best_and_worst, plot_gallery
from tests.support.grounding_results import case, write_all
from tests.support.pages import check_self_contained


@pytest.fixture(autouse=True)
def intervals_of_few_cases(monkeypatch):
    """A bootstrap interval of any number of images."""
    monkeypatch.setattr("mavl.metrics.intervals.FEWEST", 1)


def test_every_output_has_the_numbers_of_the_model(tmp_path):
    # Above 0.25: the left column in the first image, Dice 1; the upper right and lower left pixel in the second, 1/2.
    written = write_all(tmp_path)
    row = next(line for line in written["terminal"].splitlines() if line.startswith("effusion")).split()
    # n, point, AP (1 + 1/2) / 2, max. Dice (1 + 2/3) / 2, CNR, IoU (1 + 1/3) / 2, Dice, its interval, R, P, acc.
    assert row[:5] == ["effusion", "2", "50.0", "75.0", "83.3"]
    assert row[6:8] == ["66.7", "75.0"]
    assert row[9:] == ["75.0", "75.0", "75.0"]
    rows = list(csv.DictReader(io.StringIO(written["csv"])))
    assert [(row["finding"], row["map"]) for row in rows[:3]] == [("effusion", name) for name in MAPS]
    assert list(rows[0])[:7] == ["finding", "map", "cases", "threshold", "iou", "iou_low", "iou_high"]
    assert (float(rows[0]["dice"]), float(rows[0]["threshold"])) == (0.75, 0.25)
    found = json.loads(written["json"])
    assert list(found["findings"]["effusion"]["model"]["means"]) == [*METRICS]
    assert found["findings"]["effusion"]["centre"]["undefined"] == {"precision": 2}  # nothing is above 0.25
    assert found["model_minus"][ALL]["random"]["dice"]["value"] == pytest.approx(0.75 - 0.5)
    page = check_self_contained(written["page"])
    row = next(row for row in page.rows if row[:2] == ["effusion", "2"])
    assert row[3] == "50.0 0.0–100.0"
    assert row[8].startswith("75.0 ")


def test_without_a_threshold_its_metrics_are_not_shown(tmp_path):
    written = write_all(tmp_path, threshold=None)
    head = written["terminal"].splitlines()[1].split()
    assert " ".join(head) == "finding n point 95 % AP 95 % max. Dice 95 % CNR"
    page = check_self_contained(written["page"])
    assert next(row for row in page.rows if row[0] == "finding")[3:] == ["point", "AP", "max. Dice", "CNR"]
    assert next(iter(csv.DictReader(io.StringIO(written["csv"]))))["dice"] == ""


def test_best_and_worst_share_no_case():
    cases = pd.DataFrame({"dice": [0.2, np.nan, 0.9, 0.4], "best_dice": 1.0})
    assert best_and_worst(cases, 2, lambda number: number) == {"best": [2, 3], "worst": [0]}
    without = pd.DataFrame({"dice": [np.nan] * 2, "best_dice": [0.3, 0.6]})
    assert best_and_worst(without, 2, lambda number: number) == {"best": [1], "worst": [0]}


def test_the_gallery_is_a_picture_of_radiographs_above_their_heatmaps(tmp_path):
    plot_gallery({"best": [case("a.png")], "worst": [case("b.png")]}, tmp_path / "gallery.png")
    with Image.open(tmp_path / "gallery.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert image.height > 2 * image.width
    assert (abs(pixels - 90) <= 1).all(axis=2).sum() > 2 * 200**2  # two radiographs, which are grey
    assert (pixels[..., 0] - pixels[..., 1] > 10).sum() > 10_000  # the purple of heatmaps; outlines have little red


def test_the_gallery_outlines_the_pixels_of_the_mask(tmp_path):
    """A mask of 6 x 4 cells over a picture of 12 x 8 pixels: its cells [1:3, 2:4] are the grey block of the picture."""
    pixels, mask = np.zeros((12, 8), np.uint8), np.zeros((6, 4), bool)
    pixels[2:6, 4:8], mask[1:3, 2:4] = 90, True
    shown = replace(case("a.png"), picture=Image.fromarray(pixels), mask=mask)
    plot_gallery({"best": [shown]}, tmp_path / "gallery.png")
    with Image.open(tmp_path / "gallery.png") as image:
        figure = np.asarray(image.convert("RGB")).astype(int)
    radiograph = figure[: len(figure) // 2]  # above its heatmap
    block, outline = (abs(radiograph - 90) <= 1).all(axis=2), radiograph[..., 2] - radiograph[..., 0] > 50
    for along in (0, 1):
        borders = [np.flatnonzero(found.sum(axis=along) > 20)[[0, -1]] for found in (block, outline)]
        np.testing.assert_allclose(*borders, atol=3)  # a pixel of the picture has some 25 of the figure


@pytest.mark.parametrize(
    ("threshold", "places"),
    [
        (0.25, ["150.0"]),  # of 4 patches: an even map, in the middle of 1/16 to 16 times it
        (0.125, ["112.5"]),  # half of that: a step of log 2 to the left, of the 8 in 300
        (1 / 64, ["0.0"]),
        (4.0, ["300.0"]),
        (4.1, []),
        (1 / 65, []),
        (0.0, []),
        (None, []),
    ],
)
def test_the_threshold_of_the_table_is_marked_in_the_curve(tmp_path, threshold, places):
    page = check_self_contained(write_all(tmp_path, threshold)["page"])
    assert [line["x1"] for line in page.all("line", **{"class": "threshold"})] == places


def test_an_outline_is_over_the_pixels_of_its_mask(tmp_path):
    page = check_self_contained(write_all(tmp_path)["page"])
    [true] = page.all("path", **{"class": "mask"})
    corners = np.array([corner.split() for corner in true["d"].strip("MZ").split("L")], float)
    assert [corners.min(axis=0).tolist(), corners.max(axis=0).tolist()] == [[0, 0], [1, 2]]
    assert len(page.all("path", **{"class": "predicted"})) == 1
