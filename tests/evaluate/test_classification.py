"""Zero-shot evaluation of a benchmark: the right finding's score for the right image, thresholds, open vocabulary."""

import io
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

import mavl
from mavl import checkpoint
from mavl.backbones import Preprocessing
from mavl.config.evaluation import ZeroShotSettings
from mavl.config.loader import load
from mavl.data import DataError, phantom
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.data.images.read import read_image
from mavl.data.images.transforms import eval_transform
from mavl.evaluate.classification import Result, heatmaps, run
from mavl.evaluate.subject import EvaluationError, prepare, scorer_options
from mavl.metrics.calibration import fit_calibration
from mavl.metrics.classification import evaluate as evaluate_scores
from mavl.model.mavl import MAVL, MAVLOutput
from mavl.model.scores import HeadError
from mavl.report.classification import table
from mavl.report.folder import OccupiedError
from mavl.scorers.mavl import model_embeddings
from mavl.scorers.random import RandomScorer
from mavl.text.books import BookError, read_books
from mavl.text.embeddings import TextEmbeddings, build_embeddings
from mavl.text.encoders.random_bert import write_random_bert
from mavl.text.encoders.transformers import TransformerEncoder
from mavl.vocab import ASPECTS, DESCRIPTION
from tests.support.pages import check_self_contained

TRAINED = ("clear", "effusion", "cardiomegaly", "normal")
NAMES = (*TRAINED, "pneumothorax", "tube")
LONG = "effusion"  # its description is cut at 64 tokens, and at 128
ARGUMENTS = {"backbone": "resnet18", "image_size": 64, "width": 16, "layers": 1, "heads": 2, "feedforward": 16}
ONE_ASPECT = {"aspects": [DESCRIPTION], "contrastive": False}
TEST, VALID = 12, 10


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Without the plots, which have tests of their own; and each test with an accelerator of its own."""
    monkeypatch.setattr("mavl.evaluate.classification.plot_curves", lambda *arguments: None)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="module")
def books(tmp_path_factory) -> dict[str, tuple[str]]:
    folder = tmp_path_factory.mktemp("books")
    descriptions = {name: f"{name} is seen as {name}" for name in NAMES}
    descriptions[LONG] += "".join(f" word{i}" for i in range(200))
    aspects = {name: [f"{aspect}: the {aspect} of {name}" for aspect in ASPECTS[1:]] for name in NAMES}
    for name, content in (("descriptions", descriptions), ("aspects", aspects)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return {name: (str(folder / f"{name}.json"),) for name in ("descriptions", "aspects")}


@pytest.fixture(scope="module")
def encoder(books, tmp_path_factory) -> TransformerEncoder:
    sentences = [text for aspects in read_books(**books).sentences.values() for text in aspects.values()]
    return TransformerEncoder(
        str(write_random_bert(tmp_path_factory.mktemp("bert"), sentences, seed=0, width=32, layers=1))
    )


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    """Phantoms on disk, asked for in another order than trained on, and for a finding never trained on."""
    folder = tmp_path_factory.mktemp("benchmark")
    for split, seed, number in (("test", 11, TEST), ("valid", 12, VALID)):
        phantom.write_dataset(folder, split, seed, range(number), size=64)
    return write_benchmark(folder)


def write_benchmark(
    folder: Path, findings=("effusion", "pneumothorax", "cardiomegaly"), splits=("test", "valid")
) -> Path:
    """Findings of a folder's CSV files, with a first test and validation image that have each and last ones without."""
    for split in splits:
        table = pd.read_csv(folder / f"{split}.csv")
        table.loc[0, list(findings)], table.loc[len(table) - 1, list(findings)] = 1, 0
        table.to_csv(folder / f"{split}.csv", index=False)
    description = {
        "name": "phantoms",
        "title": "Phantoms",
        "root": str(folder),
        "findings": list(findings),
        "splits": {split: f"{split}.csv" for split in splits},
        "images": {"column": "image", "path": "images/{}.png"},
        "labels": {"kind": "columns"},
    }
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(description))
    return path


def build(
    folder: Path, books: dict, encoder: TransformerEncoder, images: torch.Tensor, findings=TRAINED, **changed
) -> Path:
    """A model folder: drawn weights, wide enough to tell one image from the next, BatchNorm at home in the images."""
    torch.manual_seed(0)
    arguments = ARGUMENTS | changed | {"text_width": 32}
    model = MAVL(**arguments)
    embeddings = build_embeddings(read_books(**books), findings, encoder, model.aspects)
    with torch.no_grad():
        model(images, embeddings.vectors)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and not name.startswith("backbone."):
                parameter.normal_(std=0.2)
            elif parameter.ndim > 2 and not name.startswith("backbone."):
                parameter *= 6
        model.presence_head.weight *= 0.8  # probabilities away from 0 and 1
    checkpoint.save(folder, model, arguments, embeddings, {"encoder": encoder.name, **encoder.tokenisation}, {}, {})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, benchmark, books, encoder) -> Path:
    return build(tmp_path_factory.mktemp("model"), books, encoder, images_of(benchmark))


