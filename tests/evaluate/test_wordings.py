"""One benchmark under several wordings: each is what a plain evaluation with those books gives; their spread."""

import csv
import itertools
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from accelerate.state import AcceleratorState, GradientState

from mavl.backbones.torchvision import ResNetBackbone
from mavl.config.evaluation import BookFiles, SensitivitySettings, ZeroShotSettings
from mavl.data import phantom
from mavl.evaluate import classification as plain
from mavl.evaluate.subject import EvaluationError
from mavl.evaluate.wordings import run
from mavl.metrics.wordings import Sensitivity
from mavl.model import inference
from mavl.vocab import ASPECTS
from tests.support import tiny

BOOKS = tiny.ROOT / "concept_gen" / "books"
ASKED = ("effusion", "pneumothorax", "cardiomegaly")
NEW = "pneumothorax"
IMAGES = 12


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Without the plots of the plain evaluations; and each test with an accelerator of its own."""
    monkeypatch.setattr(plain, "plot_curves", lambda *arguments: None)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    phantom.write_dataset(folder, "test", 11, range(IMAGES), size=64)
    table = pd.read_csv(folder / "test.csv")
    for shift, finding in enumerate(ASKED):
        table[finding] = [int((row + shift) % 3 == 0) for row in range(IMAGES)]
    table.to_csv(folder / "test.csv", index=False)
    return write_benchmark(folder, ASKED)


def write_benchmark(folder: Path, findings: tuple[str, ...]) -> Path:
    description = {
        "name": "phantoms",
        "title": "Phantoms",
        "root": str(folder),
        "findings": list(findings),
        "splits": {"test": "test.csv"},
        "images": {"column": "image", "path": "images/{}.png"},
        "labels": {"kind": "columns"},
    }
    path = folder / f"{len(findings)}.yaml"
    path.write_text(yaml.safe_dump(description))
    return path


@pytest.fixture
def settings(model, benchmark, tmp_path):
    """settings(key=value, …) of an evaluation of the small model; `plan` are those of the sensitivity."""

    def make(plan: dict | None = None, **changed) -> ZeroShotSettings:
        common = {
            "benchmark": str(benchmark),
            "model_path": str(model),
            "descriptions": (str(BOOKS / "descriptions.json"),),
            "aspects": (str(BOOKS / "aspects.json"),),
            "text_cache": None,
            "batch_size": 5,
            "workers": 0,
            "resamples": 20,
            "html": False,
            "output_dir": str(tmp_path / "results"),
            "overwrite": True,
        }
        sensitivity = None if plan is None else SensitivitySettings(**plan)
        return ZeroShotSettings(**common | changed, sensitivity=sensitivity)

    return make


def rows(path: Path) -> dict[str, dict[str, str]]:
    return {next(iter(row.values())): row for row in csv.DictReader(path.open())}


def plain_scores(settings: ZeroShotSettings) -> pd.DataFrame:
    return pd.read_csv(plain.run(settings).folder / "scores.csv")


def asked(result: Sensitivity) -> np.ndarray:
    """AUROC [wordings, ASKED]."""
    return np.stack([result.auroc[name] for name in ASKED], axis=1)


def areas(result: plain.Result) -> list[float]:
    return [found.metrics["auroc"].value for found in result.evaluation.classes]


def test_a_wording_is_a_plain_evaluation_with_its_books(settings):
    """All text is made anew by giving a length; the names' books are those that the run has written."""
    result = run(settings({"built_in": ("names",)}))
    assert [wording.name for wording in result.wordings] == ["books", "names"]
    folder = result.folder / "books" / "names"
    files = {"descriptions": (str(folder / "descriptions.json"),), "aspects": (str(folder / "aspects.json"),)}
    of_books, of_names = plain.run(settings(max_length=128)), plain.run(settings(max_length=128, **files))
    np.testing.assert_allclose(asked(result), [areas(of_books), areas(of_names)], atol=1e-9)
    assert not np.allclose(*asked(result))
    assert result.about["as_trained"]
    assert result.wordings[0].evaluation.classes[0].metrics["auroc"] == of_books.evaluation.classes[0].metrics["auroc"]
    assert json.loads((folder / "aspects.json").read_text())[NEW][0] == f"border: {NEW}"


