"""Fine-tuning as a user runs it: several seeds, killed and resumed, one process and two; and what they share."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
import yaml
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from safetensors.numpy import load_file
from torch.utils.data import Dataset

from mavl.checkpoint import CheckpointError, finetuned
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.loader import ConfigError, load
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.data.benchmarks.splits import Split
from mavl.files import OutsideError
from mavl.model.classifier import Classifier
from mavl.report.classification import read_results
from mavl.train import classification
from mavl.train.classification import baseline, build_model
from mavl.train.engine import build_accelerator
from mavl.train.finetune import Rounds, assemble
from tests.support import tiny

# What the runs share --------------------------------------------------------------------------------------------------


def test_rounds_go_through_all_images_and_augment_them_differently():
    batches = Rounds(5, 2, 3, 0, 0, 1, 1)  # 5 images twice, 3 a batch
    assert batches.steps_per_epoch == 3
    batches.start_at(4)
    keys = [key for batch in batches for key in batch]
    assert len(keys) == len(set(keys)) == 9
    assert {epoch for epoch, _ in keys} == {8, 9}
    assert {index for _, index in keys} == set(range(5))


class Nothing(Dataset):
    def __init__(self, length: int):
        self.length = length

    def __len__(self) -> int:
        return self.length


@pytest.fixture
def one_process():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.mark.parametrize(
    ("images", "batch_size", "min_steps", "expected"),
    [
        (100, 20, 1, (20, 5)),
        (7, 256, 1, (7, 1)),  # too few for a batch
        (7, 256, 4, (7, 4)),
        (100, 20, 6, (20, 10)),  # twice through the images
        (50, 20, 4, (20, 5)),  # 4 steps take 80 images: twice through the 50
    ],
)
def test_steps_of_an_epoch(tmp_path, one_process, images, batch_size, min_steps, expected):
    data = {"benchmark": "none", "batch_size": batch_size, "workers": 0}
    schedule = {"epochs": 10, "min_steps": min_steps, "warmup_epochs": 2, "warmup_lr": 0.0}
    settings = FinetuneClsSettings(data=data, schedule=schedule, optimizer={"lr": 1.0})
    accelerator = build_accelerator(settings.train, tmp_path, 0)
    task = type("Task", (), {"model": Classifier(backbone="resnet18", classes=1, layer4=False)})()
    fit = assemble(task, Nothing(images), settings, accelerator, tmp_path)
    assert (fit.batches.batch_size, fit.batches.steps_per_epoch) == expected
    steps = expected[1]
    assert fit.scheduler.get_last_lr() == [0.0, 0.0]
    for rate in (1 / 2, (1 + math.cos(math.pi * 2 / 9)) / 2):  # half-way through the warm-up, and after it
        for _ in range(steps):
            fit.optimizer.step()
            fit.scheduler.step()
        assert fit.scheduler.get_last_lr()[0] == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize("schema", [FinetuneClsSettings, FinetuneSegSettings])
def test_a_rate_that_would_climb_or_never_be_reached_is_refused(schema):
    given = ["data.benchmark=none", "schedule.warmup_epochs=5", "schedule.epochs=5", "optimizer.lr=1e-6"]
    message = (
        r"schedule\.min_lr \(1e-05\) and schedule\.warmup_lr \(1e-05\) above optimizer\.lr \(1e-06\).* at most 1e-06"
    )
    with pytest.raises(ConfigError, match=message):
        load(schema, None, given)
    load(schema, None, [*given, "schedule.min_lr=1e-6", "schedule.warmup_lr=0"])
    with pytest.raises(ConfigError, match=r"schedule\.warmup_epochs \(5\) above schedule\.epochs \(1\)"):
        load(schema, None, [*given, "schedule.min_lr=0", "schedule.warmup_lr=0", "schedule.epochs=1"])
    load(schema, None, [*given, "optimizer.lr=1e-5", "schedule.epochs=1"])  # a warm-up that warms nothing


def test_a_checkpoint_that_is_not_there_is_told_before_all_else(tmp_path, one_process):
    output_dir = tmp_path / "runs"
    init = {"backbone": "none", "checkpoint": str(tmp_path / "nope.pth")}
    settings = FinetuneClsSettings(data={"benchmark": "no such file"}, init=init, output_dir=str(output_dir))
    with pytest.raises(
        CheckpointError, match=r"nope\.pth: no such file; name another by --checkpoint .*checkpoint=null"
    ):
        classification.run(settings)
    assert not output_dir.exists()


def test_a_link_in_place_of_the_folder_of_a_seed_is_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "seed_1").symlink_to(tmp_path / "other")
    settings = FinetuneClsSettings(data={"benchmark": "x"}, seeds=[0, 1], output_dir=str(tmp_path / "run"))
    with pytest.raises(OutsideError, match=r"run/seed_1 is a link to \S+other: remove it"):
        classification.run(settings)
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "seed_1"]


def test_the_baseline_by_hand():
    labels = np.array([[1, 0], [1, 0], [0, 1], [1, -1]], dtype=np.int8)
    test = Split("test", ("a", "b"), [Path(str(i)) for i in range(4)], labels, None, list("1234"), None)
    trained = np.array([[1, 0], [1, 0], [1, 0], [0, 0], [0, 1], [-1, -1]], dtype=np.int8)  # present in 3 and 1 of 5
    train = Split("train", ("a", "b"), [Path(str(i)) for i in range(6)], trained, None, list("123456"), None)
    first, second = (
        {name: result.metrics[name].value for name in ("auroc", "accuracy", "best_f1", "average_precision")}
        for result in baseline(train, test).classes
    )
    # a: all are called present, 3 of 4 right; F1 2·3 / (3 + 4); precision 3/4 at recall 1
    assert first == {"auroc": 0.5, "accuracy": 0.75, "best_f1": pytest.approx(6 / 7), "average_precision": 0.75}
    # b: none is, 2 of 3 right; F1 of calling all present 2·1 / (1 + 3)
    assert second == pytest.approx({"auroc": 0.5, "accuracy": 2 / 3, "best_f1": 1 / 2, "average_precision": 1 / 3})


def test_a_probe_through_random_layers_is_refused(tmp_path, one_process):
    pretrained = tiny.write_model(tmp_path)
    init = {"backbone": "none", "checkpoint": str(pretrained)}
    model = {"backbone": "resnet18", "linear_probe": True, "layer4": True}
    settings = FinetuneClsSettings(data={"benchmark": "none"}, init=init, model=model)
    accelerator = build_accelerator(settings.train, tmp_path, 0)
    with pytest.raises(CheckpointError, match=r"random weights .*layer4\): set model\.layer4 to false"):
        build_model(settings, 2, accelerator)
    by_default = settings.model_copy(update={"model": settings.model.model_copy(update={"layer4": None})})
    probe, arguments, [transfer] = build_model(by_default, 2, accelerator)
    assert (transfer.kept, arguments["layer4"]) == ([], False)
    assert [name for name, value in probe.named_parameters() if value.requires_grad] == ["head.weight", "head.bias"]


def test_a_probe_of_a_shorter_checkpoint_names_its_backbone(tmp_path, one_process):
    pretrained = str(tiny.write_model(tmp_path, backbone="resnet18@layer2"))
    model = {"backbone": "resnet18", "linear_probe": True}
    settings = FinetuneClsSettings(
        data={"benchmark": "none"}, init={"backbone": "none", "checkpoint": pretrained}, model=model
    )
    accelerator = build_accelerator(settings.train, tmp_path, 0)
    with pytest.raises(
        CheckpointError, match=r"backbone's layer3\): set model\.backbone to the checkpoint's, resnet18@layer2$"
    ):
        build_model(settings, 2, accelerator)
    given = settings.model.model_copy(update={"backbone": "resnet18@layer2"})
    _, _, [transfer] = build_model(settings.model_copy(update={"model": given}), 2, accelerator)
    assert transfer.kept == []


def test_a_probe_of_two_sources_says_so(tmp_path, one_process, capsys):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "whole.pth")
    init = {"backbone": str(tmp_path / "whole.pth"), "checkpoint": str(tiny.write_model(tmp_path))}
    for layer4, said in ((None, False), (True, True)):
        model = {"backbone": "resnet18", "linear_probe": True, "layer4": layer4}
        settings = FinetuneClsSettings(data={"benchmark": "none"}, init=init, model=model)
        build_model(settings, 2, build_accelerator(settings.train, tmp_path, 0))
        assert ("linear probe: layer4 of " in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    "path", sorted((tiny.ROOT / "configs/finetune_cls").glob("*.yaml")), ids=lambda path: path.stem
)
def test_configs_name_a_benchmark_that_can_be_learnt_and_tested(path):
    settings = load(FinetuneClsSettings, path)
    benchmark = load(Benchmark, tiny.ROOT / settings.data.benchmark)
    assert "train" in benchmark.splits
    assert set(settings.data.findings) <= set(benchmark.findings)
    assert settings.output_dir.removeprefix("runs/finetune_cls/") in path.stem
    if not any(name in path.stem for name in ("sample", "phantom", "films")):  # those run without the released files
        epoch = 46 if path.stem in ("chexpert_mavl", "chestxray14_mavl") else 40  # the released files
        assert settings.init.checkpoint == f"checkpoints/checkpoint_full_{epoch}.pth"


# Runs -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """Noise with a bright half where there is an effusion: 36 patients of two films each, some of them in two lists."""
    folder = tmp_path_factory.mktemp("films")
    noise = np.random.default_rng(0)
    for split, patients in (("train", range(24)), ("valid", range(22, 30)), ("test", range(28, 36))):
        lines = ["image,patient,effusion,hernia"]
        for patient in patients:
            for film in (1, 2):
                pixels = noise.integers(0, 120, (40, 40))
                pixels[:, 20:] += 100 * (patient % 2)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{split}_{patient}_{film}.png")
                hernia = "" if patient % 3 == 1 else -1 if patient % 3 == 2 else int(patient % 4 == 0)
                lines.append(f"{split}_{patient}_{film}.png,p{patient},{patient % 2},{hernia}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    benchmark = {
        "name": "films",
        "title": "Films of noise",
        "findings": ["effusion", "hernia"],
        "splits": {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"},
        "images": {"column": "image"},
        "groups": {"column": "patient"},
        "labels": {"kind": "columns"},
    }
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(benchmark))
    config = {
        "seeds": [0, 1],
        "model": {"backbone": "resnet18@layer2", "image_size": 32},
        "data": {
            "benchmark": str(folder / "benchmark.yaml"),
            "root": str(folder),
            "data_pct": 0.5,
            "batch_size": 4,
            "eval_batch_size": 8,
            "workers": 0,
            "unlabelled": "zeros",
        },
        "init": {"backbone": "none"},
        "optimizer": {"lr": 1e-3},
        "schedule": {"epochs": 2},
        "train": {"log_every": 2, "checkpoint_every": 2},
        "resamples": 10,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def command(dataset: Path, *arguments: str | Path, processes: int = 1) -> list[str]:
    launcher = [sys.executable]
    if processes > 1:
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--mixed_precision=no"]
        launcher += [*launch, "--dynamo_backend=no", "--main_process_port=0", f"--num_processes={processes}"]
    return [*launcher, "finetune_cls.py", "--config", str(dataset / "config.yaml"), *map(str, arguments)]


def run(*arguments, processes: int = 1, check: bool = True) -> subprocess.CompletedProcess:
    finished = subprocess.run(
        command(*arguments, processes=processes),
        cwd=tiny.ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert not check or finished.returncode == 0, finished.stderr[-3000:]
    return finished


def environment() -> dict[str, str]:
    return os.environ | {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory) -> tuple[Path, str]:
    """Two seeds that nothing disturbed, and what they printed."""
    folder = tmp_path_factory.mktemp("runs")
    return folder, run(dataset, "--output_dir", folder).stdout


def drawn(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "images.csv")


@pytest.mark.slow
def test_a_run_folder_of_each_seed_and_their_mean(finished):
    folder, said = finished
    kept = {
        "best",
        "last",
        "checkpoints",
        "images.csv",
        "left_out.json",
        "started_from.json",
        "config.yaml",
        "run.json",
    }
    kept |= {
        "log.jsonl",
        "results.csv",
        "results.json",
        "scores.csv",
        "roc.png",
        "pr.png",
        "training.png",
        "report.html",
        ".lock",
    }
    for seed in (0, 1):
        assert {path.name for path in (folder / f"seed_{seed}").iterdir()} == kept
    assert "train: 4 images of 2 patients left out, which valid has too" in said
    assert "are blank, counted as absent" in said
    assert "are -1, left out of the loss" in said
    assert "50 % of train: 12 of 22 patients drawn by seed 1" in said or "50 % of train: 11 of 22" in said
    areas = [read_results(folder / f"seed_{seed}")[1].means["auroc"].value for seed in (0, 1)]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["rows"]["mean"]["auroc"]["mean"] == pytest.approx(np.mean(areas))
    assert summary["rows"]["mean"]["auroc"]["std"] == pytest.approx(np.std(areas, ddof=1))
    assert summary["rows"]["prevalence"]["auroc"]["mean"] == 0.5
    table = pd.read_csv(folder / "summary.csv", index_col="name")
    assert list(table.index) == ["effusion", "hernia", "mean", "prevalence"]
    model = finetuned.load(folder / "seed_0/best")
    assert (model.findings, model.model.preprocessing.image_size) == (("effusion", "hernia"), 32)


@pytest.mark.slow
def test_no_patient_crosses_the_splits_of_a_run(finished):
    for seed in (0, 1):
        table = drawn(finished[0] / f"seed_{seed}")
        patients = {split: set(rows["group"]) for split, rows in table.groupby("split")}
        assert patients["test"] == {f"p{i}" for i in range(28, 36)}
        assert patients["valid"] == {f"p{i}" for i in range(22, 28)}
        assert patients["train"] < {f"p{i}" for i in range(22)}
        assert set(table[table["split"] == "train"]["hernia"]) == {-1, 0, 1}


@pytest.mark.slow
def test_two_processes_draw_the_same_images_and_agree_on_the_result(dataset, finished, tmp_path):
    arguments = ("--output_dir", tmp_path, "--bs", 2, "--seeds", 0)
    run(dataset, *arguments, processes=2)
    one, two = finished[0] / "seed_0", tmp_path / "seed_0"
    pd.testing.assert_frame_equal(drawn(one), drawn(two))
    scores = pd.read_csv(two / "scores.csv")
    assert scores["path"].tolist() == pd.read_csv(one / "scores.csv")["path"].tolist()
    about, evaluation = read_results(two)
    assert about["train"] == read_results(one)[0]["train"]
    best = finetuned.load(two / "best").about["state"]
    assert best["valid_auroc"] == max(
        json.loads(line).get("valid_auroc", 0) for line in (two / "log.jsonl").read_text().splitlines()
    )
    assert evaluation.groups == 8


@pytest.mark.slow
def test_killed_and_resumed_it_ends_with_the_same_weights_and_summary(dataset, finished, tmp_path):
    arguments = (dataset, "--output_dir", tmp_path, "--resume")
    process = subprocess.Popen(
        command(*arguments),
        cwd=tiny.ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list(tmp_path.glob("seed_1/checkpoints/step_*")) and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    said = run(*arguments).stdout
    assert "seed 0: finished before" in said
    assert "resumed from" in said
    for seed in (0, 1):
        for name in ("best", "last"):
            expected, resumed = (
                load_file(folder / f"seed_{seed}" / name / "model.safetensors") for folder in (finished[0], tmp_path)
            )
            assert [key for key in expected if not np.array_equal(expected[key], resumed[key])] == []
    assert (tmp_path / "summary.csv").read_text() == (finished[0] / "summary.csv").read_text()


@pytest.mark.slow
def test_a_second_start_is_refused_in_one_line(dataset, finished):
    again = run(dataset, "--output_dir", finished[0], check=False)
    assert (again.returncode, len(again.stderr.strip().splitlines())) == (2, 1)
    assert "--resume goes on with it" in again.stderr
