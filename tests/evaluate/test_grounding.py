"""Grounding end to end: maps of the right finding in the right image, thresholds by protocol, every kind of mask."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from rich.console import Console

from mavl import checkpoint
from mavl.backbones import PatchGrid, Preprocessing
from mavl.config.evaluation import GroundingSettings
from mavl.config.loader import ConfigError, load
from mavl.data import DataError, phantom
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.data.benchmarks.masks import resize_mask
from mavl.data.images.read import read_image
from mavl.data.images.transforms import eval_transform
from mavl.evaluate.cases import ALL, MAPS
from mavl.evaluate.grounding import Result, run
from mavl.evaluate.subject import EvaluationError
from mavl.metrics.grounding import METRICS, released_thresholds
from mavl.metrics.margins import compare_to_baselines
from mavl.model.heatmaps import HeatmapError, enlarge
from mavl.model.mavl import MAVL
from mavl.report import grounding as grounding_report
from mavl.text.books import read_books
from mavl.text.embeddings import build_embeddings
from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.vocab import DESCRIPTION
from tests.support.grounding import best_threshold, measure
from tests.support.pages import Reader, check_self_contained, in_browser

ROOT = Path(__file__).resolve().parents[2]
BOOKS = {name: (str(ROOT / f"concept_gen/books/{name}.json"),) for name in ("descriptions", "aspects")}
TRAINED, ASKED = ("normal", "effusion", "cardiomegaly"), ("cardiomegaly", "pneumothorax", "effusion")
ARGUMENTS = {"backbone": "resnet18", "image_size": 64, "width": 16, "layers": 2, "heads": 2, "feedforward": 16}
SIZE, GRID = 64, 4
QUICK = {"batch_size": 5, "workers": 0, "text_cache": None, "resamples": 0, "map_size": 56, "gallery": 0, "html": False}
QUICK |= BOOKS


@pytest.fixture(autouse=True)
def _accelerator_of_its_own():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> TransformerEncoder:
    sentences = [text for aspects in read_books(**BOOKS).sentences.values() for text in aspects.values()]
    return TransformerEncoder(
        str(write_random_bert(tmp_path_factory.mktemp("bert"), sentences, seed=0, width=32, layers=1))
    )


def build(folder: Path, encoder: TransformerEncoder, **changed) -> Path:
    """A model folder with drawn weights, whose queries look at some patches more than at others."""
    torch.manual_seed(0)
    arguments = ARGUMENTS | changed | {"text_width": 32}
    model = MAVL(**arguments)
    with torch.no_grad():
        model.query_projection.weight *= 20
        for layer in model.decoder.layers:
            layer.cross_attn.in_proj_weight *= 20
    embeddings = build_embeddings(read_books(**BOOKS), TRAINED, encoder, model.aspects)
    checkpoint.save(folder, model, arguments, embeddings, {"encoder": encoder.name, **encoder.tokenisation}, {}, {})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, encoder) -> Path:
    return build(tmp_path_factory.mktemp("model"), encoder)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    """A benchmark of phantoms, each with a few of the findings asked."""
    folder = tmp_path_factory.mktemp("phantoms")
    for split, seed, number in (("test", 3, 30), ("valid", 4, 25)):
        phantom.write_dataset(folder, split, seed, range(number), size=SIZE)
    masks = {"kind": "file", "path": "masks/{finding}/{}.png"}
    return write_benchmark(
        folder, ASKED, {"column": "image", "path": "images/{}.png"}, {"kind": "columns"}, masks, ("test", "valid")
    )


def write_benchmark(folder: Path, findings, images: dict, labels: dict, masks: dict | None, splits=("test",)) -> Path:
    description = {
        "name": "small",
        "title": "Small",
        "root": str(folder),
        "findings": list(findings),
        "splits": {split: f"{split}.csv" for split in splits},
        "images": images,
        "labels": labels,
    }
    path = folder / f"benchmark_{len(splits)}.yaml"
    path.write_text(yaml.safe_dump(description | ({"masks": masks} if masks else {})))
    return path


@pytest.fixture
def ground(tmp_path, model):
    """ground(benchmark, protocol="released", …) -> Result of a run with these settings."""
    folders = (str(tmp_path / f"results_{number}") for number in itertools.count())

    def run_with(benchmark: Path, **changed) -> Result:
        settings = {"benchmark": str(benchmark), "model_path": str(model), "output_dir": next(folders)}
        return run(GroundingSettings(**QUICK | settings | changed))

    return run_with


def cases_of(result: Result, of: str = "model") -> pd.DataFrame:
    table = pd.read_csv(result.folder / "cases.csv")
    return table[table["map"] == of].reset_index(drop=True)


def expected_cases(model: Path, encoder: TransformerEncoder, folder: Path, split: str, protocol: str) -> list[tuple]:
    """(image, finding, map, mask) of every case of the phantoms, in the table's order, from the attention itself."""
    size = 56
    table = pd.read_csv(folder / f"{split}.csv")
    names = (*TRAINED, "pneumothorax")
    loaded = checkpoint.load(model).model
    embeddings = build_embeddings(read_books(**BOOKS), names, encoder, loaded.aspects)
    found = []
    for image, *labels in table[["image", *ASKED]].itertuples(index=False):
        pixels = eval_transform(Preprocessing(SIZE))(read_image(folder / f"images/{image}.png"))[None]
        with torch.no_grad():
            attention = loaded(pixels, embeddings.vectors, return_attention=True).attention
        for finding in (name for name, label in zip(ASKED, labels, strict=True) if label):
            queries = [names.index(finding) * 9 + aspect for aspect in (0, 6, 7, 8)]
            mean = sum(layer[0, query] for layer in attention for query in queries) / (2 * 4)
            with Image.open(folder / f"masks/{finding}/{image}.png") as file:
                mask = resize_mask(np.asarray(file) > 0, size, centred=protocol == "sound")
            patch_grid = PatchGrid(0.0, 16, (SIZE, SIZE)) if protocol == "sound" else None
            heatmap = enlarge(mean.view(1, 1, GRID, GRID), (size, size), patch_grid)[0, 0].numpy()
            found.append((str(folder / f"images/{image}.png"), finding, heatmap, mask))
    return found