def test_flips_are_the_pairs_of_images_in_another_order(settings):
    result = run(settings({"built_in": ("names",)}))
    folder = result.folder / "books" / "names"
    files = {"descriptions": (str(folder / "descriptions.json"),), "aspects": (str(folder / "aspects.json"),)}
    books = plain_scores(settings(max_length=128))
    names = plain_scores(settings(max_length=128, **files))
    for column, finding in enumerate(ASKED):
        ours, theirs = names[f"{finding}_score"], books[f"{finding}_score"]
        pairs = list(itertools.combinations(range(IMAGES), 2))
        other = [(ours[i] - ours[j]) * (theirs[i] - theirs[j]) < 0 for i, j in pairs]
        assert result.wordings[1].flips[column] == pytest.approx(np.mean(other))
        assert result.ablated[finding].flips == pytest.approx(np.mean(other))
    np.testing.assert_allclose(result.wordings[0].flips, 0, atol=1e-12)


def test_new_findings_alone_leave_the_trained_text(settings):
    result = run(settings({"built_in": ("names",), "vary": "new"}))
    assert result.about["varied"] == [NEW]
    folder = result.folder / "books" / "names"
    files = {"descriptions": (str(folder / "descriptions.json"),), "aspects": (str(folder / "aspects.json"),)}
    expected = [areas(plain.run(settings())), areas(plain.run(settings(**files)))]
    np.testing.assert_allclose(asked(result), expected, atol=1e-9)
    assert list(json.loads((folder / "descriptions.json").read_text())) == [NEW]
    assert result.folder.name == "supervised_sensitivity_new_sound"


SAID_AS_MUCH = ("books", "reversed", "prefixed", "suffixed", "named")


def test_spread_over_wordings_that_say_as_much_and_loss_over_those_that_say_less(settings):
    result = run(settings({}))
    wordings = rows(result.folder / "wordings.csv")
    assert list(wordings) == [
        *("books", "names", "descriptions"),
        *(f"without {aspect}" for aspect in ASPECTS),
        *("reversed", "prefixed", "suffixed", "named"),
    ]
    spread = rows(result.folder / "spread.csv")
    for finding in ASKED:
        of = {name: float(row[finding]) for name, row in wordings.items()}
        row = spread[finding]
        for prefix, as_much in (("", True), ("less_", False)):
            values = [area for name, area in of.items() if (name in SAID_AS_MUCH) == as_much]
            figures = [float(row[f"{prefix}{key}"]) for key in ("low", "mean", "high", "std")]
            expected = [min(values), np.mean(values), max(values), np.std(values)]
            np.testing.assert_allclose(figures, expected, atol=1e-12)
            lowest, highest = row[f"{prefix}lowest"], row[f"{prefix}highest"]
            assert (of[lowest], of[highest]) == (min(values), max(values))
            assert (lowest in SAID_AS_MUCH, highest in SAID_AS_MUCH) == (as_much, as_much)
        assert float(row["auroc"]) == of["books"]
        assert row["new"] == str(finding == NEW)
    trained = [np.mean([float(row["effusion"]), float(row["cardiomegaly"])]) for row in wordings.values()]
    assert [float(row["mean trained"]) for row in wordings.values()] == pytest.approx(trained)
    as_much = [mean for name, mean in zip(wordings, trained, strict=True) if name in SAID_AS_MUCH]
    assert float(spread["mean trained"]["high"]) == pytest.approx(max(as_much))
    assert float(spread["mean new"]["low"]) == pytest.approx(result.spreads[NEW].low)
    assert (result.folder / "sensitivity.png").read_bytes()[:4] == b"\x89PNG"
    about = json.loads((result.folder / "sensitivity.json").read_text())["about"]
    assert (about["new_findings"], about["head"]) == ([NEW], "supervised")