@pytest.fixture
def evaluate(tmp_path, benchmark, books, model):
    """evaluate(head="contrastive", …) -> Result of a run with these settings."""

    folders = (str(tmp_path / f"results_{number}") for number in itertools.count())

    def run_with(**changed) -> Result:
        settings = {"benchmark": str(benchmark), "model_path": str(model), "output_dir": next(folders)}
        settings |= {"batch_size": 5, "workers": 0, "text_cache": None, "resamples": 0, "html": False, **books}
        return run(ZeroShotSettings(**settings | changed))

    return run_with


@pytest.fixture
def own(benchmark, tmp_path) -> Path:
    """A copy of the benchmark's folder to change."""
    return shutil.copytree(benchmark.parent, tmp_path / "own")


def images_of(benchmark: Path, split: str = "test") -> torch.Tensor:
    """[n, 3, 64, 64], in the order of the table."""
    names = pd.read_csv(benchmark.parent / f"{split}.csv")["image"]
    paths = [benchmark.parent / "images" / f"{name}.png" for name in names]
    return torch.stack([eval_transform(Preprocessing(64))(read_image(path)) for path in paths])


def direct(model: Path, embeddings: TextEmbeddings, images: torch.Tensor) -> MAVLOutput:
    with torch.no_grad():
        return checkpoint.load(model).model(images, embeddings.vectors)


def extended(books, encoder, names: tuple[str, ...], **changed) -> TextEmbeddings:
    return build_embeddings(read_books(**books), names, encoder, **changed)


def scores(result: Result) -> np.ndarray:
    """[n, C], in the order of the findings asked."""
    table = pd.read_csv(result.folder / "scores.csv")
    return table[[f"{found.name}_score" for found in result.evaluation.classes]].to_numpy()


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """By trying each score: the lowest of those with the largest F1."""
    f1 = {t: 2 * (labels & (scores >= t)).sum() / (labels.sum() + (scores >= t).sum()) for t in sorted(scores)}
    return max(f1, key=f1.get)


class TestScores:
    def test_they_are_those_of_a_forward_pass(self, evaluate, model, benchmark, books, encoder):
        names = (*TRAINED, "pneumothorax")
        output = direct(model, extended(books, encoder, names), images_of(benchmark))
        columns = [names.index(name) for name in ("effusion", "pneumothorax", "cardiomegaly")]
        expected = output.presence_logits.softmax(dim=-1)[:, columns, 1]
        result = evaluate()
        assert expected.std(dim=0).min() > 0.005
        np.testing.assert_allclose(scores(result), expected, rtol=0, atol=1e-5)
        assert [found.name for found in result.evaluation.classes] == ["effusion", "pneumothorax", "cardiomegaly"]
        table = pd.read_csv(result.folder / "scores.csv")
        asked = pd.read_csv(benchmark.parent / "test.csv")
        assert table["path"].tolist() == [str(benchmark.parent / f"images/{name}.png") for name in asked["image"]]
        for name in ("effusion", "pneumothorax", "cardiomegaly"):
            assert table[f"{name}_label"].tolist() == asked[name].tolist()

    def test_contrastive_ones_too_also_without_healthy_findings_in_training(
        self, evaluate, benchmark, books, encoder, tmp_path
    ):
        model = build(tmp_path / "ill", books, encoder, images_of(benchmark), findings=("cardiomegaly", "effusion"))
        names = ("cardiomegaly", "effusion", "pneumothorax", "normal", "clear")
        cosine = direct(model, extended(books, encoder, names), images_of(benchmark)).cosine
        pairs = [
            torch.stack([cosine[:, aspect, healthy], cosine[:, aspect, column]]).softmax(dim=0)[1]
            for column in (1, 2, 0)
            for aspect in range(9)
            for healthy in (3, 4)
        ]
        expected = torch.stack(pairs).view(3, 18, TEST).mean(dim=1).T
        result = evaluate(head="contrastive", model_path=str(model))
        np.testing.assert_allclose(scores(result), expected, rtol=0, atol=1e-5)
        assert result.about["findings_in_bank"] == 5
        assert result.folder.name == "contrastive_sound"

    def test_batch_size_and_order_of_rows_do_not_matter(self, evaluate, own):
        expected = scores(evaluate())
        np.testing.assert_allclose(scores(evaluate(batch_size=1)), expected, rtol=0, atol=5e-6)
        table = pd.read_csv(own / "test.csv")
        order = np.random.default_rng(0).permutation(TEST)
        table.iloc[order].to_csv(own / "test.csv", index=False)
        shuffled = evaluate(root=str(own), batch_size=7)
        np.testing.assert_allclose(scores(shuffled), expected[order], rtol=0, atol=5e-6)

    def test_chosen_findings_have_the_scores_they_have_among_all(self, evaluate):
        every, chosen = evaluate(), evaluate(findings=("cardiomegaly", "effusion"))
        assert [found.name for found in chosen.evaluation.classes] == ["cardiomegaly", "effusion"]
        np.testing.assert_allclose(scores(chosen), scores(every)[:, [2, 0]], rtol=1e-6)
        assert chosen.evaluation.classes[1].metrics["auroc"].value == every.evaluation.classes[0].metrics["auroc"].value

    def test_a_model_of_one_aspect(self, evaluate, benchmark, books, encoder, tmp_path):
        model = build(tmp_path / "medklip", books, encoder, images_of(benchmark), **ONE_ASPECT)
        names = (*TRAINED, "pneumothorax")
        output = direct(model, extended(books, encoder, names, aspects=[DESCRIPTION]), images_of(benchmark))
        expected = output.presence_logits.softmax(dim=-1)[:, [1, 4, 2], 1]
        result = evaluate(model_path=str(model), aspects=("not/needed.json",))
        np.testing.assert_allclose(scores(result), expected, rtol=0, atol=1e-5)
        with pytest.raises(HeadError, match=r"no contrastive head .* use head: supervised"):
            evaluate(model_path=str(model), head="contrastive")