def of_finding(cases: list[tuple], finding: str) -> list[tuple]:
    """(image, map, mask) of the cases of one finding."""
    return [(image, heatmap, mask) for image, found, heatmap, mask in cases if found == finding]


class TestPhantoms:
    """Several findings an image, a mask file for each, a validation split."""

    @pytest.mark.parametrize("protocol", ["sound", "released"])
    def test_every_case_is_measured_on_its_own_map_at_its_findings_threshold(
        self, ground, phantoms, model, encoder, protocol
    ):
        result = ground(phantoms, protocol=protocol, max_length=128)
        measured = cases_of(result)
        cases = expected_cases(model, encoder, phantoms.parent, "test", protocol)
        assert {finding for _, finding, _, _ in cases} == set(ASKED)
        assert list(zip(measured["path"], measured["finding"], strict=True)) == [case[:2] for case in cases]
        reference, candidates = cases, released_thresholds()
        if protocol == "sound":
            reference = expected_cases(model, encoder, phantoms.parent, "valid", protocol)
            candidates = candidates * 14 * 14 / GRID**2
        for (image, finding, heatmap, mask), row in zip(cases, measured.to_dict("records"), strict=True):
            threshold = best_threshold(of_finding(reference, finding), candidates)
            # of two neighbouring candidates, 1e-5 apart, either may be the best one for maps that agree to some 5e-5
            assert row["threshold"] == pytest.approx(threshold, rel=1e-8, abs=1.1e-5 if protocol == "released" else 0)
            threshold = row["threshold"]
            # the maps agree to some 5e-5: pixels that are as near to the threshold may lie on either side of it
            near = [measure(heatmap, mask, threshold * nudge, image) for nudge in (1, 1 - 1e-4, 1 + 1e-4)]
            found = {name: row[name] for name in METRICS}
            assert any(found == pytest.approx(expected, rel=1e-3, abs=1e-4, nan_ok=True) for expected in near)
        assert measured["dice"].max() > 0.1

    def test_means_are_those_of_the_cases_by_finding_and_of_all(self, ground, phantoms):
        result = ground(phantoms, resamples=20)
        assert list(result.localizations) == [*ASKED, ALL]
        told = json.loads((result.folder / "results.json").read_text())["findings"]
        table = pd.read_csv(result.folder / "results.csv").set_index(["finding", "map"])
        for finding, name in itertools.product([*ASKED, ALL], MAPS):
            rows = cases_of(result, name)
            rows = rows if finding == ALL else rows[rows["finding"] == finding]
            assert told[finding][name]["cases"] == table.loc[(finding, name), "cases"] == len(rows) > 0
            assert told[finding][name]["groups"] == rows["path"].nunique()
            for metric in METRICS:
                interval = told[finding][name]["means"][metric]
                assert interval["value"] == pytest.approx(rows[metric].mean(), rel=1e-6, nan_ok=True)
                assert interval["low"] is None or interval["low"] <= interval["value"] <= interval["high"]
            low = told[finding][name]["means"]["dice"]["low"]
            assert table.loc[(finding, name), "dice_low"] == pytest.approx(np.nan if low is None else low, nan_ok=True)
        assert told[ALL]["model"]["threshold"] is None
        assert told[ALL]["model"]["threshold_source"] == "validation"
        of_effusion = cases_of(result).query("finding == 'effusion'")["threshold"].unique()
        assert of_effusion == pytest.approx([told["effusion"]["model"]["threshold"]])

    def test_the_folder_says_how_the_numbers_came_about(self, ground, phantoms):
        result = ground(phantoms, gallery=2, findings=("effusion",))
        assert result.folder.name == "avg_sound"
        about = json.loads((result.folder / "results.json").read_text())["about"]
        assert {key: about[key] for key in ("benchmark", "split", "protocol", "aggregation", "grid", "layers")} == {
            "benchmark": "small",
            "split": "test",
            "protocol": "sound",
            "aggregation": "avg",
            "grid": [GRID, GRID],
            "layers": "all",
        }
        assert about["aspects"] == ["description", "patterns", "shape", "texture"]
        assert about["thresholds"].startswith("best mean Dice on the ")
        assert load(GroundingSettings, result.folder / "config.yaml").findings == ("effusion",)
        assert json.loads((result.folder / "left_out.json").read_text()) == {"test": [], "valid": []}
        with Image.open(result.folder / "gallery.png") as gallery:
            assert gallery.width > 400


