"""Findings and anatomies of one's own, from a CSV to a prediction, by the scripts."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.planted import write_yaml
from tests.support.processes import ROOT, TINY, run

OWN = {
    "silicosis": "Silica dust has scarred the upper lobes with small round nodules.",
    "hydatid cyst": "A sharply bounded round cyst, filled with fluid.",
    "rib notching": "The lower edges of the ribs are eroded.",
}
GREYS = (60, 130, 200)
SIZES = {"train": 24, "valid": 9, "test": 12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Films of one grey each, which is that of their one finding, and a book of one sentence a finding."""
    made, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    for split, number in SIZES.items():
        with open(made / f"{split}.csv", "w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["path", *OWN])
            for index in range(number):
                finding = index % len(OWN)
                noise = rng.integers(-9, 9, (64, 64))
                Image.fromarray((GREYS[finding] + noise).astype(np.uint8)).save(made / f"{split}{index}.png")
                rows.writerow([f"{split}{index}.png", *(int(finding == column) for column in range(len(OWN)))])
    (made / "book.json").write_text(json.dumps(OWN))
    write_yaml(
        made / "own.yaml",
        name="own",
        title="Own findings",
        root=str(made),
        findings=list(OWN),
        splits={split: f"{split}.csv" for split in SIZES},
        images={"column": "path"},
        labels={"kind": "columns"},
    )
    return made


@pytest.mark.slow
def test_findings_that_no_list_has_are_trained_on_predicted_and_evaluated(folder):
    books = {"descriptions": [str(folder / "book.json")], "aspects": []}
    settings = {
        "data": {"source": "table", "benchmark": str(folder / "own.yaml"), "batch_size": 4, "workers": 0},
        "text": {"encoder": "random", "cache": None, **books},
        "schedule": {"epochs": 8, "warmup_steps": 2, "warmup_stair": 1},
        "optimizer": {"lr": 1e-3},
        "train": {"log_every": 5},
    }
    names = {"findings": list(OWN), "anatomies": ["unspecified", "left lung", "right lung"]}
    config = write_yaml(folder / "train.yaml", model=TINY["model"], init=TINY["init"], **settings, **names)
    trained = run("train_mavl.py", "--config", config, "--output_dir", folder / "run")
    assert "3 findings without aspects in the books, silicosis, hydatid cyst, rib notching" in trained.stderr
    assert "24 training and 9 validation images, 3 findings × 9 aspects" in trained.stdout
    about = json.loads((folder / "run/best/mavl.json").read_text())
    assert (about["findings"], about["anatomies"]) == (list(OWN), ["unspecified", "left lung", "right lung"])

    run("predict.py", folder / "test1.png", "--model", folder / "run/best", "--out", folder / "predicted")
    with open(folder / "predicted/predictions.csv", newline="") as file:
        assert set(OWN) <= {cell for row in csv.reader(file) for cell in row}

    zero_shot = write_yaml(
        folder / "evaluate.yaml",
        benchmark=str(folder / "own.yaml"),
        model_path=str(folder / "run/best"),
        head="supervised",
        workers=0,
        resamples=0,
        output_dir=str(folder / "results"),
    )
    run("zero_shot_classify.py", "--config", zero_shot)
    [results] = (folder / "results").rglob("results.json")
    content = json.loads(results.read_text())
    assert [of["name"] for of in content["classes"]] == list(OWN)
    assert content["means"]["auroc"]["value"] > 0.75


@pytest.mark.slow
def test_a_finding_without_a_sentence_is_named_before_anything_is_loaded(folder):
    finished = run(
        *("train_mavl.py", "--config", ROOT / "configs/demo.yaml", "--output_dir", folder / "none"),
        *("--override", "findings=[normal, clear, silicose]"),
        check=False,
    )
    assert finished.returncode == 2
    assert "unknown finding 'silicose'; known: normal, clear, sharp" in finished.stderr.splitlines()[-1]