class TestThresholds:
    def test_sound_ones_come_from_the_validation_split(self, evaluate, benchmark):
        result = evaluate()
        valid = evaluate(split="valid")
        labels = pd.read_csv(benchmark.parent / "valid.csv")
        truth = pd.read_csv(benchmark.parent / "test.csv")
        for column, found in enumerate(result.evaluation.classes):
            expected = best_threshold(labels[found.name].to_numpy(), scores(valid)[:, column])
            assert found.threshold == pytest.approx(expected, rel=1e-6)
            assert found.threshold_source == "validation"
            predicted = scores(result)[:, column] >= found.threshold
            assert found.metrics["accuracy"].value == pytest.approx((predicted == truth[found.name]).mean())
        assert result.about["thresholds"] == "best F1 on the 10 images of the validation split"
        assert (result.about["protocol"], result.evaluation.strict) == ("sound", False)

    def test_released_ones_come_from_the_test_images_and_are_strict(self, evaluate, benchmark):
        result = evaluate(protocol="released")
        truth = pd.read_csv(benchmark.parent / "test.csv")
        for column, found in enumerate(result.evaluation.classes):
            labels, of_class = truth[found.name].to_numpy(), scores(result)[:, column]
            assert found.threshold == pytest.approx(best_threshold(labels, of_class), rel=1e-6)
            above = of_class > found.threshold * (1 + 1e-6)  # the file rounds
            assert found.metrics["accuracy"].value == pytest.approx((above == labels).mean())
            assert found.threshold_source == "test"
        assert result.evaluation.strict
        assert result.about["thresholds"].startswith("best F1 on the test images themselves")

    @pytest.mark.parametrize("why", ["no such split", "no such file", "the split itself"])
    def test_none_has_its_reason(self, evaluate, own, why):
        if why == "no such split":
            result = evaluate(benchmark=str(write_benchmark(own, splits=("test",))))
            reason = "none: the benchmark has no validation split"
        elif why == "no such file":
            (own / "valid.csv").unlink()
            result = evaluate(root=str(own))
            reason = f"none: {own / 'valid.csv'}, the valid split of benchmark 'phantoms', is missing"
        else:
            result = evaluate(split="valid")
            reason = "none: the validation split itself is evaluated"
            assert result.folder.name == "supervised_sound_valid"  # beside the result on the test split
        assert result.about["thresholds"].startswith(reason)
        assert all(np.isnan(found.threshold) for found in result.evaluation.classes)
        assert np.isnan(result.evaluation.means["accuracy"].value)
        assert result.evaluation.means["auroc"].value > 0
        assert json.loads((result.folder / "results.json").read_text())["about"] == result.about

    def test_unknown_labels_do_not_count_and_a_class_of_one_label_has_none(self, evaluate, own):
        """Between the two images with effusion lie five of which nothing is known."""
        of_valid = scores(evaluate(root=str(own), split="valid"))[:, 0]
        table = pd.read_csv(own / "valid.csv")
        by_score = np.argsort(-of_valid)
        table.loc[by_score, "effusion"] = [1, -1, -1, -1, -1, -1, 1, 0, 0, 0]
        table["pneumothorax"] = 0
        table.to_csv(own / "valid.csv", index=False)
        evaluation = evaluate(root=str(own)).evaluation
        assert evaluation.classes[0].threshold == pytest.approx(of_valid[by_score[6]], rel=1e-6)
        assert evaluation.without_threshold == ["pneumothorax"]


