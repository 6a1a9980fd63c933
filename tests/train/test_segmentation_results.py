"""What a test of masks writes: baselines, the choice of images, files that read back, a page, predicted masks."""

import csv
import json
import runpy
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mavl.checkpoint import finetuned
from mavl.checkpoint.folder import CheckpointError
from mavl.config.finetune import SegmentationData
from mavl.data.benchmarks.masks import BoxMask
from mavl.data.benchmarks.splits import Split
from mavl.data.images.inputs import Failure, NoImageError
from mavl.data.segmentation import SegmentationDataset, joint_eval_transform, open_data
from mavl.metrics.segmentation import PixelCounts
from mavl.model.unet import UNet
from mavl.predict.mask_files import write_masks
from mavl.predict.segmenter import Segmenter, load
from mavl.text.synonyms import UnknownFindingError
from mavl.train.segmentation_results import baselines, choose_cases, read_results, summarize_seeds, tell, write_results
from tests.support.pages import check_self_contained
from tests.support.processes import ROOT


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
    return SegmentationDataset(split, joint_eval_transform(size), equalize=False, seed=0)


@pytest.fixture
def segmenter(tmp_path) -> Segmenter:
    torch.manual_seed(0)
    shown = {"image_size": 32, "equalize": False, "interpolation": "bilinear"}
    finetuned.save(
        tmp_path / "model", "segmenter", UNet("resnet18"), {"backbone": "resnet18"}, ("lesion",), shown, {}, {}
    )
    return load(tmp_path / "model")


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


