"""Fine-tuning a U-Net as a user runs it: real processes, one killed and resumed, and two at once."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

from mavl.predict.segmenter import load
from mavl.report.segmentation import read_results
from tests.support.processes import ROOT, command, environment, run

SIZE = 40


def draw(folder: Path, name: str, seed: int, empty: bool) -> None:
    """A dark film with noise and, unless it is empty, a bright disc, which is the mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    centre = rng.integers(12, SIZE - 12, 2)
    disc = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 64) & (not empty)
    film = rng.integers(20, 70, (SIZE, SIZE)) + 130 * disc
    for part, pixels in (("jpgs", film), ("masks", disc * 255)):
        path = folder / part / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """Patients p0 to p13, two films each, every fourth patient without a disc."""
    folder = tmp_path_factory.mktemp("discs")
    for split, patients in (("train", range(8)), ("valid", range(8, 11)), ("test", range(11, 14))):
        names = [f"p{patient}_{film}" for patient in patients for film in range(2)]
        for number, name in enumerate(names):
            draw(folder, name, 100 * patients[0] + number, empty=int(name[1:].split("_")[0]) % 4 == 0)
        (folder / f"{split}.csv").write_text("\n".join(["name", *names]) + "\n")
    benchmark = {
        "name": "discs",
        "title": "Discs",
        "root": str(folder),
        "findings": ["disc"],
        "splits": {split: f"{split}.csv" for split in ("train", "valid", "test")},
        "images": {"column": "name", "path": "jpgs/{}.png"},
        "groups": {"column": "name", "pattern": r"(p\d+)_"},
        "labels": {"kind": "mask"},
        "masks": {"kind": "file", "path": "masks/{}.png"},
    }
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(benchmark))
    settings = {
        "model": {"backbone": "resnet18", "image_size": 32},
        "data": {"benchmark": str(folder / "benchmark.yaml"), "batch_size": 4, "eval_batch_size": 4, "workers": 0},
        "init": {"backbone": "none"},
        "optimizer": {"lr": 3e-3},
        "schedule": {"epochs": 3, "warmup_epochs": 1},
        "train": {"checkpoint_every": 3, "log_every": 2},
        "resamples": 20,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shown = run("finetune_seg.py", "--config", config, "--output_dir", folder).stdout
    assert "Discs: disc" in shown
    return folder / "seed_0"


@pytest.mark.slow
def test_a_run_folder_holds_the_best_model_and_its_test(trained):
    names = {path.name for path in trained.iterdir()}
    assert names >= {
        "best",
        "last",
        "checkpoints",
        "log.jsonl",
        "config.yaml",
        "run.json",
        "images.csv",
        "left_out.json",
        "started_from.json",
    }
    assert names >= {"results.json", "results.csv", "cases.csv", "training.png", "report.html"}
    about, results = read_results(trained)
    assert list(results) == ["U-Net", "mean mask", "nothing"]
    assert (results["U-Net"].images, results["U-Net"].positives, results["U-Net"].groups) == (6, 4, 3)
    # two of the six test films are empty: to predict nothing scores 1 on these and 0 on the others
    assert results["nothing"].means["dice"].value == pytest.approx(2 / 6)
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    dice = {line["step"]: line["valid_dice"] for line in log if "valid_dice" in line}
    assert list(dice) == [4, 8, 12]
    assert about["best"] == max(dice.values()) == dice[about["best_step"]]
    cases = pd.read_csv(trained / "cases.csv")
    assert cases["dice"].mean() == pytest.approx(results["U-Net"].means["dice"].value)
    assert (cases["group"] == ["p11", "p11", "p12", "p12", "p13", "p13"]).all()


@pytest.mark.slow
def test_the_saved_model_predicts_what_was_tested(trained):
    segmenter = load(trained / "best")
    assert segmenter.finding == "disc"
    cases = pd.read_csv(trained / "cases.csv")
    for path, predicted in zip(cases["path"], cases["predicted"], strict=True):
        mask = segmenter.predict_mask(path)
        assert mask.shape == (SIZE, SIZE)
        assert mask.mean() == pytest.approx(predicted / 32**2, abs=0.02)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_weights_and_results(trained, config, tmp_path):
    arguments = ("finetune_seg.py", "--config", config, "--output_dir", tmp_path, "--resume")
    with (tmp_path / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command(*arguments), cwd=ROOT, env=environment(), stderr=errors, start_new_session=True
        )
    while process.poll() is None and not list((tmp_path / "seed_0" / "checkpoints").glob("step_*6")):
        time.sleep(0.01)
    assert process.poll() is None, (tmp_path / "stderr").read_text()[-3000:]
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "seed_0" / "results.json").exists()
    assert "resumed from" in run(*arguments).stdout
    expected, resumed = (load_file(folder / "last/model.safetensors") for folder in (trained, tmp_path / "seed_0"))
    assert [name for name in expected if not np.array_equal(expected[name], resumed[name])] == []
    pd.testing.assert_frame_equal(pd.read_csv(trained / "cases.csv"), pd.read_csv(tmp_path / "seed_0" / "cases.csv"))


@pytest.mark.slow
def test_two_processes_and_two_seeds(trained, config, tmp_path):
    half = ("--bs", 2, "--override", "schedule.epochs=1", "--seeds", 0, 1, "--data_pct", 0.5)
    run("finetune_seg.py", "--config", config, "--output_dir", tmp_path, *half, processes=2)
    drawn = {seed: pd.read_csv(tmp_path / f"seed_{seed}" / "images.csv") for seed in (0, 1)}
    whole = pd.read_csv(trained / "images.csv")
    for images in drawn.values():
        by_split = images.groupby("split")["group"].agg(set)
        assert len(by_split["train"]) == 4  # of eight patients, both films of each
        assert by_split["train"] & {"p0", "p4"}  # one of those without a disc
        pd.testing.assert_frame_equal(
            images[images["split"] != "train"].reset_index(drop=True), whole[16:].reset_index(drop=True)
        )
    assert set(drawn[0]["path"]) != set(drawn[1]["path"])
    summary = json.loads((tmp_path / "summary.json").read_text())
    values = [read_results(tmp_path / f"seed_{seed}")[1]["U-Net"].means["dice"].value for seed in (0, 1)]
    told = summary["predictions"]["U-Net"]["dice"]
    assert told["values"] == pytest.approx(values)
    assert (told["mean"], told["std"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