class TestVocabulary:
    def test_new_findings_come_behind_the_trained_rows_which_stay_as_they_are(self, books, encoder, model):
        pretrained = checkpoint.load(model)
        embeddings = model_embeddings(pretrained, ["tube", "effusion", "pneumothorax"], **books)
        assert embeddings.findings == (*TRAINED, "tube", "pneumothorax")
        assert torch.equal(embeddings.vectors[: len(TRAINED)], pretrained.embeddings.vectors)
        sentence = encoder.encode(["texture: the texture of tube"])[0]
        torch.testing.assert_close(embeddings.vectors[len(TRAINED), ASPECTS.index("texture")], sentence)

    def test_without_new_findings_no_book_is_read(self, model):
        pretrained = checkpoint.load(model)
        nowhere = {"descriptions": ["nowhere.json"], "aspects": []}
        assert model_embeddings(pretrained, ["effusion"], **nowhere) is pretrained.embeddings

    def test_a_finding_in_no_book_is_named(self, evaluate, own, books):
        table = pd.read_csv(own / "test.csv")
        table["pneumotorax"] = table["pneumothorax"]
        table.to_csv(own / "test.csv", index=False)
        benchmark = write_benchmark(own, findings=("effusion", "pneumotorax"), splits=("test",))
        with pytest.raises(BookError, match=r"unknown finding 'pneumotorax'; did you mean 'pneumothorax'") as caught:
            evaluate(benchmark=str(benchmark))
        assert "descriptions.json" in str(caught.value)

    def test_the_released_protocol_encodes_all_anew_at_64_tokens(self, evaluate, books, encoder, model, benchmark):
        result = evaluate(protocol="released")
        assert result.about["bank"]["tokenisation"]["max_length"] == 64
        names = (*TRAINED, "pneumothorax")
        cut = TransformerEncoder(encoder.name, max_length=64)
        embeddings = extended(books, cut, names)
        changed = (embeddings.vectors - extended(books, encoder, names).vectors).abs().amax(dim=(1, 2)) > 1e-3
        assert [name for name, differs in zip(names, changed, strict=True) if differs] == [LONG]
        expected = direct(model, embeddings, images_of(benchmark)).presence_logits.softmax(dim=-1)[:, [1, 4, 2], 1]
        np.testing.assert_allclose(scores(result), expected, rtol=0, atol=1e-5)
        assert np.abs(scores(evaluate()) - expected.numpy()).max() > 1e-4

    @pytest.mark.parametrize(("protocol", "asked", "used"), [("sound", None, 128), ("sound", 7, 7), ("released", 9, 9)])
    def test_which_length_texts_are_cut_at(self, books, model, benchmark, protocol, asked, used):
        settings = ZeroShotSettings(benchmark="", text_cache=None, protocol=protocol, max_length=asked, **books)
        options = scorer_options(settings, load(Benchmark, benchmark))
        lengths = {"max_length": options.max_length, "rebuild": options.rebuild_text}
        embeddings = model_embeddings(checkpoint.load(model), ["tube"], **books, **lengths)
        assert embeddings.about["tokenisation"]["max_length"] == used
        assert embeddings.findings == (*TRAINED, "tube")

    def test_another_text_encoder_cannot_extend_the_models_bank(self, books, model, tmp_path):
        other = write_random_bert(tmp_path / "bert", ["tube"], seed=5, width=32, layers=1)
        with pytest.raises(ValueError, match="another text encoder or tokenisation"):
            model_embeddings(checkpoint.load(model), ["tube"], text_encoder=str(other), **books)


class TestTrouble:
    def test_a_class_of_one_label_is_undefined_named_and_out_of_the_mean(self, evaluate, own):
        table = pd.read_csv(own / "test.csv")
        table["pneumothorax"] = 0
        table.to_csv(own / "test.csv", index=False)
        evaluation, before = evaluate(root=str(own)).evaluation, evaluate().evaluation
        assert evaluation.undefined == ["pneumothorax"]
        areas = [found.metrics["auroc"].value for found in evaluation.classes]
        assert np.isnan(areas[1])
        assert [areas[0], areas[2]] == [
            before.classes[0].metrics["auroc"].value,
            before.classes[2].metrics["auroc"].value,
        ]
        assert evaluation.means["auroc"].value == pytest.approx((areas[0] + areas[2]) / 2)

    def test_bad_images_are_an_error_or_left_out_and_listed_for_both_splits(self, evaluate, own):
        paths = {
            split: [own / f"images/{name}.png" for name in pd.read_csv(own / f"{split}.csv")["image"]]
            for split in ("test", "valid")
        }
        paths["test"][3].unlink()
        paths["test"][7].write_bytes(b"not an image")
        paths["valid"][2].unlink()
        with pytest.raises(
            DataError, match=r"2 of 12 images of the test split .*\n  test.csv:5: s50000003.png: no such file"
        ):
            evaluate(root=str(own))
        result = evaluate(root=str(own), max_bad_share=0.2)
        kept = [i for i in range(TEST) if i not in (3, 7)]
        np.testing.assert_allclose(scores(result), scores(evaluate())[kept], rtol=0, atol=1e-6)
        left_out = json.loads((result.folder / "left_out.json").read_text())
        rows = {split: [line.partition(": ")[0] for line in lines] for split, lines in left_out.items()}
        assert rows == {"test": ["test.csv:5", "test.csv:9"], "valid": ["valid.csv:4"]}
        assert result.about["left_out"] == left_out
        assert result.about["thresholds"] == "best F1 on the 9 images of the validation split"

    def test_no_model(self, evaluate):
        with pytest.raises(EvaluationError, match="give --model_path"):
            evaluate(model_path=None)


