"""Pages: whole in themselves, well formed, and with the numbers and images they are about."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import tiny
import torch
from jinja2 import UndefinedError
from matplotlib.figure import Figure
from PIL import Image

import mavl
from mavl.data.inputs import Failure
from mavl.data.splits import Split
from mavl.metrics import evaluate
from mavl.page import GALLERY, evaluation_page, figure_uri, image_uri, render
from mavl.prediction_files import EXPLAINED_ON_PAGE, IMAGES_ON_PAGE, PAGE, PredictionFiles

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Elements with their attributes, and text; a tag that is not closed in its place is an error."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text, self._open = "", []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self.text += " "  # as between the cells of a table

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


def check_self_contained(html: str) -> Reader:
    """Nothing is loaded and nothing runs: every source lies in the file."""
    page = Reader(html)
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name in ("src", "srcset", "data", "background", "poster"):
            assert attributes.get(name, "data:").startswith("data:")
        target = attributes.get("href", "#")
        assert target.startswith("#" if tag == "a" else "data:" if tag == "link" else "#")
        assert not any(name.startswith("on") for name in attributes)
    styles = "".join(re.findall(r"<style>(.*?)</style>", html, re.S)) + "".join(re.findall(r'style="(.*?)"', html))
    assert "url(" not in styles
    assert "@import" not in styles
    return page


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def test_images_are_put_into_the_page_made_smaller_but_never_larger():
    picture = Image.new("L", (400, 200), 100)
    assert decode(image_uri(picture, 100)).size == (100, 50)
    assert decode(image_uri(picture, 1000)).size == (400, 200)
    assert picture.size == (400, 200)


def test_plots_are_put_into_the_page(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    assert decode(figure_uri(figure)).width > 100
    figure.savefig(tmp_path / "plot.png", dpi=50)
    assert decode(figure_uri(tmp_path / "plot.png")).size == (100, 50)


def test_a_template_with_a_name_that_is_not_given_is_an_error():
    with pytest.raises(UndefinedError):
        render("predictions.html", cases=[])


# Predictions ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return mavl.load(tiny.write_model(tmp_path_factory.mktemp("tiny")), device="cpu")


def predictions_page(predictor, folder, number: int, findings, failures=()) -> str:
    pictures = [Image.new("L", (80, 60), 9 * i % 255) for i in range(number)]
    question = predictor.question(findings)
    with PredictionFiles(folder, predictor, question) as files:
        for answer in (*predictor.stream(pictures, question), *failures):
            files.add(answer)
    return (folder / PAGE).read_text()


def test_the_page_of_predictions_is_whole(predictor, tmp_path):
    bad = Failure("<script>alert(1)</script>.png", "not an image & never was")
    html = predictions_page(predictor, tmp_path, 2, ["pleural effusion", "pneumonia"], [bad])
    page = check_self_contained(html)
    assert "Research software. Not a medical device; not for diagnosis." in page.text
    assert "<script>alert(1)</script>.png" in page.text
    assert "not an image & never was" in page.text
    assert "Infection of the lung" in page.text  # the sentence of pneumonia
    assert len(page.all("img")) == 2 * (1 + 2 * (1 + 9))  # radiograph; for each finding its overlay and nine aspects
    assert "pleural effusion as effusion" in " ".join(page.text.split())


def test_bars_are_as_long_as_the_scores(predictor, tmp_path):
    html = predictions_page(predictor, tmp_path, 1, ["effusion"])
    [prediction] = predictor.predict(Image.new("L", (80, 60), 0), "effusion")
    widths = [attributes["style"] for attributes in Reader(html).all("i") if "class" not in attributes]
    expected = [prediction.supervised[0], prediction.contrastive[0]]
    assert widths == [f"width: {100 * value:.1f}%" for value in expected]
    shares = prediction.explanations["effusion"].shares
    longest = 50 / shares.abs().max()
    bars = [attributes for attributes in Reader(html).all("i") if "class" in attributes]
    for share, bar in zip(shares, bars, strict=False):  # the last bar is the bias
        assert bar["class"] == ("for" if share >= 0 else "against")
        assert bar["style"] == f"width: {share.abs() * longest:.1f}%"
    assert len(bars) == 10


def test_the_page_has_a_bounded_number_of_images_and_says_so(predictor, tmp_path):
    html = predictions_page(predictor, tmp_path, IMAGES_ON_PAGE + 2, ["effusion"])
    page = check_self_contained(html)
    assert len([section for section in page.all("section") if section.get("id", "").startswith("image-")]) == (
        IMAGES_ON_PAGE
    )
    assert "2 more images: see predictions.csv and predictions.json" in page.text


def test_of_many_explained_findings_the_first_are_shown(predictor, tmp_path):
    findings = [*tiny.FINDINGS, "covid19"]
    page = Reader(predictions_page(predictor, tmp_path, 1, findings))
    assert len(page.all("details", **{"class": "explanation"})) == EXPLAINED_ON_PAGE
    assert "Also explained, in predictions.json and the overlays:" in page.text
    assert len(list((tmp_path / "overlays").iterdir())) == len(findings)


# Evaluations ----------------------------------------------------------------------------------------------------------

FINDINGS = ("edema", "hernia")
LABELS = np.array([[1, 0], [0, 0], [1, 0], [0, 0], [-1, 0], [1, 0], [0, 0]], dtype=np.int8)
SCORES = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.4], [0.95, 0.5], [0.3, 0.6], [0.2, 0.7]])
ABOUT = {
    "title": "Films <of> a test",
    "split": "test",
    "head": "supervised",
    "protocol": "sound",
    "model": "runs/x",
    "bank": {"encoder": "bert", "tokenisation": {"sep": False}, "books": {"books/a.json": "abcdef0123456789"}},
    "thresholds": "none: no validation split",
    "left_out": {"test": ["bad.png: empty"]},
    "provenance": {"python": "3.11", "platform": "here", "packages": {"torch": "2.8", "timm": None}, "git": None},
}


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    paths = [folder / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        Image.new("L", (300, 300), 30 * number).save(path)
    return Split("test", FINDINGS, paths, LABELS, None, [""] * 7, None)


def page_of(split, scores=SCORES, **options) -> str:
    evaluation = evaluate(split.labels, scores, split.findings, resamples=20)
    figure = Figure()
    return evaluation_page(
        evaluation, ABOUT, split, scores, **{"plots": {"ROC": figure}, "config": "head: x"} | options
    )


def test_the_page_of_an_evaluation_is_whole(split):
    page = check_self_contained(page_of(split))
    text = " ".join(page.text.split())
    assert "Films <of> a test" in text
    assert "edema 3 of 6" in text
    assert "AUROC 77.8, 3 of 6 present" in text  # of nine pairs, 0.7 and 0.3 lose to 0.8
    assert "hernia 0 of 7 undefined without both labels" in text
    for fact in ("sound protocol", "none: no validation split", "books/a.json abcdef012345", "torch 2.8", "head: x"):
        assert fact in text
    assert "timm" not in text
    assert "bad.png: empty" in text


def test_the_gallery_shows_the_surest_hits_and_misses(split):
    captions = re.findall(r"<figcaption>([\d.]+) % · (\d)\.png", page_of(split))
    high, low, false = [("90.0", "0"), ("70.0", "2")], [("30.0", "5")], [("80.0", "1")]
    assert captions == high + low + false  # not 4, which is unlabelled; nothing of hernia


def test_the_gallery_of_many_images_is_short(split):
    labels = np.ones((21, 1), np.int8)
    labels[20] = 0
    many = replace(split, findings=("edema",), paths=3 * split.paths, labels=labels)
    strips = re.findall(r'<div class="strip">(.*?)</div>', page_of(many, np.linspace(1, 0, 21)[:, None]), re.S)
    assert [strip.count("<figure") for strip in strips] == [GALLERY, GALLERY]


def test_heatmaps_lie_over_the_images_that_have_one(split):
    corner = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    page = Reader(page_of(split, heatmaps={(0, "edema"): corner}))
    shown = {
        image["alt"]: np.asarray(decode(image["src"]).convert("RGB"))
        for image in page.all("img")
        if image["alt"] != "ROC"
    }
    assert np.ptp(shown["0.png"][0, 0]) > 50  # a colour
    assert np.ptp(shown["2.png"][0, 0]) < 10  # grey


def test_histograms_count_each_label_by_itself(split):
    html = page_of(split)
    absent, present = (
        np.array(re.findall(r'height="([\d.]+)"', group), float) for group in re.findall(r"<g fill=.*?</g>", html, re.S)
    )
    assert sum(absent > 0) == sum(present > 0) == 3
    assert absent.max() == present.max() == 128.0  # each a third of its own


def test_one_score_for_all_still_gives_a_page(split):
    check_self_contained(page_of(split, np.full_like(SCORES, 0.5)))
