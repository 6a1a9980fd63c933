"""The trainings on films: what differs in each, and scores by own words against the evaluator's."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks.films.arms import (
    ASPECT_BOOKS,
    COMPARED,
    CONFIG,
    DESCRIPTION_BOOKS,
    HELD,
    MAVL,
    overrides,
    shuffled,
    trained_findings,
    without,
)
from benchmarks.films.asked import Asked
from mavl.config.evaluation import ZeroShotSettings
from mavl.config.loader import load
from mavl.config.settings import PretrainSettings
from mavl.evaluate.classification import run
from mavl.text.books import read_books
from tests.support import tiny
from tests.support.small_runs import forget_accelerator

FINDINGS = tuple(name for name in trained_findings() if name != "mass")
LISTED = ["No Finding", "Effusion", "Effusion|Infiltration", "Mass", "Mass|Pneumonia", "No Finding"] * 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A test split in the format of nih128, two images of each patient."""
    folder, rng = tmp_path_factory.mktemp("nih128"), np.random.default_rng(0)
    (folder / "images").mkdir()
    rows = {"image": [f"images/{i}.png" for i in range(len(LISTED))], "finding_labels": LISTED}
    for name in rows["image"]:
        Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(folder / name)
    pd.DataFrame(rows | {"patient": [i // 2 for i in range(len(LISTED))]}).to_csv(folder / "test.csv", index=False)
    return folder


def test_every_arm_is_a_training(tmp_path):
    for arm in (MAVL, *COMPARED, *map(without, HELD)):
        settings = load(PretrainSettings, CONFIG, overrides(arm, tmp_path))
        assert len(settings.findings) == len(trained_findings()) - arm.startswith("without")
    assert "effusion" not in load(PretrainSettings, CONFIG, overrides("without effusion", tmp_path)).findings


def test_shuffled_books_give_each_finding_the_words_of_another():
    books, findings = read_books(DESCRIPTION_BOOKS, ASPECT_BOOKS), trained_findings()
    other = shuffled(books, findings)
    assert all(other.sentences[name] != books.sentences[name] for name in findings)
    assert sorted(map(str, other.sentences.values())) == sorted(str(books.sentences[name]) for name in findings)


@pytest.mark.parametrize("head", ["supervised", "contrastive"])
def test_a_finding_asked_by_its_words_has_the_evaluators_scores(root, tmp_path, head):
    model = tiny.write_model(tmp_path, findings=FINDINGS)
    asked = Asked(model, "nih128", root)
    own = asked.scores(["effusion", "mass"], asked.words("mass"))[head]
    options = {"batch_size": 7, "workers": 0, "resamples": 0, "html": False, "text_cache": None}
    names = {"benchmark": "configs/benchmarks/nih128.yaml", "root": str(root), "model_path": str(model), "head": head}
    findings = {"findings": ["effusion", "mass"], "output_dir": str(tmp_path / "out")}
    try:
        result = run(ZeroShotSettings(**options, **names, **findings))
    finally:
        forget_accelerator()
    table = pd.read_csv(result.folder / "scores.csv")
    assert own.std(axis=0).min() > 1e-3
    np.testing.assert_allclose(own, table[["effusion_score", "mass_score"]].to_numpy(), atol=2e-5)
    assert asked.split.select(["mass"]).labels.T.tolist() == [[int("Mass" in text) for text in LISTED]]


def test_the_nearest_trained_finding_is_no_normal_film(root, tmp_path):
    asked = Asked(tiny.write_model(tmp_path, findings=FINDINGS), "nih128", root)
    stored = asked.trained.select(["infiltrate"])
    assert asked.nearest(stored) == "infiltrate"
    assert asked.nearest(asked.trained.select(["normal"])) != "normal"