class TestPage:
    """report.html, whose gallery shows where the model looks in the most confident images."""

    @pytest.mark.parametrize("head", ["supervised", "contrastive"])
    def test_it_has_the_numbers_of_the_json_and_a_heatmap_on_every_film(self, evaluate, head):
        result = evaluate(html=True, head=head, resamples=20)
        page = check_self_contained((result.folder / "report.html").read_text())
        told = json.loads((result.folder / "results.json").read_text())["classes"]
        rows = {row[0].removesuffix(" *").removesuffix(" †"): row for row in page.rows}
        for found in told:
            row = rows[found["name"]]
            assert row[1] == f"{found['positives']} of {found['n']}"
            value, low, high = (found["auroc"][key] for key in ("value", "low", "high"))
            assert row[0].endswith(" *") == (low is None)  # one with too few positives is marked
            assert row[3] == f"{100 * value:.1f}" + ("" if low is None else f" {100 * low:.1f}–{100 * high:.1f}")
            assert row[8].split()[0] == f"{100 * found['accuracy']['value']:.1f}"
        films = [image for image in page.all("img") if image["alt"].endswith(".png")]
        assert len(page.all("img", **{"class": "heat"})) == len(films) > 3
        told_of_use = "does not use it" if head == "contrastive" else "not an outline of a lesion"
        assert told_of_use in " ".join(page.text.split())

    @pytest.mark.parametrize("one_aspect", [False, True])
    def test_its_heatmaps_are_the_attention_of_that_finding_in_that_image(
        self, benchmark, books, encoder, model, tmp_path, one_aspect
    ):
        if one_aspect:
            model = build(tmp_path / "medklip", books, encoder, images_of(benchmark), **ONE_ASPECT)
        settings = {"benchmark": str(benchmark), "model_path": str(model), "batch_size": 2, "workers": 0, **books}
        settings = ZeroShotSettings(**settings, text_cache=None)
        subject = prepare(settings, "supervised")
        split = subject.split("test")
        shown = [(7, "effusion"), (2, "cardiomegaly"), (7, "pneumothorax"), (11, "effusion")]
        maps = heatmaps(subject, split, {7, 2, 11})
        assert set(maps) == {(image, finding) for image in (7, 2, 11) for finding in split.findings}
        embeddings, loaded = subject.scorer.embeddings, checkpoint.load(model).model
        with torch.no_grad():
            attention = loaded(images_of(benchmark), embeddings.vectors, return_attention=True).attention
        aspects = [0] if one_aspect else [0, 6, 7, 8]  # description; patterns, shape, texture
        for image, finding in shown:
            queries = [embeddings.findings.index(finding) * len(embeddings.aspects) + aspect for aspect in aspects]
            expected = torch.stack([layer[image, queries].mean(dim=0) for layer in attention]).mean(dim=0)
            torch.testing.assert_close(maps[image, finding].flatten(), expected, rtol=1e-3, atol=1e-4)

    def test_none_where_none_is_wanted(self, evaluate):
        assert not (evaluate().folder / "report.html").exists()


def test_the_summary_has_the_mean_of_the_trained_and_of_the_new_findings():
    labels = np.array([[1, 1, -1], [0, 0, -1], [0, 1, -1]], dtype=np.int8)
    scores = np.array([[0.9, 0.9, 0.5], [0.1, 0.5, 0.5], [0.2, 0.1, 0.5]])
    evaluation = evaluate_scores(labels, scores, ("edema", "odd", "mass"), resamples=0)
    result = Result(evaluation, {"new_findings": ["odd"]}, Path())
    assert (
        result.summary == "mean AUROC 1.000 over 1 finding of the pre-training; 0.500 over 1 finding never trained on"
    )
    without = Result(
        evaluate_scores(labels[:, 2:], scores[:, 2:], ("mass",), resamples=0), {"new_findings": []}, Path()
    )
    assert without.summary == "no finding has both labels"


def test_the_result_folder_says_how_the_numbers_came_about(evaluate, model, books):
    result = evaluate(resamples=8, findings=("effusion",))
    settings = yaml.safe_load((result.folder / "config.yaml").read_text())
    assert (settings["findings"], settings["resamples"]) == (["effusion"], 8)
    about = json.loads((result.folder / "results.json").read_text())["about"]
    assert {key: about[key] for key in ("benchmark", "split", "head", "protocol", "model")} == {
        "benchmark": "phantoms",
        "split": "test",
        "head": "supervised",
        "protocol": "sound",
        "model": str(model),
    }
    assert set(about["bank"]["books"]) == {"/".join(Path(path).parts[-2:]) for (path,) in books.values()}
    assert about["provenance"]["packages"]["torch"]
    assert pd.read_csv(result.folder / "results.csv")["name"].tolist() == ["effusion", "mean"]


