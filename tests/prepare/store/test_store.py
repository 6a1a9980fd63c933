"""`prepare_data.py store` as it is called: what its inputs mean, its exit codes, and runs that get it as their root."""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from mavl.config.evaluation import GroundingSettings, ZeroShotSettings
from mavl.config.loader import ConfigError, load
from mavl.config.settings import PretrainSettings
from mavl.data import phantom
from mavl.evaluate import classification, grounding
from mavl.prepare import doctor, store
from mavl.prepare.store.sources import SourceError, Sources, find_sources
from mavl.prepare.store.tree import StoreError
from mavl.train import pretrain
from tests.support.planted import write_yaml
from tests.support.processes import ROOT, TINY
from tests.support.small_runs import forget_accelerator

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
    mimic = {"source": "mimic", "train_file": "train.json", "valid_file": "valid.json"}
    files = {
        "benchmark.yaml": benchmark,
        "masks.yaml": benchmark | {"masks": {"kind": "file", "path": "masks/{finding}/{}.png"}},
        "pretrain.yaml": {"data": {"source": "table", "benchmark": "benchmark.yaml"}},
        "finetune.yaml": {"data": {"benchmark": "benchmark.yaml"}},
        "evaluate.yaml": {"benchmark": "benchmark.yaml", "protocol": "released"},
        "folders.yaml": {"data": {"folder": {"images": "data/files", "masks": "data/masks/edema"}}},
        "phantoms.yaml": {"data": {"source": "phantom"}},
        "mimic.yaml": {"data": mimic | {"root": str(root)}},
        "no_root.yaml": {"data": mimic},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(yaml.safe_dump(content))
    prefix = "/remote-home/share/medical/public/MIMIC-CXR-JPG/MIMIC-CXR/small"
    (tmp_path / "train.json").write_text(json.dumps({f"{prefix}/files/a.png": {"labels_id": 0}, "files/b.png": {}}))
    (tmp_path / "valid.json").write_text(json.dumps({f"{prefix}/f.png": {"labels_id": 0}}))
    monkeypatch.chdir(tmp_path)
    return root


def found(*names: str, root: str | None = None, out: str = "out") -> Sources:
    sources = find_sources(names, root and Path(root), Path(out))
    assert all(path.is_file() for path in (sources.images | sources.copies).values())
    return sources


def places(*names: str, **options) -> list[str]:
    return list(found(*names, **options).images)


class TestSources:
    @pytest.mark.parametrize(
        ("name", "expected", "lists"),
        [
            ("benchmark.yaml", "abcde", ["test.csv", "train.csv", "valid.csv"]),
            ("pretrain.yaml", "abcd", ["train.csv", "valid.csv"]),
            ("finetune.yaml", "abcde", ["test.csv", "train.csv", "valid.csv"]),
            ("evaluate.yaml", "e", ["test.csv"]),
        ],
    )
    def test_a_config_means_all_the_images_it_reads_and_their_lists(self, data, name, expected, lists):
        sources = found(name)
        assert sorted(sources.images) == [f"files/{letter}.png" for letter in expected]
        assert sorted(sources.copies) == lists

    def test_mask_files_are_copied_even_from_a_folder_that_was_named(self, data):
        masks = [f"masks/edema/{letter}.png" for letter in "abcde"]
        save(*(data / mask for mask in masks))
        sources = found("masks.yaml", "data")
        assert set(masks) < sources.copies.keys()
        assert "f.png" in sources.images
        assert not sources.images.keys() & sources.copies.keys()
        assert sorted(found("folders.yaml").images) == [f"{letter}.png" for letter in "abcde"]

    def test_a_manifest_and_the_config_that_names_it(self, data):
        assert places("mimic.yaml") == ["files/a.png", "files/b.png", "f.png"]
        assert places("train.json", root="data") == ["files/a.png", "files/b.png"]
        (data / "mimic-cxr-2.0.0-metadata.csv.gz").touch()
        assert list(found("mimic.yaml").copies) == ["mimic-cxr-2.0.0-metadata.csv.gz"]

    def test_files_folders_patterns_and_lists(self, data):
        assert places("data") == ["f.png", *(f"files/{letter}.png" for letter in "abcde")]
        assert places("data/files", root="data") == [f"files/{letter}.png" for letter in "abcde"]
        assert places("data/files/[ab].png") == ["a.png", "b.png"]
        assert places("data/files/c.png") == ["c.png"]
        (data / "list.csv").write_text("path,age\nfiles/e.png,3\n./files/../f.png,4\n")
        assert places("data/list.csv") == ["files/e.png", "f.png"]
        assert list(found("data/list.csv").copies) == ["list.csv"]
        assert places("data/list.csv", "data/files", root=str(data))[:3] == ["files/e.png", "f.png", "files/a.png"]

    def test_the_store_itself_is_no_source(self, data):
        save(data / "small/files/a.png")
        assert "small/files/a.png" in places("data")
        assert places("data", out="data/small") == places("data/f.png", "data/files", root="data")
        with pytest.raises(SourceError, match=r"data: all of its images lie in the store itself"):
            find_sources(["data"], None, data)

    def test_two_files_of_one_name_need_a_root(self, data):
        save(data / "more" / "a.png")
        with pytest.raises(SourceError, match=r"files/a.png and .*more/a.png would both be a.png .* --root that"):
            found("data/files", "data/more")
        assert places("data/files", "data/more", root="data")[-1] == "more/a.png"

    def test_a_root_that_is_none_and_images_outside_of_it_are_refused(self, data):
        with pytest.raises(SourceError, match="--root nope: no such folder"):
            found("data", root="nope")
        with pytest.raises(SourceError, match=r"data/f.png lies outside of the root data/files: give a --root that"):
            found("data", root="data/files")
        with pytest.raises(SourceError, match=r"no_root.yaml: does not say which folder .* give --root"):
            found("no_root.yaml")
        Path("mimic.yaml").write_text(Path("mimic.yaml").read_text().replace(str(data), "gone"))
        with pytest.raises(SourceError, match=r"mimic.yaml: its root gone is no folder: give --root"):
            found("mimic.yaml")

    def test_what_has_no_images_is_an_error(self, data):
        with pytest.raises(SourceError, match=r"phantoms.yaml: .*no images to store"):
            found("phantoms.yaml")
        (data / "empty").mkdir()
        with pytest.raises(ValueError, match="empty: no image in it"):
            found("data/empty")
        Path("list.json").write_text("[]")
        with pytest.raises(SourceError, match=r"list.json: holds a list"):
            found("list.json", root="data")
        Path("train.json").unlink()
        with pytest.raises(
            SourceError, match=r"train\.json: no such file; `prepare_data\.py radgraph` makes it; .*--root"
        ):
            found("mimic.yaml")


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    store.add_arguments(parser)
    return store.run(parser.parse_args([*words, "--workers", "1"]))


class TestCommand:
    def test_exit_codes_say_whether_all_images_are_there(self, data, capsys):
        assert call("benchmark.yaml", "--out", "s", "--size", "20", "--verify") == 0
        said = capsys.readouterr().out
        assert "s: 5 of 5 images: 5 written, 0 there already; 3 lists and masks" in said
        assert "s: every file is as it was written" in said
        assert Image.open("s/files/a.png").size == (27, 20)
        (data / "files" / "b.png").write_bytes(b"GIF89a")
        assert call("data", "--out", "t") == 1
        said = capsys.readouterr().out
        assert "5 of 6 images" in said
        assert "1 file could not be read; all are in t/unreadable.csv\n  data/files/b.png: no PNG" in said

    def test_damage_that_is_found_is_shown(self, data, capsys):
        call("data", "--out", "s")
        os.truncate("s/f.png", 10)
        Path("s/files/a.png").unlink()
        capsys.readouterr()
        assert call("--verify", "--out", "s") == 1
        said = capsys.readouterr().out.splitlines()
        assert said[0] == "2 faults found; delete the files that are named, and give the command that made them"
        assert said[1].startswith("  s/f.png: 10 bytes")
        assert said[2] == "  s/files/a.png: missing"
        with pytest.raises(StoreError, match=r"none is no image store \(store\.json: No such file"):
            call("--verify", "--out", "none")

    def test_without_inputs_there_is_nothing_to_store(self, data):
        with pytest.raises(SourceError, match="nothing to store"):
            call("--out", "s")

    @pytest.mark.parametrize("flag", ["--size", "--quality", "--workers"])
    def test_numbers_below_one_are_refused(self, data, capsys, flag):
        with pytest.raises(SystemExit):
            call("data", "--out", "s", flag, "-1")
        assert f"argument {flag}: '-1' is not a whole number of at least 1" in capsys.readouterr().err


class TestOldKey:
    """`data.store` of earlier versions, which named a store of another format."""

    @pytest.mark.parametrize(
        ("schema", "content", "key"),
        [
            (PretrainSettings, "data:\n  source: mimic\n  store: stores/x\n", "data.store"),
            (ZeroShotSettings, "benchmark: b.yaml\n\nstore: stores/x\n", "store"),
            (GroundingSettings, "benchmark: b.yaml\n\nstore: stores/x\n", "store"),
        ],
    )
    def test_the_line_says_to_give_the_store_as_root(self, tmp_path, schema, content, key):
        config = tmp_path / "config.yaml"
        config.write_text(content)
        with pytest.raises(ConfigError) as caught:
            load(schema, config)
        line = f'{config}: line 3: {key} = "stores/x": a store is a folder of images now: make it again by '
        assert str(caught.value) == f"{line}prepare_data.py store, and give its folder as root (--root)"
        config.write_text(content.replace("stores/x", "null"))  # as the configs in older run folders have it
        assert "store" not in load(schema, config).model_dump_json()


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    """A benchmark of drawn films with masks, its originals (JPEG and 16-bit PNG), and their store."""
    folder = tmp_path_factory.mktemp("roots")
    films = folder / "films"
    for split, seed, number in (("train", 21, 32), ("valid", 22, 8), ("test", 23, 8)):
        phantom.write_dataset(films, split, seed, range(number), size=320)
    for place, path in enumerate(sorted((films / "images").rglob("*.png"))):
        image = Image.open(path)
        if place % 2:
            Image.fromarray(np.asarray(image).astype(np.uint16) * 257).save(path)
        else:
            image.save(path, "JPEG", quality=95)
    benchmark = yaml.safe_load((ROOT / "configs/benchmarks/phantom.yaml").read_text())
    benchmark["splits"] = {split: f"{split}.csv" for split in ("train", "valid", "test")}
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(benchmark))
    made = [str(folder / "benchmark.yaml"), "--root", str(films), "--out", str(folder / "store"), "--size", "192"]
    assert call(*made) == 0
    return {"benchmark": folder / "benchmark.yaml", "originals": films, "store": folder / "store"}