@pytest.fixture(scope="module", params=["sound", "released"])
def shown(request, phantoms, model, tmp_path_factory) -> tuple[Result, Reader]:
    """A run on the phantoms, and the page that it wrote."""
    settings = {"benchmark": str(phantoms), "model_path": str(model), "resamples": 30, "gallery": 2, "html": True}
    folder = str(tmp_path_factory.mktemp("page"))
    result = run(GroundingSettings(**QUICK | settings | {"protocol": request.param, "output_dir": folder}))
    return result, check_self_contained((result.folder / "report.html").read_text())


class TestPage:
    """report.html beside the other files of a run."""

    def test_the_table_has_the_numbers_of_the_json(self, shown):
        result, page = shown
        found = json.loads((result.folder / "results.json").read_text())["findings"]
        first = next(number for number, row in enumerate(page.rows) if row[0] == "finding")
        rows = iter(page.rows[first + 1 :])
        for finding, name in itertools.product([*ASKED, ALL], MAPS):
            of_map, row = found[finding][name], next(rows)
            assert row[0].removesuffix(" †") == (finding if name == "model" else name)
            assert (" †" in row[0]) == (name == "model" and finding == "pneumothorax")  # never trained on
            assert row[1] == (str(of_map["cases"]) if name == "model" else "")
            means = {metric: interval["value"] for metric, interval in of_map["means"].items()}
            shown = ("pointing_game", "average_precision", "best_dice", "contrast_to_noise")
            shown += ("iou", "dice", "recall", "precision", "accuracy")
            for metric, cell in zip(shown, row[3:], strict=True):
                scale, digits = (1, 2) if metric == "contrast_to_noise" else (100, 1)
                if means[metric] is None:
                    assert cell == "–"
                    continue
                expected = f"{scale * means[metric]:.{digits}f}"
                if of_map["means"][metric]["low"] is not None:  # too few cases of one finding
                    low, high = (scale * of_map["means"][metric][bound] for bound in ("low", "high"))
                    expected += f" {low:.{digits}f}–{high:.{digits}f}"
                assert cell == expected

    def test_whether_the_model_is_above_is_computed(self, shown):
        result, page = shown
        told = json.loads((result.folder / "results.json").read_text())["model_minus"]
        for finding, baseline in itertools.product([*ASKED, ALL], ("random", "centre")):
            model, other = (cases_of(result, name) for name in ("model", baseline))
            chosen = model["finding"].isin(ASKED if finding == ALL else [finding])
            for metric, interval in told[finding][baseline].items():
                difference = (model[metric] - other[metric])[chosen].mean()
                assert interval["value"] == pytest.approx(difference, abs=1e-7)
        sentence = compare_to_baselines(result.margins[ALL]).sentence
        assert f"cases the model’s maps are {sentence}." in " ".join(page.text.split())
        assert result.summary.endswith(sentence)
        [row] = (row for row in page.rows if row[0] == "pointing game")
        expected = told[ALL]["centre"]["pointing_game"]["value"]
        assert float(row[5].split()[0].replace("\N{MINUS SIGN}", "-")) == pytest.approx(100 * expected, abs=0.051)
        lows = [told[ALL][baseline]["pointing_game"]["low"] for baseline in ("random", "centre")]
        assert (row[6] == "above both") == all(low is not None and low > 0 for low in lows)

    def test_every_finding_has_its_best_and_worst_cases_in_order(self, shown):
        result, page = shown
        films = [image["alt"] for image in page.all("img") if image["alt"].endswith(".png")]
        expected = []
        for finding in ASKED:
            cases = cases_of(result)
            cases = cases[cases["finding"] == finding].sort_values("dice", ascending=False, kind="stable")
            names = [Path(path).name for path in cases["path"]]
            half = (len(names) + 1) // 2
            expected += names[:half][:2] + names[half:][::-1][:2]
        assert films == expected
        assert len(page.all("img", **{"class": "heat"})) == len(page.all("path", **{"class": "mask"})) == len(films)
        assert len(page.all("polyline")) == 3 * (len(ASKED) + 1)

    def test_a_browser_lays_it_out_on_a_phone_and_hides_what_is_switched_off(self, shown, tmp_path):
        script = """() => {
          const seen = (name) => [...document.querySelectorAll(name)].filter((e) => e.getClientRects().length).length
          const switched = (name) => {
            const before = seen(`.${name}`)
            document.getElementById(`show-${name}`).click()
            return [before, seen(`.${name}`)]
          }
          const names = ["heat", "mask", "predicted"]
          return { width: document.documentElement.scrollWidth, window: innerWidth, switched: names.map(switched) }
        }"""
        told = in_browser((shown[0].folder / "report.html").read_text(), script, tmp_path)
        films = len([image for image in shown[1].all("img") if image["alt"].endswith(".png")])
        assert told["width"] <= told["window"]
        assert told["switched"] == [[films, 0], [films, 0], [len(shown[1].all("path", **{"class": "predicted"})), 0]]

    def test_it_says_how_the_numbers_came_about(self, shown):
        result, page = shown
        text = " ".join(page.text.split())
        about = result.about
        for fact in (
            f"{about['protocol']} protocol",
            about["thresholds"],
            "avg over the aspects description, patterns, shape",
        ):
            assert fact in text
        assert f"torch {about['provenance']['packages']['torch']}" in text
        assert "map_size: 56" in text  # the settings