class TestSharedPatients:
    """Sound thresholds come from no image and no patient of the test split."""

    def lists(self, own: Path, valid: list[int], groups: dict[str, list[str]] | None) -> Path:
        """A benchmark whose validation split names these of its own images, and one that test has."""
        test, table = pd.read_csv(own / "test.csv"), pd.read_csv(own / "valid.csv")
        table = pd.concat([table.iloc[valid], test.iloc[[0]]])
        if groups:
            test["patient"], table["patient"] = groups["test"], groups["valid"]
        test.to_csv(own / "test.csv", index=False)
        table.to_csv(own / "valid.csv", index=False)
        path = own / "benchmark.yaml"
        content = yaml.safe_load(path.read_text()) | {"root": str(own)}
        path.write_text(yaml.safe_dump(content | ({"groups": {"column": "patient"}} if groups else {})))
        return path

    def test_images_of_both_splits_are_left_out_and_counted(self, evaluate, own):
        expected = evaluate()
        result = evaluate(benchmark=str(self.lists(own, [*range(VALID)], None)), html=True)
        note = "best F1 on the 10 images of the validation split; valid: 1 image left out, which test has too"
        assert result.about["thresholds"] == note
        assert note in check_self_contained((result.folder / "report.html").read_text()).text
        for ours, theirs in zip(result.evaluation.classes, expected.evaluation.classes, strict=True):
            assert ours.threshold == pytest.approx(theirs.threshold, rel=1e-6)

    def test_images_of_the_same_patients_are_left_out(self, evaluate, own):
        patients = {"test": [f"t{i}" for i in range(TEST)], "valid": [f"v{i}" for i in range(VALID)] + ["v0"]}
        patients["valid"][3] = patients["valid"][5] = "t7"
        patients["valid"][6] = "t8"
        result = evaluate(benchmark=str(self.lists(own, [*range(VALID)], patients)))
        assert result.about["thresholds"] == (
            "best F1 on the 7 images of the validation split; "
            "valid: 4 images of 3 patients left out, which test has too"
        )

    def test_where_none_is_left_there_are_no_thresholds(self, evaluate, own):
        result = evaluate(benchmark=str(self.lists(own, [], None)))
        assert result.about["thresholds"] == (
            "none: no image of the validation split is usable; valid: 1 image left out, which test has too"
        )
        assert all(np.isnan(found.threshold) for found in result.evaluation.classes)


class TestFolders:
    def test_two_models_never_meet(self, evaluate, model, tmp_path):
        shutil.copytree(model, tmp_path / "a/best")
        shutil.copytree(model, tmp_path / "b/best")
        other = tmp_path / "b/best/model.safetensors"
        tensors = load_file(other)
        tensors["presence_head.bias"][1] += 1
        save_file(tensors, other, metadata={"state": "{}"})
        output = str(tmp_path / "out")
        one, two = (evaluate(model_path=str(tmp_path / f"{name}/best"), output_dir=output) for name in "ab")
        drawn = evaluate(model_path="random:0", output_dir=output)
        folders = [result.folder.relative_to(output).parts for result in (one, two, drawn)]
        assert [parts[0] for parts in folders] == ["phantoms"] * 3
        assert [parts[1][:-9] for parts in folders] == ["a-best", "b-best", "random-0"]
        assert len({parts[1][-8:] for parts in folders}) == 3
        assert [parts[2] for parts in folders] == ["supervised_sound"] * 3
        assert not np.allclose(scores(one), scores(two))

    def test_the_same_again_needs_overwrite(self, evaluate, tmp_path):
        output = {"output_dir": str(tmp_path / "out")}
        first = evaluate(**output)
        before = {path: path.read_bytes() for path in first.folder.iterdir()}
        with pytest.raises(OccupiedError, match="holds an earlier result: give --overwrite"):
            evaluate(**output, resamples=5)
        assert {path: path.read_bytes() for path in first.folder.iterdir()} == before
        again = evaluate(**output, overwrite=True, findings=("effusion",))
        assert again.folder == first.folder
        assert [found["name"] for found in json.loads((again.folder / "results.json").read_text())["classes"]] == [
            "effusion"
        ]
        assert yaml.safe_load((again.folder / "config.yaml").read_text())["overwrite"] is False


