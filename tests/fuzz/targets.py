"""Valid inputs of every script, and the file of them that a case spoils."""

import contextlib
import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from mavl.data import phantom
from mavl.data.phantom.dataset import report_path
from tests.support.films import save_dicom
from tests.support.processes import TINY, run
from tests.support.tiny import write_model

FINDINGS = ["cardiomegaly", "effusion", "pneumothorax"]
MIMIC_SPLIT, MIMIC_META = "mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.0.0-metadata.csv"


@dataclass(frozen=True)
class Target:
    """A script with arguments relative to the folder, the file that is spoilt, and its kind (see damage.KINDS)."""

    script: str
    arguments: tuple[str, ...]
    file: str
    kind: str


PREDICT = ("film.png", "--model", "model", "--findings", "effusion", "--out", "out")
DOCTOR = ("doctor", "--config", "zero_shot.yaml", "--decode")
RADGRAPH = ("radgraph", "--graphs", "graphs.json", "--root", ".", "--out", "out")
TARGETS = [
    Target("predict.py", PREDICT, "film.png", "image"),
    Target("predict.py", ("film.dcm", *PREDICT[1:]), "film.dcm", "binary"),
    Target("predict.py", ("list.csv", *PREDICT[1:]), "list.csv", "list"),
    Target("predict.py", PREDICT, "model/mavl.json", "json"),
    Target("predict.py", PREDICT, "model/model.safetensors", "weights"),
    Target("predict.py", PREDICT, "model/bank.safetensors", "weights"),
    Target("predict.py", (*PREDICT[:4], "own finding", *PREDICT[5:], "--books", "book.json"), "book.json", "json"),
    Target("zero_shot_classify.py", ("--config", "zero_shot.yaml"), "zero_shot.yaml", "yaml"),
    Target("zero_shot_classify.py", ("--config", "zero_shot.yaml"), "benchmark.yaml", "yaml"),
    Target("zero_shot_classify.py", ("--config", "zero_shot.yaml"), "phantoms/test.csv", "csv"),
    Target("zero_shot_classify.py", ("--config", "zero_shot.yaml"), "phantoms/valid.csv", "csv"),
    Target("zero_shot_classify.py", ("--config", "zero_shot.yaml"), "phantoms/images/FIRST.png", "image"),
    Target("zero_shot_classify.py", ("--config", "zero_shot.yaml"), "model/mavl.json", "json"),
    Target("zero_shot_ground.py", ("--config", "ground.yaml"), "ground.yaml", "yaml"),
    Target("zero_shot_ground.py", ("--config", "ground.yaml"), "phantoms/masks/FIRST.png", "image"),
    Target("train_mavl.py", ("--config", "train.yaml"), "train.yaml", "yaml"),
    Target("train_mavl.py", ("--config", "train.yaml", "--output_dir", "run", "--resume"), "run/run.json", "json"),
    Target("train_mavl.py", ("--config", "train.yaml", "--output_dir", "run", "--resume"), "run/config.yaml", "yaml"),
    Target("finetune_cls.py", ("--config", "finetune.yaml"), "finetune.yaml", "yaml"),
    Target("finetune_cls.py", ("--config", "finetune.yaml"), "phantoms/train.csv", "csv"),
    Target("finetune_seg.py", ("--config", "segment.yaml"), "segment.yaml", "yaml"),
    Target("finetune_seg.py", ("--config", "segment.yaml"), "phantoms/masks/TRAIN.png", "image"),
    Target("prepare_data.py", DOCTOR, "phantoms/test.csv", "csv"),
    Target("prepare_data.py", DOCTOR, "benchmark.yaml", "yaml"),
    Target("prepare_data.py", DOCTOR, "phantoms/images/FIRST.png", "image"),
    Target("prepare_data.py", RADGRAPH, "graphs.json", "json"),
    Target("prepare_data.py", RADGRAPH, MIMIC_SPLIT, "csv"),
    Target("prepare_data.py", RADGRAPH, MIMIC_META, "csv"),
    Target("concept_gen/generate.py", ("--out", "book.json", "--review", "sheet.csv"), "book.json", "json"),
]