def test_no_page_where_none_is_wanted(ground, phantoms):
    folder = ground(phantoms, html=False).folder
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "cases.csv", "results.csv", "results.json", "left_out.json")
    }


# The same rectangle in four formats: rows 16 to 63 and columns 16 to 47 of 64, in the first of three images.

RECTANGLE = np.zeros((64, 64), bool)
RECTANGLE[16:64, 16:48] = True
RUNS = " ".join(["1040 48"] + ["16 48"] * 31)  # 16 whole columns and 16 pixels, then from one column to the next
ONE = {"images": {"column": "image", "path": "images/{}.png"}, "findings": ["effusion"]}


def write_images(folder: Path, number: int = 3) -> None:
    (folder / "images").mkdir()
    for index in range(number):
        Image.fromarray(phantom.draw(5, index, 64).image).save(folder / f"images/{index}.png")


def boxes(folder: Path) -> Path:
    (folder / "test.csv").write_text("image,effusion,boxes\n0,1,16;16;32;24|16;40;32;24\n1,0,\n2,0,\n")
    masks = {"kind": "boxes", "column": "boxes", "size": [64, 64]}
    return write_benchmark(folder, **ONE, labels={"kind": "columns"}, masks=masks)


def runs(folder: Path) -> Path:
    (folder / "test.csv").write_text(f"image,runs\n0,{RUNS}\n1,-1\n2,-1\n")
    masks = {"kind": "rle", "column": "runs", "size": [64, 64]}
    return write_benchmark(folder, **ONE, labels={"kind": "mask"}, masks=masks)