class TestNumbers:
    def test_scores_that_are_all_alike_end_with_a_page(self, evaluate, shared, model):
        folder = shared("cases/scores_all_alike")
        result = evaluate(benchmark=str(folder / "bench.yaml"), root=str(folder), html=True, resamples=20)
        page = check_self_contained((result.folder / "report.html").read_text())
        assert len(page.all("rect")) == 2  # one bin for each label

    def test_equal_scores_of_own_images(self, evaluate, own):
        for path in (own / "images").rglob("*.png"):
            Image.new("L", (64, 64), 100).save(path)
        result = evaluate(root=str(own), html=True)
        assert np.ptp(scores(result), axis=0).max() < 1e-6
        assert (result.folder / "report.html").exists()

    def test_scores_that_are_no_numbers_are_refused(self, evaluate, model, tmp_path, monkeypatch):
        drawn = RandomScorer.scores

        def with_nan(self, images, findings):
            scores = drawn(self, images, findings)
            scores[0] = float("nan")
            return scores

        monkeypatch.setattr(RandomScorer, "scores", with_nan)
        message = r"not finite numbers for \d images of the test split, the first .*\.png: use another model"
        with pytest.raises(EvaluationError, match=message):
            evaluate(model_path="random:0")

    def test_findings_never_trained_on_are_marked_and_training_is_said(self, evaluate, model, tmp_path):
        shutil.copytree(model, tmp_path / "m")
        about = json.loads((tmp_path / "m/mavl.json").read_text())
        stated = {"kind": "phantom drawings", "list": "phantoms", "images": 40}
        (tmp_path / "m/mavl.json").write_text(json.dumps(about | {"trained_on": stated}))
        result = evaluate(model_path=str(tmp_path / "m"), html=True)
        assert result.about["trained_on"] == stated
        page = check_self_contained((result.folder / "report.html").read_text())
        assert "Trained on 40 phantom drawings, not on radiographs" in page.text
        names = [row[0] for row in page.rows if row[0].partition(" ")[0] in NAMES]
        assert names == ["effusion", "pneumothorax †", "cardiomegaly"]
        assert "† never trained on" in page.text
        console = Console(width=80, file=io.StringIO())
        console.print(table(result.evaluation, "title", "", result.about["new_findings"]))
        shown = console.file.getvalue()
        assert "pneumothorax †" in shown
        assert "† never trained on" in shown


class TestOperatingPoints:
    def test_they_are_the_thresholds_of_validation_and_what_they_gave(self, evaluate, model, tmp_path):
        own = shutil.copytree(model, tmp_path / "model")
        result = evaluate(model_path=str(own), save_operating_points=True)
        points = json.loads((own / "mavl.json").read_text())["operating_points"]
        assert points["benchmark"] == "Phantoms"
        assert points["chosen"] == f"best F1 on the {VALID} images of the validation split"
        assert list(points["findings"]) == ["effusion", "pneumothorax", "cardiomegaly"]
        for found in result.evaluation.classes:
            point = points["findings"][found.name]
            assert point["threshold"] == found.threshold
            assert point["sensitivity"] == found.metrics["sensitivity"].value
            assert point["specificity"] == found.metrics["specificity"].value
            assert (point["positives"], point["images"]) == (found.positives, TEST)

    def test_predictions_say_which_scores_reach_them(self, evaluate, model, benchmark, tmp_path):
        own = shutil.copytree(model, tmp_path / "model")
        evaluate(model_path=str(own), save_operating_points=True)
        about = json.loads((own / "mavl.json").read_text())
        film = next(benchmark.parent.rglob("*.png"))
        [before] = mavl.load(own).predict(film, ["effusion", "cardiomegaly"])
        score = float(before.supervised[0])
        for threshold, reached in ((score, True), (score + 1e-4, False)):
            about["operating_points"]["findings"]["effusion"]["threshold"] = threshold
            (own / "mavl.json").write_text(json.dumps(about))
            [prediction] = mavl.load(own).predict(film, ["effusion", "normal"])
            assert prediction.positive("effusion") is reached
            assert prediction.positive("normal") is None
            assert prediction.calibrated("effusion") is None

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"head": "contrastive"}, "set protocol to sound and head to supervised"),
            ({"protocol": "released"}, "set protocol to sound and head to supervised"),
            ({"model_path": "random:0"}, "random:0 is no model folder"),
            ({"split": "valid"}, "save_operating_points: the validation split itself is evaluated; add a valid split"),
        ],
    )
    def test_where_there_are_none_the_model_stays_as_it_is(self, evaluate, model, changed, message):
        with pytest.raises(EvaluationError, match=message):
            evaluate(save_operating_points=True, **changed)
        assert "operating_points" not in json.loads((model / "mavl.json").read_text())


class TestScoresOfAFile:
    def test_they_give_the_table_of_the_model_that_made_them(self, evaluate, tmp_path):
        """Test and validation in one table, in any order."""
        options = {"resamples": 20}
        first, valid = evaluate(**options), evaluate(split="valid", **options)
        tables = [pd.read_csv(result.folder / "scores.csv", dtype=str) for result in (valid, first)]
        pd.concat(tables).to_csv(tmp_path / "scores.csv", index=False)
        again = evaluate(model_path=f"file:{tmp_path / 'scores.csv'}", **options)
        assert (again.folder / "results.csv").read_text() == (first.folder / "results.csv").read_text()
        assert (again.folder / "scores.csv").read_text() == (first.folder / "scores.csv").read_text()

    def test_without_validation_there_are_no_thresholds(self, evaluate, tmp_path):
        shutil.copy(evaluate().folder / "scores.csv", tmp_path / "scores.csv")
        again = evaluate(model_path=f"file:{tmp_path / 'scores.csv'}")
        assert again.about["thresholds"] == "none: the table of scores has no image of the validation split"


