"""Classes that are asked as several findings: the largest score, the largest value of the maps."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mavl.config.evaluation import GroundingSettings, ZeroShotSettings
from mavl.data import phantom
from mavl.evaluate import classification, grounding
from mavl.scorers import AnyOf, ScorerOptions, open_scorer
from tests.support.small_benchmarks import benchmark
from tests.support.small_runs import forget_accelerator

IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
CLASSES = {"nodule or mass": ("nodule", "mass")}


def test_the_largest_counts():
    plain = open_scorer("random:3", ScorerOptions(findings=()))
    scorer = AnyOf(plain, CLASSES)
    parts = plain.scores(IMAGES, ["edema", "nodule", "mass"])
    expected = torch.stack([parts[:, 1:].amax(dim=1), parts[:, 0], parts[:, 2]], dim=1)
    assert torch.equal(scorer.scores(IMAGES, ["nodule or mass", "edema", "mass"]), expected)
    maps = plain.heatmaps(IMAGES, ["nodule", "mass"])
    assert torch.equal(scorer.heatmaps(IMAGES, ["nodule or mass"]), maps.amax(dim=1, keepdim=True))
    assert scorer.describe()["any_of"] == {"nodule or mass": ["nodule", "mass"]}


@pytest.mark.parametrize(("trained", "new"), [(("nodule", "edema"), True), (("nodule", "mass"), False)])
def test_a_class_is_trained_if_all_its_findings_are(trained, new):
    plain = open_scorer("random:3", ScorerOptions(findings=()))
    plain.trained_findings = trained
    assert ("nodule or mass" not in AnyOf(plain, CLASSES).trained_findings) == new


@pytest.mark.parametrize(
    ("any_of", "message"),
    [
        ({"lump": ["nodule", "mass"]}, "any_of: unknown finding 'lump'"),
        ({"edema": ["nodule"]}, "any_of: edema needs two findings or more"),
        ({"edema": ["edema", "nodule"]}, "any_of: edema needs two findings or more"),
    ],
)
def test_classes_that_are_none(any_of, message):
    with pytest.raises(ValueError, match=message):
        benchmark(any_of=any_of)


def test_a_benchmark_with_such_a_class(tmp_path):
    phantom.write_dataset(tmp_path, "test", 3, range(25), size=64)
    table = pd.read_csv(tmp_path / "test.csv")
    table["nodule or mass"] = table["nodule"] | table["mass"]
    table["f"], table["box"] = "nodule or mass", np.where(table["nodule or mass"] == 1, "8;8;16;16", "")
    table.to_csv(tmp_path / "test.csv", index=False)
    findings = ["nodule or mass", "nodule", "mass"]
    content = {"name": "small", "title": "Small", "root": str(tmp_path), "findings": findings}
    content |= {"splits": {"test": "test.csv"}, "images": {"column": "image", "path": "images/{}.png"}}
    content |= {"labels": {"kind": "columns"}, "any_of": {"nodule or mass": ["nodule", "mass"]}}
    content |= {"masks": {"kind": "box_rows", "finding": "f", "columns": ["box"], "size": [64, 64]}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    settings = {"benchmark": str(tmp_path / "small.yaml"), "model_path": "random:0"}
    settings |= {"output_dir": str(tmp_path / "out")}
    settings |= {"workers": 0, "text_cache": None, "resamples": 0, "html": False}
    result = classification.run(ZeroShotSettings(**settings))
    scores = pd.read_csv(result.folder / "scores.csv")
    together, *apart = (scores[f"{name}_score"] for name in findings)
    np.testing.assert_allclose(together, np.maximum(*apart))
    assert json.loads((result.folder / "results.json").read_text())["about"]["any_of"] == content["any_of"]
    forget_accelerator()
    grounded = grounding.run(GroundingSettings(**settings | {"gallery": 0, "map_size": 64}))
    assert set(pd.read_csv(grounded.folder / "cases.csv")["finding"]) == {"nodule or mass"}
    forget_accelerator()