def write(folder, segmenter, seed: int):
    folder.mkdir()
    log = [{"epoch": 1, "step": s, "loss": 1.0, "valid_loss": 2.0, "valid_dice": 0.1 * s} for s in (1, 2)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    (folder / "config.yaml").write_text("seeds: [0]\n")
    data = dataset(folder, "test", [(0, 0, 4, 8), (2, 2, 6, 6), None], 32)
    overlaps = {
        "U-Net": PixelCounts(np.array([512, 0, 3]), np.array([512, 256, 0]), np.array([256 * seed, 0, 0])),
        "nothing": PixelCounts(np.zeros(3), np.array([512, 256, 0]), np.zeros(3)),
    }
    about = {
        "title": "Noise <b>",
        "finding": "lesion",
        "split": "test",
        "network": "tiny",
        "training": "trained.",
        "best_step": 2,
        "started_from": ["drawn at random"],
        "notes": ["decided"],
        "baseline": "Mean mask: none.",
        "left_out": {"test": ["test.csv:9: gone"]},
        "provenance": {"python": "3", "packages": {}, "git": None, "platform": "here"},
    }
    return write_results(folder, overlaps, about, data, segmenter, resamples=10, gallery=2)


def test_results_read_back_and_the_page_stands_alone(tmp_path, segmenter, capsys):
    results = write(tmp_path / "one", segmenter, 1)
    about, told = read_results(tmp_path / "one")
    assert about["title"] == "Noise <b>"
    assert told["U-Net"].means["dice"].value == pytest.approx((0.5 + 0 + 0) / 3)
    assert told == results
    rows = list(csv.DictReader((tmp_path / "one" / "results.csv").open()))
    assert [row["prediction"] for row in rows] == ["U-Net", "nothing"]
    assert float(rows[1]["dice"]) == pytest.approx(1 / 3)
    page = check_self_contained((tmp_path / "one" / "report.html").read_text())
    assert "Noise <b>" in page.text
    assert "Left out of the test split: 1" in page.text
    assert any(row[:1] == ["U-Net"] and "16.7" in row[2] for row in page.rows)
    outlines = [path["class"] for path in page.all("path")]
    assert outlines.count("true") == 2
    tell({0: tmp_path / "one"}, tmp_path)  # a summary of one seed, too
    assert json.loads((tmp_path / "summary.json").read_text())["predictions"]["U-Net"]["dice"]["std"] is None
    [row, _] = csv.DictReader((tmp_path / "summary.csv").open())
    assert (row["name"], float(row["dice_mean"]), row["dice_std"]) == ("U-Net", pytest.approx(1 / 6), "")
    write(tmp_path / "two", segmenter, 2)
    tell({0: tmp_path / "one", 1: tmp_path / "two"}, tmp_path)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80 or "page:" in shown
    # 1/6 and 1/3: mean 1/4, standard deviation 1/6 / sqrt(2)
    assert "25.0 ± 11.8" in shown
    summary = summarize_seeds([told, read_results(tmp_path / "two")[1]])
    assert (
        json.loads((tmp_path / "summary.json").read_text())["predictions"]["U-Net"]["dice"] == summary["U-Net"]["dice"]
    )


def test_masks_of_any_images(tmp_path, segmenter):
    for name, size in (("a.png", (60, 40)), ("sub/a.png", (33, 70))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", size, 120).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"none")
    images = [tmp_path / name for name in ("a.png", "broken.png", "sub/a.png")]
    written = write_masks(segmenter, "model", images, tmp_path / "out", failures=[Failure("x", "unknown")])
    assert (written.images, [failure.name for failure in written.failures]) == (2, ["x", str(images[1])])
    rows = list(csv.DictReader((tmp_path / "out" / "masks.csv").open()))
    assert [row["mask"] for row in rows] == ["masks/a.png", "masks/a~2.png"]
    for row, size in zip(rows, ((60, 40), (33, 70)), strict=True):
        with Image.open(tmp_path / "out" / row["mask"]) as mask:
            assert mask.size == size
            assert int(row["pixels"]) == (np.asarray(mask) == 255).sum()
        assert (float(row["surest"]) > 0.5) == (int(row["pixels"]) > 0)
    check_self_contained((tmp_path / "out" / "masks.html").read_text())
    (tmp_path / "out" / "masks" / "of_the_user.png").touch()
    write_masks(segmenter, "model", images[:1], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out" / "masks").iterdir()) == ["a.png", "of_the_user.png"]
    with pytest.raises(NoImageError):
        write_masks(segmenter, "model", images[1:2], tmp_path / "out")
    with pytest.raises(UnknownFindingError, match="pneumonia"):
        write_masks(segmenter, "model", images, tmp_path / "out", findings=["lesion", "pneumonia"])


def test_predict_outlines_with_a_segmenter(tmp_path, segmenter, capsys, monkeypatch):
    script = runpy.run_path(str(ROOT / "predict.py"))
    Image.new("L", (60, 40), 120).save(tmp_path / "film.png")
    arguments = ["predict.py", str(tmp_path / "film.png"), "--model", str(tmp_path / "model")]
    monkeypatch.setattr(sys, "argv", [*arguments, "--out", str(tmp_path / "out")])
    assert script["main"]() == 0
    assert capsys.readouterr().out == f"1 images: {tmp_path / 'out' / 'masks.html'}\n"
    assert (tmp_path / "out" / "masks" / "film.png").exists()
    monkeypatch.setattr(sys, "argv", [*arguments, "--findings", "edema", "--out", str(tmp_path / "other")])
    assert script["main"]() == 2
    assert capsys.readouterr().err.startswith("error: unknown finding 'edema'")
    monkeypatch.setattr(sys, "argv", [*arguments, "--books", "b.json", "--top", "0", "--out", str(tmp_path / "other")])
    assert script["main"]() == 2
    assert "a fine-tuned segmenter takes no --books, no --top" in capsys.readouterr().err


def test_a_network_that_only_says_yes_outlines_the_whole_image(segmenter):
    with torch.no_grad():
        segmenter.source.model.seg_classifier.weight.zero_()
        segmenter.source.model.seg_classifier.bias.fill_(2.0)
    probability = segmenter.probability(Image.new("L", (50, 45)))
    np.testing.assert_allclose(probability, np.full((45, 50), 1 / (1 + np.exp(-2))), rtol=1e-5)
    assert segmenter.predict_mask(Image.new("L", (50, 45))).all()


def test_another_kind_of_model_is_refused(tmp_path, segmenter):
    about = json.loads((tmp_path / "model" / "mavl.json").read_text())
    (tmp_path / "model" / "mavl.json").write_text(json.dumps(about | {"kind": "classifier"}))
    with pytest.raises(CheckpointError):
        load(tmp_path / "model")


def test_folders_without_splits_are_drawn_by_patient(tmp_path):
    for patient in range(10):
        for film in range(2):
            for part in ("images", "masks"):
                path = tmp_path / part / f"p{patient}" / f"{film}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((16, 16), 255 * (patient % 2), np.uint8)).save(path)
    folder = {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks"), "patient": r"(p\d+)/"}
    data = SegmentationData(folder=folder, test_share=0.2, valid_share=0.25, check_images="exists", workers=0)
    opened = [open_data(data, seed, progress=False) for seed in (0, 1)]
    patients = [{name: set(split.groups) for name, split in each.splits.items()} for each in opened]
    for each in patients:
        assert [len(each[name]) for name in ("test", "valid", "train")] == [2, 2, 6]
        assert not each["train"] & each["valid"] | each["train"] & each["test"] | each["valid"] & each["test"]
    assert patients[0]["test"] == patients[1]["test"]
    assert all(len(split.paths) == 2 * len(each[name]) for each, o in zip(patients, opened, strict=True)
               for name, split in o.splits.items())  # fmt: skip
    positive = open_data(data.model_copy(update={"only_present": True}), 0, progress=False)
    assert set().union(*(split.groups for split in positive.splits.values())) == {"p1", "p3", "p5", "p7", "p9"}
