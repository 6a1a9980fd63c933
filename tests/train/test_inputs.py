"""A resumed run reads what it read before: other labels, another order or fewer rows are refused by name."""

import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from accelerate.state import AcceleratorState, GradientState

from mavl.config.data import MimicData, PhantomData
from mavl.config.finetune import FinetuneClsSettings
from mavl.config.loader import load
from mavl.config.settings import PretrainSettings
from mavl.train import classification, pretrain
from mavl.train.checkpoints import ResumeError
from mavl.train.engine import MonitorError
from mavl.train.inputs import data_hashes, describe_images
from tests.support.small_benchmarks import CONFIGS
from tests.support.trainings import write_benchmark, write_training


def invert(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(cardiomegaly=1 - table["cardiomegaly"])


def reorder(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[random.Random(0).sample(range(len(table)), len(table))]


def drop_masks(benchmark: Path) -> None:
    content = yaml.safe_load(benchmark.read_text())
    del content["masks"]
    benchmark.write_text(yaml.safe_dump(content))


def image_of(table: pd.DataFrame, row: int = 0) -> str:
    return f"images/{table['image'][row]}.png"


def finetune(settings: FinetuneClsSettings, resume: bool) -> None:
    try:
        classification.run(settings, resume)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


def run(config: Path, folder: Path, resume: bool, *overrides: str) -> None:
    try:
        pretrain.run(load(PretrainSettings, config, [f"output_dir={folder}", *overrides]), resume)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.fixture
def config(tmp_path) -> Path:
    """Of a pre-training on a list of phantoms on disk."""
    path = write_training("pretraining", tmp_path, epochs=1)
    content = yaml.safe_load(path.read_text())
    sizes = {key: content["data"][key] for key in ("batch_size", "eval_batch_size", "workers")} | {"cache": None}
    benchmark = write_benchmark(tmp_path)
    drop_masks(benchmark)
    content["data"] = {"source": "table", "benchmark": str(benchmark), "root": str(tmp_path), **sizes}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_data_only(config, tmp_path, capsys):
    folder = tmp_path / "run"
    run(config, folder, resume=False)
    (tmp_path / "moved").mkdir()
    for name in ("images", "masks", "train.csv", "valid.csv", "test.csv"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    root = f"data.root={tmp_path / 'moved'}"
    run(config, folder, True, root)  # elsewhere, but the same
    assert "note:" not in capsys.readouterr().out
    original, content = pd.read_csv(tmp_path / "moved" / "train.csv"), (tmp_path / "moved" / "train.csv").read_bytes()
    for change in (invert, reorder, lambda table: table.iloc[:-1]):
        change(original).to_csv(tmp_path / "moved" / "train.csv", index=False)
        lines = r"data: list train has changed\n  data: order or labels of train's images has changed"
        with pytest.raises(ResumeError, match=lines):
            run(config, folder, True, root)
    (tmp_path / "moved" / "train.csv").write_bytes(content)
    run(config, folder, True, root)
    benchmark = yaml.safe_load((tmp_path / "benchmark.yaml").read_text())
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(benchmark | {"equalize": True}))
    with pytest.raises(ResumeError, match="data: benchmark has changed"):
        run(config, folder, True, root)
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(benchmark))
    (tmp_path / "moved" / image_of(original)).write_bytes((tmp_path / "moved" / image_of(original, 1)).read_bytes())
    with pytest.raises(ResumeError, match=r"another run:\n  data: size of train's image files has changed\n"):
        run(config, folder, True, root)


@pytest.mark.slow
def test_a_finished_seed_is_not_passed_off_as_one_of_other_data(tmp_path, capsys):
    config = write_training("classification", tmp_path, epochs=1)
    drop_masks(tmp_path / "benchmark.yaml")
    settings = load(FinetuneClsSettings, config, [f"output_dir={tmp_path}/run"])
    finetune(settings, resume=False)
    finetune(settings, resume=True)
    assert "seed 0: finished before" in capsys.readouterr().out
    table, benchmark = (tmp_path / "test.csv").read_bytes(), (tmp_path / "benchmark.yaml").read_text()
    for change in (invert, reorder):
        change(pd.read_csv(tmp_path / "test.csv")).to_csv(tmp_path / "test.csv", index=False)
        with pytest.raises(ResumeError, match=r"(?s)seed_0 holds another run:\n.*labels of test's images has changed"):
            finetune(settings, resume=True)
        (tmp_path / "test.csv").write_bytes(table)
    (tmp_path / "benchmark.yaml").write_text(benchmark + "equalize: true\n")
    with pytest.raises(ResumeError, match="data: benchmark has changed"):
        finetune(settings, resume=True)


def test_a_monitor_that_the_labels_leave_undefined_is_an_error_before_training(config, tmp_path):
    table = pd.read_csv(tmp_path / "valid.csv")
    table.assign(cardiomegaly=1, effusion=0).to_csv(tmp_path / "valid.csv", index=False)
    with pytest.raises(MonitorError, match=r"valid_auroc: no finding has present and absent images in the valid split"):
        run(config, tmp_path / "run", False, "train.monitor=valid_auroc")
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("nih128", "3ee8ab3d3676d40af357a20bbe0664ab3de93396cdde08f3124de3a65d60182b"),
        ("chestxray14_boxes", "1712c9fd736d4c6cc32185a715c5624eb862dd5b8c072082fa5be21d8073945d"),
        ("siim_acr", "472c993c56e1ae778dedd73f9f86f0ac6dcecf065489b0a55aa9540639544aef"),
        ("rsna", "7f4eb628034bf22cf8b269846c0f9848a257412abff5363a89a337b6a9b6e52e"),
    ],
)
def test_a_benchmark_keeps_its_hash_when_benchmarks_get_new_keys(name, digest):
    """A run that began before can go on."""
    data = SimpleNamespace(benchmark=str(CONFIGS / f"{name}.yaml"), root=None)
    assert data_hashes(data, {}) == {"benchmark": digest}


def test_what_a_model_was_trained_on(config, tmp_path):
    listed = load(PretrainSettings, config)
    assert describe_images(listed.data, 12) == {"kind": "films", "list": "phantoms", "images": 12}
    benchmark = yaml.safe_load((tmp_path / "benchmark.yaml").read_text())
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(benchmark | {"drawn": True}))
    assert describe_images(listed.data, 12)["kind"] == "phantom drawings"
    assert describe_images(PhantomData(), 40) == {"kind": "phantom drawings", "list": "phantoms", "images": 40}
    mimic = MimicData()
    described = {"kind": "films", "list": mimic.train_file, "images": 9, "collection": "MIMIC-CXR"}
    assert describe_images(mimic, 9) == described
