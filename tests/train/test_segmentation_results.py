"""The test of a segmenter: its baselines, and a run folder with results that read back and a page."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from mavl.backbones import Preprocessing
from mavl.checkpoint import finetuned
from mavl.data.benchmarks.masks import BoxMask
from mavl.data.benchmarks.splits import Split
from mavl.data.segmentation import JointTransform, SegmentationDataset
from mavl.metrics.segmentation import PixelCounts
from mavl.model.unet import UNet
from mavl.report.segmentation import read_results
from mavl.report.training import TRAINING, plot_training
from mavl.train.segmentation import Segmentation, baselines, write_results
from tests.support.pages import check_self_contained


def dataset(folder, name: str, boxes: list, size: int = 8) -> SegmentationDataset:
    """Films of noise with one box each, in pixels of 8 × 8, or none."""
    rng = np.random.default_rng(len(name))
    paths = [folder / f"{name}{i}.png" for i in range(len(boxes))]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 20), dtype=np.uint8)).save(path)
    masks = [None if box is None else BoxMask((8, 8), np.array([box])) for box in boxes]
    labels = np.array([[int(box is not None)] for box in boxes], np.int8)
    rows = [f"{name}.csv:{i + 2}" for i in range(len(boxes))]
    split = Split(name, ("lesion",), paths, labels, None, rows, {"lesion": masks})
    return SegmentationDataset(split, JointTransform(Preprocessing(size)), equalize=False, seed=0)


@pytest.fixture
def segmenter(tmp_path) -> finetuned.Finetuned:
    torch.manual_seed(0)
    arguments = {"backbone": "resnet18", "image_size": 32}
    finetuned.save(tmp_path / "model", "segmenter", UNet(**arguments), arguments, ("lesion",), False, {}, {})
    return finetuned.load(tmp_path / "model")


def test_baselines_by_hand(tmp_path):
    left, right = (0, 0, 4, 8), (4, 0, 8, 8)
    datasets = {
        "train": dataset(tmp_path, "train", [left, left, left, right]),
        "valid": dataset(tmp_path, "valid", [left, left]),
        "test": dataset(tmp_path, "test", [left, right, None]),
    }
    found, note = baselines(datasets, 8)
    # 3/4 on the left, 1/4 on the right; the validation masks want the left half alone
    mean_mask, nothing = found["mean mask"], found["nothing"]
    assert mean_mask.predicted.tolist() == [32, 32, 32]
    assert mean_mask.dice.tolist() == [1, 0, 0]
    assert nothing.dice.tolist() == [0, 0, 1]
    assert "Mean mask: of the 4 training images" in note


def write(folder, segmenter):
    folder.mkdir()
    log = [{"epoch": 1, "step": s, "loss": 1.0, "valid_loss": 2.0, "valid_dice": 0.1 * s} for s in (1, 2)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    plot_training(folder / "log.jsonl", folder / TRAINING, 2, Segmentation.curves)
    (folder / "config.yaml").write_text("seeds: [0]\n")
    data = dataset(folder, "test", [(0, 0, 4, 8), (2, 2, 6, 6), None], 32)
    overlaps = {
        "U-Net": PixelCounts(np.array([512, 0, 3]), np.array([512, 256, 0]), np.array([256, 0, 0])),
        "nothing": PixelCounts(np.zeros(3), np.array([512, 256, 0]), np.zeros(3)),
    }
    about = {
        "title": "Noise <b>",
        "finding": "lesion",
        "split": "test",
        "network": "tiny",
        "training": "trained.",
        "best_step": 2,
        "started_from": ["random"],
        "notes": ["decided"],
        "baseline": "Mean mask: none.",
        "left_out": {"test": ["test.csv:9: gone"]},
        "provenance": {"python": "3", "packages": {}, "git": None, "platform": "here"},
    }
    return write_results(folder, overlaps, about, data, segmenter, 10, 2)


def test_results_read_back_and_the_page_stands_alone(tmp_path, segmenter):
    results = write(tmp_path / "one", segmenter)
    about, read = read_results(tmp_path / "one")
    assert about["title"] == "Noise <b>"
    assert read["U-Net"].means["dice"].value == pytest.approx((256 / 512 + 0 + 0) / 3)
    assert read == results
    rows = list(csv.DictReader((tmp_path / "one" / "results.csv").open()))
    assert [row["prediction"] for row in rows] == ["U-Net", "nothing"]
    assert float(rows[1]["dice"]) == pytest.approx(1 / 3)
    page = check_self_contained((tmp_path / "one" / "report.html").read_text())
    assert "Noise <b>" in page.text
    assert "Left out of the test split: 1" in page.text
    assert any(row[:1] == ["U-Net"] and "16.7" in row[2] for row in page.rows)
    assert [path["class"] for path in page.all("path")].count("true") == 2
