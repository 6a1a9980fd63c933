"""Results side by side: matched by image, refused where they are not of the same films, differences as computed."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mavl.data.benchmarks.splits import Split
from mavl.evaluate.comparison import ComparisonError, compare
from mavl.metrics.classification import evaluate
from mavl.metrics.comparison import compare_auroc
from mavl.report import classification as report
from mavl.report.analyses import comparison as shown
from tests.support.pages import check_self_contained
from tests.support.processes import ROOT

FINDINGS, IMAGES = ("edema", "mass"), 120
ABOUT = {"title": "Films of a clinic", "benchmark": "clinic", "version": 1, "split": "test", "head": "supervised"}


def labels_of(seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((IMAGES, 2)) < 0.4).astype(np.int8)


def write_result(folder: Path, noise: float, seed: int = 0, findings=FINDINGS, order=None, **changed) -> np.ndarray:
    """A result of scores that are the labels and noise; order: of the lines of the table. Returns the scores."""
    labels, rng = changed.pop("labels", labels_of()), np.random.default_rng(seed)
    scores = labels + rng.normal(0, noise, labels.shape)
    groups = [f"p{i // 2}" for i in range(IMAGES)]
    evaluation = evaluate(labels, scores, findings, resamples=20, groups=groups)
    paths = [Path(f"/data/{folder.name}/{i}.png") for i in range(IMAGES)]
    rows = [f"test.csv:{i + 2}" for i in range(IMAGES)]
    folder.mkdir(parents=True)
    report.write_json(evaluation, folder / "results.json", ABOUT | changed)
    report.write_scores(folder / "scores.csv", Split("test", findings, paths, labels, groups, rows, None), scores)
    if order is not None:
        table = pd.read_csv(folder / "scores.csv")
        table.iloc[order].to_csv(folder / "scores.csv", index=False)
    return scores


def test_the_differences_are_those_of_a_direct_computation_whatever_the_order_of_the_lines(tmp_path):
    good = write_result(tmp_path / "good", 0.6)
    bad = write_result(tmp_path / "bad", 1.5, seed=1, order=np.random.default_rng(2).permutation(IMAGES))
    compared = compare([tmp_path / "good", tmp_path / "bad"], resamples=100)
    groups = [f"p{i // 2}" for i in range(IMAGES)]
    direct = compare_auroc(labels_of(), [bad], [good], FINDINGS, groups=groups, resamples=100)
    [pair] = compared.pairs
    assert pair.difference.mean.value == pytest.approx(direct.mean.value)
    assert pair.difference.classes["mass"].low == pytest.approx(direct.classes["mass"].low)
    assert pair.difference.p["edema"] == pytest.approx(direct.p["edema"])
    assert pair.difference.mean.value < -0.1
    smaller, larger = sorted(direct.p.values())
    assert sorted(pair.adjusted.values()) == pytest.approx([2 * smaller, max(2 * smaller, larger)])


def test_findings_that_one_lacks_are_left_out_and_named(tmp_path):
    write_result(tmp_path / "a", 1)
    write_result(tmp_path / "b", 1, findings=("mass", "edema"), labels=labels_of()[:, ::-1])
    write_result(tmp_path / "c", 1, findings=("mass", "nodule"), labels=labels_of()[:, ::-1])
    assert compare([tmp_path / "a", tmp_path / "b"], resamples=5).findings == ["edema", "mass"]
    compared = compare([tmp_path / "a", tmp_path / "c"], resamples=5)
    assert compared.findings == ["mass"]
    assert [*compared.left_out.values()] == [["edema"], ["nodule"]]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"benchmark": "other"}, "of benchmark 'clinic', .* of 'other'"),
        ({"version": 2}, "of version 1, .* of 2"),
        ({"split": "valid"}, "of split 'test', .* of 'valid'"),
        ({"labels": labels_of(3)}, "labels differ, the first of (edema|mass) in test.csv:"),
        ({"order": np.arange(IMAGES - 1)}, "other numbers of labels"),
    ],
)
def test_other_films_labels_and_versions_are_refused(tmp_path, changed, message):
    write_result(tmp_path / "a", 1)
    write_result(tmp_path / "b", 1, **changed)
    with pytest.raises(ComparisonError, match=message):
        compare([tmp_path / "a", tmp_path / "b"], resamples=5)


def test_images_that_one_lacks_are_counted_and_named(tmp_path):
    write_result(tmp_path / "a", 1)
    write_result(tmp_path / "b", 1)
    table = pd.read_csv(tmp_path / "b/scores.csv")
    table.loc[3, "row"] = "test.csv:900"
    table.to_csv(tmp_path / "b/scores.csv", index=False)
    with pytest.raises(ComparisonError, match=r"a has 1 image that .*b lacks, such as test\.csv:5, 3\.png"):
        compare([tmp_path / "a", tmp_path / "b"], resamples=5)


def test_a_folder_without_a_result_and_one_alone_are_named(tmp_path):
    write_result(tmp_path / "a", 1)
    with pytest.raises(ComparisonError, match=r"nothing: results\.json is missing"):
        compare([tmp_path / "a", tmp_path / "nothing"])
    with pytest.raises(ComparisonError, match="two result folders"):
        compare([tmp_path / "a"])
    with pytest.raises(ComparisonError, match="given twice"):
        compare([tmp_path / "a", tmp_path / "a"])


def test_training_on_the_collection_of_the_benchmark_is_told(tmp_path):
    trained = {"kind": "films", "list": "rsna", "images": 9, "collection": "ChestX-ray14"}
    write_result(tmp_path / "a", 1, collection="ChestX-ray14")
    write_result(tmp_path / "b", 1, collection="ChestX-ray14", trained_on=trained)
    write_result(tmp_path / "c", 1, collection="ChestX-ray14", trained_on=trained | {"list": "clinic"})
    [line] = compare([tmp_path / name for name in "abc"], resamples=5).warnings
    assert "b was trained on 9 images of rsna, which are of ChestX-ray14 too" in line


def test_the_script_writes_tables_and_a_page(tmp_path, monkeypatch, capsys):
    for name, noise in (("good", 0.6), ("bad & <odd>_", 2)):
        write_result(tmp_path / name, noise, training_images="Trained on 9 films.")
    specification = importlib.util.spec_from_file_location("compare_script", ROOT / "compare.py")
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    results = [str(tmp_path / "good"), str(tmp_path / "bad & <odd>_")]
    monkeypatch.setattr(sys, "argv", ["compare.py", *results, "--out", str(tmp_path / "out"), "--resamples", "30"])
    script.main()
    printed = capsys.readouterr().out
    assert "comparison.html" in printed
    board = pd.read_csv(tmp_path / "out/leaderboard.csv")
    assert board["model"].tolist() == ["good", "bad & <odd>_"]
    assert board["auroc"][0] > board["auroc"][1]
    rows = pd.read_csv(tmp_path / "out/differences.csv")
    assert rows["finding"].tolist() == ["edema", "mass", "mean"]
    assert (rows["difference"] < 0).all()
    assert r"bad \& <odd>\_" in (tmp_path / "out/leaderboard.tex").read_text()
    assert len(json.loads((tmp_path / "out/comparison.json").read_text())["models"]) == 2
    check_self_contained((tmp_path / "out/comparison.html").read_text())
    assert set(shown.COMPARED) == {path.name for path in (tmp_path / "out").iterdir()}


def test_published_figures_have_columns_of_their_own(tmp_path):
    for name in ("a", "b"):
        write_result(tmp_path / name, 1, benchmark="rsna")
    compared = compare([tmp_path / "a", tmp_path / "b"], resamples=5, published=ROOT / "configs/published/figures.yaml")
    (tmp_path / "out").mkdir()
    shown.write(compared, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/leaderboard.csv")
    assert table["model"].tolist()[2:] == ["MAVL, published", "MedKLIP, published"]
    assert table["published_auroc"].tolist()[2:] == [86.31, 85.94]
    assert table["auroc"].isna().tolist() == [False, False, True, True]
    assert "Phan et al., CVPR 2024" in (tmp_path / "out/comparison.html").read_text()
