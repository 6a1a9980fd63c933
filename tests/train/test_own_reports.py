"""Reports of one's own, from a CSV to a trained model, by the scripts: labels, sentences, the contrast of both."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mavl.config.loader import ConfigError, load
from mavl.config.settings import PretrainSettings
from mavl.data import phantom
from tests.support.planted import write_yaml
from tests.support.processes import FINDINGS, TINY, different, run

NUMBER = 48


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """The config of a training on phantoms' reports as `prepare_data.py reports` labels them."""
    folder = tmp_path_factory.mktemp("reports")
    with open(folder / "reports.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "report", "split"])
        for index in range(NUMBER):
            made = phantom.draw(5, index, 64)
            Image.fromarray(made.image).save(folder / f"{index}.png")
            rows.writerow([f"{index}.png", made.report, "train" if index < 36 else "valid"])
    columns = ("--image-column", "image", "--text-column", "report", "--split-column", "split")
    run("prepare_data.py", "reports", "--csv", folder / "reports.csv", *columns, "--out", folder / "labels")
    return write_yaml(
        folder / "train.yaml",
        findings=FINDINGS,
        model=TINY["model"],
        init=TINY["init"],
        text={"encoder": "random", "cache": None},
        data={
            "source": "reports",
            "labels": str(folder / "labels"),
            "root": str(folder),
            "batch_size": 4,
            "workers": 1,
        },
        schedule={"epochs": 2, "warmup_steps": 2, "warmup_stair": 1},
        train={"report_weight": 0.5, "log_every": 3, "checkpoint_every": 4},
    )


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_images_and_reports_are_compared_and_a_resumed_run_ends_the_same(config):
    folder = config.parent
    whole, parts = folder / "whole", folder / "parts"
    first = run("train_mavl.py", "--config", config, "--output_dir", whole)
    assert "36 training and 12 validation images, 6 findings × 9 aspects" in first.stdout
    about = json.loads((whole / "best/mavl.json").read_text())
    assert about["model"]["report_head"] is True
    contrast = [line["loss_report"] for line in log(whole) if "loss_report" in line]
    assert contrast[0] == pytest.approx(0.5 * np.log(4), rel=0.8)  # of four reports, by chance at first
    assert "valid_loss_report" in log(whole)[-1]

    run("train_mavl.py", "--config", config, "--output_dir", parts, "--override", "schedule.epochs=2")
    newest = sorted((parts / "checkpoints").iterdir())[-1]
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    run("train_mavl.py", "--config", config, "--output_dir", parts, "--resume")
    assert different(whole, parts) == []

    predicted = run("predict.py", folder / "0.png", "--model", whole / "best", "--out", folder / "predicted")
    assert predicted.returncode == 0


@pytest.mark.slow
def test_a_model_with_the_contrast_starts_from_one_without_and_the_other_way_round(config):
    folder = config.parent
    plain = [*("train_mavl.py", "--config", config, "--override", "train.report_weight=0")]
    one_epoch = ("--override", "schedule.epochs=1")
    run(*plain, "--output_dir", folder / "plain", *one_epoch)
    assert "report_head" not in json.loads((folder / "plain/best/mavl.json").read_text())["model"]
    init = ("--checkpoint", folder / "plain/best")
    run("train_mavl.py", "--config", config, "--output_dir", folder / "with", *one_epoch, *init)
    run(*plain, "--output_dir", folder / "without", *one_epoch, "--checkpoint", folder / "with/best")


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        (("data.source=phantom",), "train.report_weight needs the reports of data.source reports"),
        (("model.contrastive=false",), "train.report_weight needs model.contrastive"),
    ],
)
def test_settings_without_reports_or_pooling_are_refused(config, changed, complaint):

    changed = ["data={source: phantom}"] if changed[0].startswith("data") else list(changed)
    with pytest.raises(ConfigError, match=complaint):
        load(PretrainSettings, config, changed)