def files(folder: Path) -> Path:
    (folder / "test.csv").write_text("image\n0\n1\n2\n")
    (folder / "masks").mkdir()
    for index in range(3):
        Image.fromarray(RECTANGLE if index == 0 else np.zeros_like(RECTANGLE)).save(folder / f"masks/{index}.png")
    masks = {"kind": "file", "path": "masks/{}.png"}
    return write_benchmark(folder, **ONE, labels={"kind": "mask"}, masks=masks)


def box_rows(folder: Path) -> Path:
    lines = "image,finding,x,y,w,h\n0,Effusion,16,16,32,24\n1,Cardiomegaly,0,0,9,9\n0,effusion,16.0,40.9,32,24\n"
    (folder / "test.csv").write_text(lines)
    masks = {"kind": "box_rows", "finding": "finding", "columns": ["x", "y", "w", "h"], "size": [64, 64]}
    asked = ONE | {"findings": ["effusion", "cardiomegaly"]}
    return write_benchmark(folder, **asked, labels={"kind": "mask"}, masks=masks)


@pytest.mark.parametrize("form", [boxes, runs, files, box_rows])
def test_masks_of_every_form(ground, tmp_path, form):
    write_images(tmp_path)
    result = ground(form(tmp_path), findings=("effusion",))
    [centre] = cases_of(result, "centre").to_dict("records")
    assert (centre["finding"], centre["row"], centre["pointing_game"]) == ("effusion", "test.csv:2", 1)
    [model] = cases_of(result).to_dict("records")
    assert model["path"].endswith("images/0.png")
    # Three quarters of the rows and half of the columns: with everything predicted, Dice is 2 · 3/8 / (1 + 3/8).
    assert 6 / 11 - 1e-9 <= model["best_dice"] < 0.95  # the file holds nine digits
    pd.testing.assert_frame_equal(cases_of(result), cases_of(ground(boxes(tmp_path))))


def test_baselines_know_nothing_of_the_model(ground, encoder, tmp_path):
    write_images(tmp_path)
    benchmark = boxes(tmp_path)
    one, other = ground(benchmark), ground(benchmark, model_path=str(build(tmp_path / "other", encoder, layers=1)))
    assert not cases_of(one)["average_precision"].equals(cases_of(other)["average_precision"])
    for name in ("random", "centre"):
        pd.testing.assert_frame_equal(cases_of(one, name), cases_of(other, name))
    (tmp_path / "test.csv").write_text("image,effusion,boxes\n1,1,0;0;9;9\n0,1,16;16;32;48\n")
    same = cases_of(ground(benchmark), "random").query("path.str.endswith('0.png')")
    assert same["average_precision"].tolist() == cases_of(one, "random")["average_precision"].tolist()
    reseeded = cases_of(ground(benchmark, seed=1), "random")["average_precision"]
    assert not set(reseeded) & set(cases_of(one, "random")["average_precision"])


def test_a_model_of_one_aspect_grounds_by_its_one_query(ground, encoder, tmp_path):
    write_images(tmp_path)
    benchmark = boxes(tmp_path)
    medklip = str(build(tmp_path / "medklip", encoder, aspects=[DESCRIPTION], contrastive=False))
    result = ground(benchmark, model_path=medklip)
    assert result.about["aspects"] == [DESCRIPTION]
    pd.testing.assert_frame_equal(cases_of(result), cases_of(ground(benchmark, model_path=medklip, aggregation="max")))


def test_a_model_without_some_aspects_grounds_by_the_others(ground, encoder, tmp_path):
    write_images(tmp_path)
    model = str(build(tmp_path / "some", encoder, aspects=[DESCRIPTION, "fluid", "shape"]))
    assert ground(boxes(tmp_path), model_path=model).about["aspects"] == [DESCRIPTION, "shape"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[patern]", "map_aspects.0 = \"patern\": expected 'description'"),
        ("[]", "map_aspects = []: Tuple should have at"),
    ],
)
def test_bad_aspects_are_told_once(text, complaint):
    with pytest.raises(ConfigError) as caught:
        load(GroundingSettings, None, ["benchmark=b.yaml", f"map_aspects={text}"])
    [problem] = caught.value.problems
    assert complaint in problem