def write_inputs(folder: Path) -> None:
    """All that TARGETS read, each file valid."""
    for split, seed, number in (("test", 11, 8), ("valid", 12, 8), ("train", 13, 12)):
        with contextlib.redirect_stderr(io.StringIO()):
            phantom.write_dataset(folder / "phantoms", split, seed, range(number), size=64)
    write_model(folder)
    picture = Image.open(next((folder / "phantoms/images").rglob("*.png"))).convert("L")
    picture.save(folder / "film.png")
    save_dicom(folder / "film.dcm", np.asarray(picture).astype(np.uint16) * 16, bits=12)
    (folder / "list.csv").write_text("image,label\nfilm.png,1\nfilm.dcm,0\nfilm.png,1\n")
    book = {"own finding": {"description": "A white shadow at the base of the lung.", "texture": "even and bright"}}
    (folder / "book.json").write_text(json.dumps({"findings": book}))
    write_configs(folder)
    write_mimic(folder)
    run("train_mavl.py", "--config", folder / "train.yaml", "--output_dir", folder / "run")


def write_configs(folder: Path) -> None:
    benchmark = {
        "name": "phantoms",
        "title": "Phantoms",
        "root": "phantoms",
        "findings": FINDINGS,
        "splits": {split: f"{split}.csv" for split in ("test", "valid", "train")},
        "images": {"column": "image", "path": "images/{}.png"},
        "labels": {"kind": "columns"},
        "masks": {"kind": "file", "path": "masks/{finding}/{}.png"},
    }
    evaluation = {
        "benchmark": "benchmark.yaml",
        "model_path": "model",
        "workers": 0,
        "text_cache": None,
        "resamples": 5,
    }
    small = {"backbone": "resnet18", "image_size": 32}
    data = {"benchmark": "benchmark.yaml", "batch_size": 4, "eval_batch_size": 8, "workers": 0}
    tuning = {"model": small, "data": data, "init": {"backbone": "none"}, "schedule": {"epochs": 1}, "resamples": 5}
    training = TINY | {
        "data": TINY["data"] | {"train": 8, "valid": 6, "workers": 0},
        "text": {"encoder": "random", "cache": None},
        "schedule": {"epochs": 1},
        "train": {"checkpoint_every": 1},
    }
    configs = {
        "benchmark": benchmark,
        "zero_shot": evaluation,
        "ground": evaluation | {"map_size": 32},
        "train": training,
        "finetune": tuning,
        "segment": tuning | {"data": data | {"findings": ["cardiomegaly"], "only_present": True}},
    }
    for name, content in configs.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def write_mimic(folder: Path) -> None:
    drawn = [phantom.draw(seed=3, index=index, size=32) for index in range(6)]
    reports = {report_path(index): of.graph for index, of in enumerate(drawn)}
    (folder / "graphs.json").write_text(json.dumps(reports))
    rows = [
        {"dicom_id": f"d{i}", "study_id": str(50_000_000 + i), "subject_id": str(10_000_000 + i), "split": "train"}
        for i in range(6)
    ]
    for name, extra in ((MIMIC_SPLIT, {}), (MIMIC_META, {"ViewPosition": "PA"})):
        with open(folder / name, "w", newline="") as file:
            table = csv.DictWriter(file, [*rows[0], *extra], lineterminator="\n")
            table.writeheader()
            table.writerows([row | extra for row in rows])


def place(folder: Path, target: Target) -> Path:
    """The file to spoil; FIRST is the first image or mask of the test split, TRAIN a mask of the training split."""
    path = folder / target.file
    if path.stem not in ("FIRST", "TRAIN"):
        return path
    split = "test" if path.stem == "FIRST" else "train"
    folder = path.parent / ("cardiomegaly" if path.parent.name == "masks" else "") / split
    return min(folder.glob("*.png"))