@pytest.mark.parametrize(("at_once", "expected"), [(16, [5, 5, 2]), (2, [2, 2, 1, 2, 2, 1, 2])])
def test_every_image_goes_through_the_backbone_once(settings, monkeypatch, at_once, expected):
    calls = []
    monkeypatch.setattr(inference, "CPU_BATCH", at_once)
    forward = ResNetBackbone.forward
    monkeypatch.setattr(ResNetBackbone, "forward", lambda self, x: calls.append(len(x)) or forward(self, x))
    run(settings({"built_in": ("names", "templates")}))
    assert calls == [1, 1, *expected]  # first an image of noise, whether the folded weights give the same


def test_books_of_ones_own_are_laid_over_the_others(settings, tmp_path):
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"effusion": "Water beside the lung."}))
    plan = {"built_in": (), "wordings": {"plain words": BookFiles(descriptions=(str(own),))}}
    result = run(settings(plan))
    assert [(wording.name, wording.kind, wording.changed) for wording in result.wordings] == [
        ("books", "books", 0),
        ("plain words", "own", 1),
    ]
    expected = plain.run(settings(max_length=128, descriptions=(str(BOOKS / "descriptions.json"), str(own))))
    np.testing.assert_allclose(asked(result)[1], areas(expected), atol=1e-9)


def test_a_model_of_one_aspect_with_the_contrastive_head_aside(settings, tmp_path):
    model = tiny.write_model(tmp_path, aspects=["description"], contrastive=False)
    result = run(settings({}, model_path=str(model)))
    assert [wording.name for wording in result.wordings] == ["books", "names", "prefixed", "suffixed", "named"]


def test_the_contrastive_head_compares_with_healthy_findings_in_the_same_words(settings):
    result = run(settings({"built_in": ("descriptions",)}, head="contrastive"))
    folder = result.folder / "books" / "descriptions"
    files = {"descriptions": (str(folder / "descriptions.json"),), "aspects": (str(folder / "aspects.json"),)}
    expected = plain.run(settings(max_length=128, head="contrastive", **files))
    np.testing.assert_allclose(asked(result)[1], areas(expected), atol=1e-9)
    assert result.folder.name == "contrastive_sensitivity_sound"


def test_a_class_of_one_label_is_left_out_and_named(settings, benchmark, tmp_path):
    folder = shutil.copytree(benchmark.parent, tmp_path / "own")
    table = pd.read_csv(folder / "test.csv")
    table["effusion"] = 0
    table.to_csv(folder / "test.csv", index=False)
    result = run(settings({"built_in": ("names",)}, root=str(folder)))
    assert (result.findings, result.spreads) == (["cardiomegaly", NEW], {})
    assert result.reference.undefined == ["effusion"]
    table[list(ASKED)] = 0
    table.to_csv(folder / "test.csv", index=False)
    with pytest.raises(EvaluationError, match="phantoms test: no finding has both labels"):
        run(settings({"built_in": ("names",)}, root=str(folder)))


def test_what_cannot_be_asked(settings, benchmark):
    known = write_benchmark(benchmark.parent, ("effusion",))
    with pytest.raises(EvaluationError, match="the model was trained with all findings; use vary: all"):
        run(settings({"vary": "new"}, benchmark=str(known)))
    with pytest.raises(EvaluationError, match="'names' is a built-in wording"):
        run(settings({"wordings": {"names": BookFiles()}}))
    with pytest.raises(EvaluationError, match="no model"):
        run(settings({}, model_path=None))


def test_the_script_prints_both_tables(settings, tmp_path, monkeypatch, capsys):
    common = settings()
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(common.model_dump(mode="json", exclude={"sensitivity"})))
    command = ["zero_shot_classify.py", "--config", str(config), "--wordings", "names,descriptions"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(tiny.ROOT / "zero_shot_classify.py"), run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"{NEW} (new)" in said
    assert said.count("descriptions") >= 1
    [folder] = (tmp_path / "results/phantoms").glob("*/supervised_sensitivity_sound")
    assert str(folder) in said.replace("\n", "")