def test_settings_reach_the_maps(ground, tmp_path):
    write_images(tmp_path)
    benchmark = boxes(tmp_path)
    plain = cases_of(ground(benchmark))["average_precision"]
    for changed in ({"layers": (1,)}, {"aggregation": "max"}, {"map_aspects": ("fluid",)}):
        assert not cases_of(ground(benchmark, **changed))["average_precision"].equals(plain), changed
    with pytest.raises(HeatmapError, match="no decoder layer 2, only 0 to 1"):
        ground(benchmark, layers=(2,))


def test_images_without_the_finding_are_not_even_opened(ground, tmp_path):
    write_images(tmp_path)
    benchmark = boxes(tmp_path)
    expected = cases_of(ground(benchmark))
    (tmp_path / "images/1.png").unlink()
    pd.testing.assert_frame_equal(cases_of(ground(benchmark)), expected)
    (tmp_path / "images/0.png").unlink()
    with pytest.raises(DataError, match=r"1 of 1 images of the test split .*\n  test.csv:2: 0.png: no such file"):
        ground(benchmark)


def test_no_positive_image_is_an_error_that_says_so(ground, tmp_path):
    write_images(tmp_path)
    benchmark = boxes(tmp_path)
    (tmp_path / "test.csv").write_text("image,effusion,boxes\n1,0,\n2,0,\n")
    message = "small: no image of its test split has a mask of effusion; only positive images count"
    with pytest.raises(EvaluationError, match=message):
        ground(benchmark)


def test_a_mask_that_falls_between_the_pixels_is_listed(ground, tmp_path):
    write_images(tmp_path)
    benchmark = boxes(tmp_path)
    (tmp_path / "test.csv").write_text("image,effusion,boxes\n0,1,16;32;32;32\n1,1,3;0;1;64\n2,1,\n")
    result = ground(benchmark, map_size=8)  # their patch_grid fall on 4, 12, 20, …
    assert len(cases_of(result)) == 1
    assert result.about["left_out"]["test"] == [
        "test.csv:3: the mask of effusion is between the pixels of 8 × 8: raise map_size",
        "test.csv:4: the mask of effusion is empty",
    ]


def test_a_benchmark_without_masks(ground, tmp_path):
    write_images(tmp_path)
    (tmp_path / "test.csv").write_text("image,effusion\n0,1\n")
    benchmark = write_benchmark(tmp_path, **ONE, labels={"kind": "columns"}, masks=None)
    with pytest.raises(EvaluationError, match=r"benchmark_1.yaml: names no masks"):
        ground(benchmark)


class TestThresholds:
    def test_without_a_validation_split_there_are_none_and_the_reason_is_told(self, ground, tmp_path):
        write_images(tmp_path)
        result = ground(boxes(tmp_path), resamples=10, gallery=3, html=True)
        assert (result.folder / "gallery.png").stat().st_size > 10_000
        assert result.about["thresholds"] == "none: the benchmark has no validation split"
        [row] = cases_of(result).to_dict("records")
        needing = [name for name, metric in METRICS.items() if metric.needs_threshold]
        assert np.isnan([row[name] for name in ("threshold", *needing)]).all()
        assert row["best_dice"] > 0
        page = check_self_contained((result.folder / "report.html").read_text())
        assert len(page.all("img", **{"class": "heat"})) == 1
        assert "there is no interval, as all cases are of one patient or image" in page.text
        assert not [row for row in page.rows if row[0] == "Dice at the threshold"]
        # One image has no spread.
        assert np.isnan(result.localizations["effusion"]["model"].means["best_dice"].low)

    def test_a_finding_that_validation_lacks_has_none(self, ground, phantoms):
        lines = pd.read_csv(phantoms.parent / "valid.csv")
        lines.assign(effusion=0).to_csv(phantoms.parent / "no_effusion.csv", index=False)
        changed = yaml.safe_load(phantoms.read_text())
        changed["splits"]["valid"] = "no_effusion.csv"
        benchmark = phantoms.with_name("changed.yaml")
        benchmark.write_text(yaml.safe_dump(changed))
        result = ground(benchmark)
        assert result.about["thresholds"].endswith("; none for effusion, of which it has no case")
        measured = cases_of(result).groupby("finding")["dice"]
        assert measured.count()["effusion"] == 0 < measured.count()["cardiomegaly"]

    def test_cases_that_test_has_too_are_left_out_and_counted(self, ground, phantoms, tmp_path):
        folder = shutil.copytree(phantoms.parent, tmp_path / "shared")
        lines = pd.read_csv(folder / "valid.csv")
        test = pd.read_csv(folder / "test.csv")
        pd.concat([lines, test.iloc[[0, 1]]]).to_csv(folder / "valid.csv", index=False)
        expected, result = ground(phantoms), ground(phantoms, root=str(folder))
        clause = "; valid: 2 images left out, which test has too"
        assert result.about["thresholds"] == expected.about["thresholds"] + clause
        pd.testing.assert_series_equal(cases_of(result)["threshold"], cases_of(expected)["threshold"])

    def test_validation_without_a_mask(self, ground, phantoms):
        result = ground(phantoms, findings=("cardiomegaly",), split="valid")
        assert result.about["thresholds"] == "none: the validation split itself is evaluated"
        assert result.folder.name == "avg_sound_valid"


