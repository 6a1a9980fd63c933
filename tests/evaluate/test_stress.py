"""Stress tests: scores of really changed films, differences as computed, and a model that does not read "no"."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from mavl.backbones import Preprocessing
from mavl.config.evaluation import ZeroShotSettings
from mavl.evaluate.stress import denials, run
from mavl.evaluate.subject import EvaluationError
from mavl.metrics.classification import auroc
from mavl.scorers import KINDS
from mavl.vocab import ASPECTS
from tests.support import tiny
from tests.support.small_runs import forget_accelerator


class LeftSide:
    """Scores the brightness of the left side: a flip turns it around, a window leaves the order."""

    preprocessing, patch_grid = Preprocessing(32, (0.0,) * 3, (1.0,) * 3), None
    trained_findings = ("effusion",)

    def scores(self, images, findings):
        return images[:, 0, :, :16].mean(dim=(1, 2))[:, None].expand(-1, len(findings))

    def heatmaps(self, images, findings):
        return None

    def describe(self):
        return {"model": "left"}


@pytest.fixture
def benchmark(tmp_path):
    """Films whose left side is brighter where there is an effusion; the right side where there is none."""
    rng = np.random.default_rng(0)
    labels = [i % 2 for i in range(60)]
    for i, label in enumerate(labels):
        pixels = rng.integers(0, 60, (32, 32))
        pixels[:, :16] += 60 * label
        pixels[:, 16:] += 60 * (1 - label)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i}.png")
    pd.DataFrame({"image": [f"{i}.png" for i in range(60)], "effusion": labels}).to_csv(
        tmp_path / "test.csv", index=False
    )
    content = {"name": "sides", "title": "Sides", "root": str(tmp_path), "findings": ["effusion"]}
    content |= {"splits": {"test": "test.csv"}, "images": {"column": "image"}, "labels": {"kind": "columns"}}
    (tmp_path / "sides.yaml").write_text(yaml.safe_dump(content))
    yield str(tmp_path / "sides.yaml")
    forget_accelerator()


def stressed(benchmark, tmp_path, *names, model="left:"):
    options = {"batch_size": 16, "workers": 0, "resamples": 50, "text_cache": None}
    settings = {"benchmark": benchmark, "model_path": model, "output_dir": str(tmp_path / "out"), "stress": names}
    return run(ZeroShotSettings(**options | settings))


def test_a_flip_turns_the_scores_of_a_one_sided_model_around(benchmark, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "left", lambda *_: LeftSide())
    result = stressed(benchmark, tmp_path, "flip", "window")
    flip, window = result.tests
    assert (flip.difference.second, flip.difference.first) == (1.0, 0.0)
    assert flip.order < -0.5
    assert flip.moved > 0.1
    assert window.difference.mean.value == 0
    assert window.order > 0.8
    table = pd.read_csv(result.folder / "stress.csv")
    assert table["stress"].tolist() == ["flip", "flip", "window", "window"]
    assert table["change"][0] == -1


def test_a_denied_finding_is_asked_in_the_words_of_no(benchmark, tmp_path):
    """A tiny model of random weights: the figures are those of scores by the denying books."""
    model = tiny.write_model(tmp_path)
    result = stressed(benchmark, tmp_path, "negation", model=str(model))
    [test] = result.tests
    assert 0 <= test.denied <= 1
    from mavl.scorers import ScorerOptions, open_scorer

    scorer = open_scorer(str(model), ScorerOptions(findings=("effusion",)))
    other = scorer.with_books(denials(["effusion"], ASPECTS))
    table = pd.read_csv(tmp_path / "test.csv")
    films = torch.stack([_pixels(tmp_path / name, scorer.preprocessing) for name in table["image"]])
    plain, denied = (each.scores(films, ["effusion"])[:, 0].numpy() for each in (scorer, other))
    labels = table["effusion"].to_numpy()
    assert test.denied == pytest.approx((denied[labels == 1] >= plain[labels == 1]).mean())
    assert test.difference.first == pytest.approx(auroc(labels, denied), abs=1e-6)


def _pixels(path, preprocessing):
    from mavl.data.images.read import ImageFile
    from mavl.data.images.transforms import eval_transform

    return eval_transform(preprocessing)(ImageFile(path))


def test_what_cannot_be_put_under_stress_says_so(benchmark, tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "left", lambda *_: LeftSide())
    with pytest.raises(EvaluationError, match="no text that could deny them"):
        stressed(benchmark, tmp_path, "negation")
    with pytest.raises(EvaluationError, match="a table of scores cannot be put under stress"):
        stressed(benchmark, tmp_path, "flip", model=f"file:{tmp_path / 'test.csv'}")


@pytest.mark.parametrize(
    "changed",
    [{"sensitivity": {}}, {"calibration": "platt"}, {"save_operating_points": True}, {"stress": ("flip", "flip")}],
)
def test_two_analyses_at_once_are_refused(changed):
    with pytest.raises(ValueError, match=r"analyses|usual table|stress"):
        ZeroShotSettings(**{"benchmark": "x", "stress": ("flip",)} | changed)
