"""Pre-training as a user runs it: real processes, killed ones too, one process and two."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mavl.config.loader import load
from mavl.config.settings import PretrainSettings
from mavl.data import phantom
from tests.support.processes import FINDINGS, TINY, run, write_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run("train_mavl.py", "--config", write_config(folder), "--output_dir", folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_a_run_folder_holds_all_that_tells_of_the_run(trained):
    names = {path.name for path in trained.iterdir()}
    assert list((trained / "mavl").rglob("events.out.tfevents.*"))
    assert names >= {"best", "last", "checkpoints", "log.jsonl", "config.yaml", "run.json", "left_out.json"}
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert {"loss", "loss_ce", "loss_cl", "loss_global", "lr"} <= set(lines[0])
    assert [line["step"] for line in lines if "valid_auroc" in line] == [10, 20]
    assert json.loads((trained / "run.json").read_text())["provenance"]["packages"]["torch"]
    assert load(PretrainSettings, trained / "config.yaml").findings == tuple(FINDINGS)
    assert [path.name for path in sorted((trained / "checkpoints").iterdir())] == ["step_00000018", "step_00000020"]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    """A benchmark of phantoms on disk, with a finding that the tiny model never trained on."""
    folder = tmp_path_factory.mktemp("benchmark")
    for split, seed, number in (("test", 11, 20), ("valid", 12, 14)):
        phantom.write_dataset(folder, split, seed, range(number), size=64)
    description = {
        "name": "phantoms",
        "title": "Phantoms",
        "root": str(folder),
        "findings": ["cardiomegaly", "effusion", "mass"],
        "splits": {"test": "test.csv", "valid": "valid.csv"},
        "images": {"column": "image", "path": "images/{}.png"},
        "labels": {"kind": "columns"},
    }
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(description))
    settings = {"benchmark": str(folder / "benchmark.yaml"), "batch_size": 6, "workers": 0, "text_cache": None}
    (folder / "zero_shot.yaml").write_text(yaml.safe_dump(settings | {"resamples": 20}))
    return folder


@pytest.mark.slow
def test_two_processes_train_and_evaluate_like_one(tmp_path, benchmark):
    data = TINY["data"] | {"batch_size": 2}
    config = write_config(tmp_path, data=data)
    said = run("train_mavl.py", "--config", config, "--output_dir", tmp_path / "run", processes=2).stdout
    assert said.count(f"{tmp_path / 'run'}/best") == 1  # the main process alone prints it
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == 20  # 40 images, two processes with two each
    results = {}
    for processes in (1, 2):
        folder = tmp_path / f"by_{processes}"
        model = ("--model_path", tmp_path / "run" / "best", "--output_dir", folder)
        run("zero_shot_classify.py", "--config", benchmark / "zero_shot.yaml", *model, processes=processes)
        [results[processes]] = folder.glob("phantoms/*/supervised_sound")
    scores = {processes: pd.read_csv(folder / "scores.csv") for processes, folder in results.items()}
    assert len(scores[1]) == 20
    pd.testing.assert_frame_equal(scores[1], scores[2], rtol=1e-6)
    tables = [pd.read_csv(folder / "results.csv") for folder in results.values()]
    pd.testing.assert_frame_equal(*tables, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["supervised", "contrastive"])
def test_evaluation_writes_table_scores_and_curves(trained, benchmark, tmp_path, head):
    arguments = ("--model_path", trained / "best", "--output_dir", tmp_path, "--head", head)
    shown = run("zero_shot_classify.py", "--config", benchmark / "zero_shot.yaml", *arguments).stdout
    [folder] = tmp_path.glob(f"phantoms/*/{head}_sound")
    names = {path.name for path in folder.iterdir()}
    assert names >= {"results.csv", "results.json", "scores.csv", "roc.png", "pr.png", "config.yaml"}
    assert "mass" in shown
    assert "best F1 on the 14 images of the validation split" in " ".join(shown.split())
    about = json.loads((folder / "results.json").read_text())["about"]
    assert (about["head"], about["findings_in_bank"]) == (head, len(FINDINGS) + 1)
    table = pd.read_csv(folder / "scores.csv")
    truth = [int("mass" in phantom.draw(11, index, 64).findings) for index in range(20)]
    assert table["mass_label"].tolist() == truth
    assert table["mass_score"].between(0, 1).all()


@pytest.mark.slow
def test_a_second_start_in_a_run_folder_is_refused_unless_it_is_the_same_run(trained, tmp_path):
    config = write_config(tmp_path)
    again = run("train_mavl.py", "--config", config, "--output_dir", trained, check=False)
    assert again.returncode == 2
    assert "--resume goes on with it" in again.stderr
    other = ("--output_dir", trained, "--resume", "--override", "optimizer.lr=1e-3")
    refused = run("train_mavl.py", "--config", config, *other, check=False)
    assert "optimizer.lr: 0.0001 then, 0.001 now" in refused.stderr
    assert "Traceback" not in refused.stderr
