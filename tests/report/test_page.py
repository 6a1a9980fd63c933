"""Pages: whole in themselves, well formed, and with the numbers and images they are about."""

import numpy as np
import pytest
import torch
from jinja2 import UndefinedError
from matplotlib.figure import Figure
from PIL import Image

import mavl
from mavl.data.images.inputs import Failure
from mavl.predict.files import EXPLAINED_ON_PAGE, IMAGES_ON_PAGE, PAGE, write_predictions
from mavl.report.page import BINS, figure_uri, film, histogram, image_uri, outline, render
from tests.support import tiny
from tests.support.pages import Reader, check_self_contained, decode


def test_images_are_put_into_the_page_made_smaller_but_never_larger():
    picture = Image.new("L", (400, 200), 100)
    assert decode(image_uri(picture, 100)).size == (100, 50)
    assert decode(image_uri(picture, 1000)).size == (400, 200)
    assert picture.size == (400, 200)


def test_plots_are_put_into_the_page(tmp_path):
    Figure(figsize=(2, 1)).savefig(tmp_path / "plot.png", dpi=50)
    assert decode(figure_uri(tmp_path / "plot.png")).size == (100, 50)


def test_a_template_with_a_name_that_is_not_given_is_an_error():
    with pytest.raises(UndefinedError):
        render("predictions.html", cases=[], images=1)


def test_a_histogram_has_shares_of_each_series_and_the_tallest_is_one():
    nan = float("nan")
    drawn = histogram({"one": np.array([0, 0.5, 0.5, nan]), "two": np.array([1.0, 1, 1])}, 0, 1, threshold=0.25)
    one, two = np.zeros(BINS), np.zeros(BINS)
    one[0], one[BINS // 2], two[-1] = 1 / 3, 2 / 3, 1
    np.testing.assert_allclose([drawn["bars"]["one"], drawn["bars"]["two"]], [one, two])
    assert drawn["threshold"] == 0.25
    for outside in (nan, -0.1, 1.1):
        assert histogram({"one": np.array([0.5])}, 0, 1, outside)["threshold"] is None


def points(path: str) -> list[np.ndarray]:
    """Of each closed line of an SVG path the corners [n, 2]."""
    lines = [line.removesuffix("Z").split("L") for line in path.split("M")[1:]]
    return [np.array([corner.split() for corner in line], float) for line in lines]


def test_an_outline_goes_along_the_edges_of_its_pixels():
    mask = np.zeros((40, 30), bool)
    mask[10:20, 5:15] = mask[30:, 25:] = True
    drawn = outline(mask)
    assert (drawn["width"], drawn["height"]) == (30, 40)
    first, second = sorted(points(drawn["path"]), key=lambda line: line[0, 1])
    assert [first.min(axis=0).tolist(), first.max(axis=0).tolist()] == [[5, 10], [15, 20]]
    assert [second.min(axis=0).tolist(), second.max(axis=0).tolist()] == [[25, 30], [30, 40]]  # closed at the border
    assert len(first) == 8  # the corners are cut
    assert outline(np.zeros((4, 4), bool)) is None


def test_an_outline_in_a_smaller_frame_keeps_what_is_thin():
    mask = np.zeros((1003, 500), bool)
    mask[:, 101] = True
    drawn = outline(mask)
    assert (drawn["width"], drawn["height"]) == (500 / 5, 1003 / 5)
    [line] = points(drawn["path"])
    assert line.min(axis=0).tolist() == [20, 0]
    assert line.max(axis=0).tolist() == [21, 201]


def test_a_film_is_shown_with_and_without_its_heatmap():
    picture = Image.new("L", (800, 400), 100)
    corner = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    shown = film(picture, corner, {"mask": np.eye(4, dtype=bool), "predicted": np.zeros((4, 4), bool)})
    assert shown["size"] == decode(shown["plain"]).size == decode(shown["heat"]).size == (200, 100)
    assert np.ptp(np.asarray(decode(shown["heat"]).convert("RGB"))[0, 0]) > 50  # a colour
    assert np.ptp(np.asarray(decode(shown["plain"]).convert("RGB"))[0, 0]) < 10  # grey
    assert list(shown["outlines"]) == ["mask"]
    assert film(picture, None)["heat"] is None


# Predictions ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return mavl.load(tiny.write_model(tmp_path_factory.mktemp("tiny")), device="cpu")


def predictions_page(predictor, folder, number: int, findings, failures=()) -> str:
    pictures = [Image.new("L", (80, 60), 9 * i % 255) for i in range(number)]
    write_predictions(predictor, predictor.request(findings), pictures, folder, failures=failures)
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


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.5), (0.5, 0.5 + 1e-9), (0, 0), (1, 1), (0.3, 0.3 + 1e-16)])
def test_values_that_are_all_alike_have_one_bin(low, high):
    drawn = histogram({"one": np.array([low, high]), "two": np.array([low])}, low, high, threshold=low)
    assert drawn["bars"] == {"one": [1], "two": [1]}
    assert drawn["threshold"] == 0


def test_close_values_have_bins_of_their_own():
    drawn = histogram({"one": np.array([0.5, 0.5001])}, 0.5, 0.5001)
    assert len(drawn["bars"]["one"]) == BINS
    assert drawn["bars"]["one"][0] == drawn["bars"]["one"][-1] == 1
