"""The page of a zero-shot classification, from labels and scores made by hand."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mavl.data.benchmarks.splits import Split
from mavl.metrics.classification import evaluate
from mavl.report.classification_page import GALLERY, most_confident, write_classification_page
from tests.support.classification_results import ABOUT, FINDINGS, LABELS, SCORES
from tests.support.pages import Reader, check_self_contained, decode


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    paths = [folder / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        Image.new("L", (300, 300), 30 * number).save(path)
    return Split("test", FINDINGS, paths, LABELS, None, [""] * 7, None)


@pytest.fixture
def page_of(split, tmp_path):
    """page_of(scores, split=…, heatmaps=…) -> the page's HTML."""
    Figure(figsize=(2, 1)).savefig(tmp_path / "roc.png")
    (tmp_path / "config.yaml").write_text("head: x\n")

    def write(scores=SCORES, split=split, **options) -> str:
        evaluation = evaluate(split.labels, scores, split.findings, resamples=20)
        return write_classification_page(tmp_path, evaluation, ABOUT, split, scores, **options).read_text()

    return write


def test_the_page_is_whole(page_of):
    page = check_self_contained(page_of())
    text = " ".join(page.text.split())
    assert "Films <of> a test" in text
    assert "edema 3 of 6" in text
    assert "AUROC 77.8, 3 of 6 present" in text  # of nine pairs, 0.7 and 0.3 lose to 0.8
    assert "hernia 0 of 7 undefined without both labels" in text
    for fact in ("sound protocol", "none: no validation split", "books/a.json abcdef012345", "torch 2.8", "head: x"):
        assert fact in text
    assert "timm" not in text
    assert next(image["alt"] for image in page.all("img")) == "ROC"
    assert "Precision and recall" not in text  # its file is not there
    assert "bad.png: empty" in text


def test_the_gallery_shows_the_most_confident_hits_and_errors(page_of, split):
    captions = re.findall(r"<figcaption>([\d.]+) % · (\d)\.png", page_of())
    high, low, false = [("90.0", "0"), ("70.0", "2")], [("30.0", "5")], [("80.0", "1")]
    assert captions == high + low + false  # not 4, which is unlabelled; nothing of hernia
    gallery = most_confident(evaluate(LABELS, SCORES, FINDINGS, resamples=0), split, SCORES)
    assert {finding: [*kinds.values()] for finding, kinds in gallery.items()} == {"edema": [[0, 2], [5], [1]]}


def test_hits_and_errors_are_those_at_the_threshold(split):
    with_threshold = evaluate(
        LABELS, SCORES, FINDINGS, resamples=0, thresholds=[0.75, 0.5], threshold_source="validation"
    )
    found = most_confident(with_threshold, split, SCORES)["edema"]
    assert [*found.values()] == [[0], [5, 2], [1]]  # 0.7, present, is missed at 0.75


def test_the_gallery_of_many_images_is_short(page_of, split):
    labels = np.ones((21, 1), np.int8)
    labels[20] = 0
    many = replace(split, findings=("edema",), paths=3 * split.paths, labels=labels)
    strips = page_of(np.linspace(1, 0, 21)[:, None], many).split('<div class="strip">')[1:]
    assert [strip.count("<figure") for strip in strips] == [GALLERY, GALLERY]


def test_heatmaps_lie_over_the_images_that_have_one(page_of):
    corner = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    page = Reader(page_of(heatmaps={(0, "edema"): corner}, heatmap_note="mean over all layers"))
    [heat] = page.all("img", **{"class": "heat"})
    assert heat["alt"] == "heatmap of edema"
    images = page.all("img")
    assert images[images.index(heat) - 1]["alt"] == "0.png"
    assert np.ptp(np.asarray(decode(heat["src"]).convert("RGB"))[0, 0]) > 50  # a colour
    assert "Colour shows mean over all layers." in " ".join(page.text.split())
    assert len(page.all("input", type="checkbox")) == 1


def test_without_heatmaps_the_page_does_not_mention_colours(page_of):
    page = Reader(page_of())
    assert not page.all("input")
    assert not page.all("img", **{"class": "heat"})
    assert "Colour" not in page.text


def test_histograms_count_each_label_by_itself(page_of):
    absent, present = (
        np.array(re.findall(r'height="([\d.]+)"', group), float)
        for group in re.findall(r'<g class="bars.*?</g>', page_of(), re.S)
    )
    assert sum(absent > 0) == sum(present > 0) == 3
    assert absent.max() == present.max() == 128.0  # each a third of its own


def test_one_score_for_all_still_gives_a_page(page_of):
    check_self_contained(page_of(np.full_like(SCORES, 0.5)))
