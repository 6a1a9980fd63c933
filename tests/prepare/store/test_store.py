"""`prepare_data.py store` as it is called: what its inputs mean, its exit codes, and a training run on what it made."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mavl.data import phantom
from mavl.data.images.store import Store, StoreError
from mavl.prepare import store
from mavl.prepare.store.sources import SourceError, find_sources

ROOT = Path(__file__).resolve().parents[3]
GREY = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8))


def save(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        GREY.save(path)


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """A benchmark, configs and manifests of the images data/files/a.png … e.png and data/f.png; cwd is there."""
    root = tmp_path / "data"
    save(*(root / "files" / f"{name}.png" for name in "abcde"), root / "f.png")
    for split, names in {"train": "abc", "valid": "d", "test": "e"}.items():
        (root / f"{split}.csv").write_text("image,edema\n" + "".join(f"{name},1\n" for name in names))
    benchmark = {
        "name": "hospital",
        "title": "Hospital",
        "root": str(root),
        "findings": ["edema"],
        "splits": {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"},
        "images": {"column": "image", "path": "files/{}.png"},
        "labels": {"kind": "columns"},
    }
    files = {
        "benchmark.yaml": benchmark,
        "pretrain.yaml": {"data": {"source": "table", "benchmark": "benchmark.yaml"}},
        "finetune.yaml": {"data": {"benchmark": "benchmark.yaml"}},
        "evaluate.yaml": {"benchmark": "benchmark.yaml", "protocol": "released"},
        "phantoms.yaml": {"data": {"source": "phantom"}},
        "mimic.yaml": {
            "data": {"source": "mimic", "train_file": "train.json", "valid_file": "valid.json", "root": str(root)}
        },
    }
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    prefix = "/remote-home/share/medical/public/MIMIC-CXR-JPG/MIMIC-CXR/small"
    (tmp_path / "train.json").write_text(json.dumps({f"{prefix}/files/a.png": {"labels_id": 0}, "files/b.png": {}}))
    (tmp_path / "valid.json").write_text(json.dumps({f"{prefix}/f.png": {"labels_id": 0}}))
    monkeypatch.chdir(tmp_path)
    return root


def keys(*names: str, root: str | None = None) -> list[str]:
    sources, failures = find_sources(names, root and Path(root))
    assert failures == []
    assert all(path.is_file() for path in sources.values())
    return [key.decode() for key in sources]


class TestSources:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("benchmark.yaml", "abcde"),
            ("pretrain.yaml", "abcd"),
            ("finetune.yaml", "abcde"),
            ("evaluate.yaml", "e"),
        ],
    )
    def test_a_config_means_all_the_images_it_reads(self, data, name, expected):
        assert sorted(keys(name)) == [f"files/{letter}.png" for letter in expected]

    def test_a_manifest_and_the_config_that_names_it(self, data):
        assert keys("mimic.yaml") == ["files/a.png", "files/b.png", "f.png"]
        assert keys("train.json", root="data") == ["files/a.png", "files/b.png"]

    def test_files_folders_patterns_and_lists(self, data):
        assert keys("data") == ["f.png", *(f"files/{letter}.png" for letter in "abcde")]
        assert keys("data/files", root="data") == [f"files/{letter}.png" for letter in "abcde"]
        assert keys("data/files/[ab].png") == ["a.png", "b.png"]
        assert keys("data/files/c.png") == ["c.png"]
        (data / "list.csv").write_text("path,age\nfiles/e.png,3\nf.png,4\n")
        assert keys("data/list.csv") == ["files/e.png", "f.png"]
        assert keys("data/list.csv", "data/files", root="data")[:3] == ["files/e.png", "f.png", "files/a.png"]

    def test_two_files_of_one_name_need_a_root(self, data):
        save(data / "more" / "a.png")
        with pytest.raises(SourceError, match=r"files/a.png and .*more/a.png would both be a.png .* give --root"):
            find_sources(["data/files", "data/more"], None)
        assert keys("data/files", "data/more", root="data")[-1] == "more/a.png"

    def test_what_has_no_images_is_told(self, data):
        with pytest.raises(SourceError, match=r"phantoms.yaml: .*no images to store"):
            find_sources(["phantoms.yaml"], None)
        (data / "empty").mkdir()
        with pytest.raises(ValueError, match="empty: no image in it"):
            find_sources(["data/empty"], None)
        Path("list.json").write_text("[]")
        with pytest.raises(SourceError, match=r"list.json: holds a list"):
            find_sources(["list.json"], None)


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    store.add_arguments(parser)
    return store.run(parser.parse_args([*words, "--workers", "1"]))


class TestCommand:
    def test_exit_codes_tell_whether_all_images_are_there(self, data, capsys):
        assert call("benchmark.yaml", "--out", "s", "--encoding", "raw", "--size", "20", "--verify") == 0
        assert "5 of 5 images, 5 of them new" in (said := capsys.readouterr().out)
        assert "every byte is as it was written" in said
        assert Store("s").settings.size == 20
        (data / "files" / "b.png").write_bytes(b"GIF89a")
        assert call("data", "--out", "t") == 1
        said = capsys.readouterr().out
        assert "5 of 6 images" in said
        assert "1 image could not be read; all are in t/unreadable.csv\n  data/files/b.png: no PNG" in said

    def test_damage_that_is_found_is_shown(self, data, capsys):
        call("data", "--out", "s")
        shard = Path("s/00000.bin")
        shard.write_bytes(shard.read_bytes()[::-1])
        assert call("--verify", "--out", "s") == 1
        said = capsys.readouterr().out
        assert "6 faults" in said
        assert "s/00000.bin: f.png: the bytes are not those that were written" in said

    def test_wrong_settings_are_one_line(self, data):
        with pytest.raises(SourceError, match=r"--size 0: .*; --quality 101: "):
            call("data", "--out", "s", "--size", "0", "--quality", "101")
        with pytest.raises(SourceError, match="nothing to store"):
            call("--out", "s")

    @pytest.mark.parametrize("flag", ["--shard_images", "--workers"])
    def test_numbers_below_one_are_refused(self, data, capsys, flag):
        with pytest.raises(SystemExit):
            call("data", "--out", "s", flag, "-1")
        assert f"argument {flag}: '-1' is no whole number of at least 1" in capsys.readouterr().err

    def test_nothing_to_verify_is_an_error_and_no_damage(self, data, capsys):
        with pytest.raises(StoreError, match=r"none is no image store \(store\.json: No such file"):
            call("--verify", "--out", "none")
        call("data", "--out", "s")
        os.truncate("s/00000.bin", 10_000)
        capsys.readouterr()
        assert call("--verify", "--out", "s") == 1
        assert capsys.readouterr().out.startswith("1 fault; delete the shards that are named")

    def test_a_manifest_that_is_not_there_is_told_with_what_makes_it(self, data):
        Path("train.json").unlink()
        with pytest.raises(
            SourceError, match=r"train\.json: no such file; `prepare_data\.py radgraph` makes it; .*--root"
        ):
            call("mimic.yaml", "--out", "s")


@pytest.mark.slow
def test_training_on_the_store_gives_the_loss_curve_of_training_on_the_originals(tmp_path):
    """The same seeds, and so the same crops and operations; the images differ by some grey values."""
    for split, seed, number in (("train", 21, 32), ("valid", 22, 8)):
        phantom.write_dataset(tmp_path / "films", split, seed, range(number), size=320)
    for path in sorted((tmp_path / "films" / "images").rglob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    benchmark = yaml.safe_load((ROOT / "configs/benchmarks/phantom.yaml").read_text())
    benchmark |= {"root": str(tmp_path / "films"), "splits": {"train": "train.csv", "valid": "valid.csv"}}
    benchmark["images"]["path"] = "images/{}.jpg"
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(benchmark))
    data = {"source": "table", "benchmark": str(tmp_path / "benchmark.yaml"), "batch_size": 8, "workers": 0}
    config = {
        "findings": ["cardiomegaly", "effusion", "pneumothorax", "pacemaker"],
        "model": {"backbone": "resnet18", "image_size": 64, "width": 32, "layers": 1, "feedforward": 32},
        "text": {"encoder": "drawn", "cache": None},
        "data": data,
        "init": {"backbone": "none"},
        "schedule": {"epochs": 3, "warmup_steps": 2, "warmup_stair": 1},
        "train": {"log_every": 1},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    losses = {}
    stored = [str(tmp_path / "config.yaml"), "--out", str(tmp_path / "store"), "--size", "192"]
    assert call(*stored) == 0
    for name, store_used in {"originals": "null", "store": str(tmp_path / "store"), "again": "null"}.items():
        override = ["--override", f"data.store={store_used}"]
        if name == "again":
            override += ["--override", "train.seed=43"]
        command = [sys.executable, str(ROOT / "train_mavl.py"), "--config", str(tmp_path / "config.yaml"), *override]
        command += ["--output_dir", str(tmp_path / name)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        losses[name] = np.array([line["loss"] for line in lines if "loss" in line])
    assert len(losses["store"]) == 12
    apart = np.abs(losses["store"] - losses["originals"])
    assert (apart < 0.05 * losses["originals"]).all()
    assert apart.mean() < np.abs(losses["again"] - losses["originals"]).mean() / 2  # another seed is the noise
    assert losses["store"][-1] < losses["store"][0]