class TestCalibration:
    def test_it_is_fitted_to_validation_and_measured_on_test(self, evaluate, benchmark):
        result = evaluate(calibration="platt")
        valid = pd.read_csv(evaluate(split="valid").folder / "scores.csv")
        for name, errors in json.loads((result.folder / "results.json").read_text())["about"]["calibration"].items():
            fitted = fit_calibration(valid[f"{name}_label"].to_numpy(), valid[f"{name}_score"].to_numpy(), "platt")
            assert errors["calibration"]["slope"] == pytest.approx(fitted.slope, rel=1e-4)
            table = pd.read_csv(result.folder / "scores.csv")
            labels, after = table[f"{name}_label"].to_numpy(), fitted(table[f"{name}_score"].to_numpy())
            assert errors["after"]["brier"]["value"] == pytest.approx(((labels - after) ** 2).mean(), abs=1e-4)
        rows = pd.read_csv(result.folder / "calibration.csv")
        assert rows["finding"].tolist() == ["effusion", "pneumothorax", "cardiomegaly"]
        assert (result.folder / "reliability.png").exists()
        assert (result.folder / "decisions.png").exists()

    def test_without_validation_nothing_is_fitted(self, evaluate, own):
        with pytest.raises(
            EvaluationError, match="calibration: the benchmark has no validation split; add a valid split"
        ):
            evaluate(calibration="platt", benchmark=str(write_benchmark(own, splits=("test",))))
        with pytest.raises(EvaluationError, match="set protocol to sound"):
            evaluate(calibration="platt", protocol="released")

    def test_a_threshold_has_the_sensitivity_that_is_wished_on_validation(self, evaluate):
        result = evaluate(threshold={"by": "sensitivity", "at": 0.9})
        valid = pd.read_csv(evaluate(split="valid").folder / "scores.csv")
        assert result.about["thresholds"].startswith("sensitivity of at least 0.9 on the 10 images")
        for found in result.evaluation.classes:
            present = valid[f"{found.name}_score"][valid[f"{found.name}_label"] == 1]
            assert (present >= found.threshold).mean() >= 0.9
            assert (present == found.threshold).any()

    def test_predictions_have_the_calibrated_probability(self, evaluate, model, benchmark, tmp_path):
        own = shutil.copytree(model, tmp_path / "model")
        evaluate(model_path=str(own), save_operating_points=True, calibration="temperature")
        stored = json.loads((own / "mavl.json").read_text())["operating_points"]["findings"]["effusion"]["calibration"]
        [prediction] = mavl.load(own).predict(next(benchmark.parent.rglob("*.png")), ["effusion", "normal"])
        score = float(prediction.supervised[0])
        odds = (score / (1 - score)) ** stored["slope"]
        assert stored["offset"] == 0
        assert prediction.calibrated("effusion") == pytest.approx(odds / (1 + odds), abs=1e-5)
        assert prediction.calibrated("normal") is None


@pytest.mark.parametrize(("by", "at"), [("sensitivity", None), ("f1", 0.5), ("specificity", 0), ("sensitivity", 1.5)])
def test_a_rule_that_lacks_its_share_or_has_one_too_many_is_refused(by, at):
    with pytest.raises(ValueError, match="threshold"):
        ZeroShotSettings(benchmark="x", threshold={"by": by, "at": at})


def test_results_are_split_up_by_the_attributes_of_the_benchmark(evaluate, own):
    """By sex, which the table of phantoms does not have: alternately."""
    for split in ("test", "valid"):
        table = pd.read_csv(own / f"{split}.csv")
        table["sex"] = ["F", "M"] * (len(table) // 2)
        table.to_csv(own / f"{split}.csv", index=False)
    described = yaml.safe_load(write_benchmark(own).read_text()) | {"metadata": {"sex": {"column": "sex"}}}
    (own / "benchmark.yaml").write_text(yaml.safe_dump(described))
    result = evaluate(benchmark=str(own / "benchmark.yaml"), html=True)
    rows, scored = pd.read_csv(result.folder / "subgroups.csv"), pd.read_csv(result.folder / "scores.csv")
    assert rows["subgroup"].tolist() == ["F", "M"] * 3
    for row in rows.itertuples():
        of_sex = scored[0 if row.subgroup == "F" else 1 :: 2]
        assert (row.n, row.positives) == (TEST // 2, of_sex[f"{row.finding}_label"].sum())
    diagnoses = pd.read_csv(result.folder / "diagnoses.csv")
    thresholds = {found.name: found.threshold for found in result.evaluation.classes}
    names = list(thresholds)
    flagged = (scored[[f"{name}_score" for name in names]].to_numpy() >= np.array([*thresholds.values()])).any(axis=1)
    ill = (scored[[f"{name}_label" for name in names]].to_numpy() == 1).any(axis=1)
    assert diagnoses["ill"].tolist() == [ill[::2].sum(), ill[1::2].sum()]
    assert diagnoses["underdiagnosed"].tolist() == pytest.approx([(~flagged[x::2])[ill[x::2]].mean() for x in (0, 1)])
    assert "By subgroups of patients" in (result.folder / "report.html").read_text()