@pytest.mark.slow
def test_training_and_evaluation_differ_in_their_root_alone(roots, tmp_path):
    """The same seeds, and so the same crops and operations; the images differ by some grey values."""
    data = {"source": "table", "benchmark": str(roots["benchmark"]), "batch_size": 8, "workers": 0}
    config = TINY | {
        "findings": ["cardiomegaly", "effusion", "pneumothorax", "pacemaker"],
        "data": data,
        "schedule": {"epochs": 3, "warmup_steps": 2, "warmup_stair": 1},
        "train": {"log_every": 1},
    }
    runs = {"originals": (roots["originals"], 42), "store": (roots["store"], 42), "again": (roots["originals"], 43)}
    losses = {}
    for name, (root, seed) in runs.items():
        out = tmp_path / name
        changed = [f"data.root={root}", f"train.seed={seed}", f"output_dir={out}"]
        forget_accelerator()
        pretrain.run(load(PretrainSettings, write_yaml(tmp_path / "config.yaml", **config), changed))
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        losses[name] = np.array([line["loss"] for line in lines if "loss" in line])
    assert len(losses["store"]) == 12
    apart = np.abs(losses["store"] - losses["originals"])
    assert (apart < 0.05 * losses["originals"]).all()
    assert apart.mean() < np.abs(losses["again"] - losses["originals"]).mean() / 2  # another seed is the noise

    evaluation = {"benchmark": str(roots["benchmark"]), "model_path": str(tmp_path / "store" / "last"), "workers": 0}
    evaluation |= {"resamples": 0, "text_cache": None}
    runs = {"scores.csv": (ZeroShotSettings, classification.run), "cases.csv": (GroundingSettings, grounding.run)}
    for written, (schema, evaluate) in runs.items():
        tables = {}
        for name in ("originals", "store"):
            out = tmp_path / written / name
            forget_accelerator()
            evaluate(schema(**evaluation, root=str(roots[name]), output_dir=str(out)))
            forget_accelerator()
            [path] = out.rglob(written)
            path.write_text(path.read_text().replace(str(roots[name]), "root"))
            tables[name] = pd.read_csv(path)
        assert len(tables["store"]) >= 8
        if written == "cases.csv":  # of so small a model, two patches may change places
            hits = [table.pop("pointing_game") for table in tables.values()]
            assert (hits[0] != hits[1]).mean() < 0.05
            tables = {name: table.select_dtypes(exclude="float") for name, table in tables.items()}
        pd.testing.assert_frame_equal(tables["store"], tables["originals"], atol=0.02)


def test_doctor_reads_a_store_as_its_root(roots, capsys):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    words = ["--config", str(roots["benchmark"]), "--root", str(roots["store"]), "--decode"]
    assert doctor.run(parser.parse_args(words)) == 0
    assert "48 inspected, 48 decoded" in capsys.readouterr().out


def test_masks_of_the_store_are_those_of_the_root(roots):
    masks = sorted((roots["originals"] / "masks").rglob("*.png"))
    copies = {path: roots["store"] / path.relative_to(roots["originals"]) for path in masks}
    copied = [path for path, copy in copies.items() if copy.exists()]
    assert copied
    assert all(copies[path].read_bytes() == path.read_bytes() for path in copied)


def test_a_store_is_moved_as_one_archive(roots, tmp_path):
    """As docs/scale.md has it for the local disks of nodes."""
    shutil.make_archive(str(tmp_path / "store"), "tar", roots["store"].parent, "store")
    shutil.unpack_archive(tmp_path / "store.tar", tmp_path)
    assert call("--verify", "--out", str(tmp_path / "store")) == 0