# What people see


def printed(result: Result, width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    console.print(grounding_report.table(result.localizations, "Title", "Caption."))
    return console.file.getvalue().splitlines()


def test_the_table_names_findings_maps_and_all(ground, phantoms):
    lines = printed(ground(phantoms, resamples=10))
    assert [line.split()[0] for line in lines[3:16] if line.strip()] == [
        *(name for finding in (*ASKED, ALL) for name in (finding, "random", "centre"))
    ]
    assert "IoU, Dice, R, P, acc.: map > a threshold chosen on" in "\n".join(lines)


def test_the_table_without_thresholds(ground, tmp_path):
    write_images(tmp_path)
    lines = printed(ground(boxes(tmp_path)))
    assert " ".join(lines[1].split()) == "finding n point 95 % AP 95 % max. Dice 95 % CNR"
    assert [line.split()[0] for line in lines[3:6]] == ["effusion", "random", "centre"]
    assert "Dice," not in "\n".join(lines)


# The files of this repository, and the script


@pytest.mark.parametrize("path", sorted((ROOT / "configs/grounding").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_names_a_benchmark_with_masks(path):
    settings = load(GroundingSettings, path)
    assert load(Benchmark, ROOT / settings.benchmark).masks is not None


@pytest.mark.parametrize(
    ("name", "data", "cases"),
    [("covid_masks_sample", "covid_masks", {"opacity": 6}), ("nih_sample_boxes", "nih", {"pneumonia": 29, "mass": 1})],
)
def test_real_radiographs(ground, shared, name, data, cases):
    result = ground(ROOT / f"configs/benchmarks/{name}.yaml", root=str(shared(f"data/{data}")), findings=tuple(cases))
    assert cases_of(result)["finding"].value_counts().to_dict() == cases
    assert result.localizations[ALL]["centre"].means["average_precision"].value > 0.1


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one(phantoms, model, tmp_path):
    config = tmp_path / "config.yaml"
    settings = QUICK | {"benchmark": str(phantoms), "model_path": str(model), "resamples": 20, "html": True}
    config.write_text(yaml.safe_dump({key: list(x) if isinstance(x, tuple) else x for key, x in settings.items()}))
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--mixed_precision=no"]
    launch += ["--dynamo_backend=no", "--main_process_port=0", "--num_processes=2"]
    files_of = {}
    for name, launcher in (("one", []), ("two", launch)):
        script = ["zero_shot_ground.py", "--config", str(config), "--output_dir", str(tmp_path / name)]
        environment = os.environ | {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, *launcher, *script]
        finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert finished.returncode == 0, finished.stderr[-3000:]
        assert "Small (test), avg maps, sound protocol" in finished.stdout
        [folder] = tmp_path.glob(f"{name}/small/*/avg_sound")
        assert (folder / "report.html").exists()
        files_of[name] = [(folder / file).read_text() for file in ("cases.csv", "results.csv", "results.json")]
    assert files_of["one"] == files_of["two"]
