"""Prediction as a user meets it: good files and bad ones of every kind, both heads, new findings, what is written."""

import json
import pydoc
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mavl
from mavl import checkpoint
from mavl.backbones import Preprocessing
from mavl.data.images.inputs import Failure, NoImageError
from mavl.data.images.read import ImageError, read_image
from mavl.data.images.transforms import eval_transform
from mavl.model.explain import presence_shares
from mavl.model.heatmaps import HeatmapError, enlarge
from mavl.model.mavl import MAVL
from mavl.model.scores import HeadError, scores
from mavl.predict import load
from mavl.predict.prediction import TOP, Request
from mavl.predict.pretrained import AvailableBooks, PretrainedPredictor
from mavl.text.embeddings import UnknownFindingError
from mavl.vocab import ASPECTS
from tests.support import tiny

ASKED = ["Pleural_Thickening", "enlarged heart", "pneumonia"]
MEANT = ("thicken", "cardiomegaly", "pneumonia")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def predictor(model):
    return mavl.load(model, device="cpu")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return tiny.write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return tiny.write_broken_films(tmp_path_factory.mktemp("broken"))


# What is computed -----------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_heads_with_the_whole_vocabulary(predictor, films):
    [prediction] = predictor.predict(films / "grey.png", ASKED)
    assert prediction.findings == MEANT
    assert prediction.asked == tuple(ASKED)
    pixels = eval_transform(Preprocessing(64))(read_image(films / "grey.png"))[None]
    embeddings = predictor.pretrained.embeddings
    with torch.no_grad():
        output = predictor.model(pixels, embeddings.vectors)
    for head, values in (("supervised", prediction.supervised), ("contrastive", prediction.contrastive)):
        np.testing.assert_allclose(values, scores(output, embeddings, MEANT, head)[0], atol=1e-6)
    assert set(prediction.explanations) == set(MEANT)
    for row, finding in enumerate(MEANT):
        assert prediction.explanations[finding].probability == pytest.approx(prediction.supervised[row], abs=1e-5)


def test_scores_do_not_depend_on_the_batch(predictor, films):
    paths = sorted(films.iterdir())
    request = predictor.request(ASKED, explained=1)
    batches = [list(predictor.stream(paths, request, batch_size=size, workers=size)) for size in (1, 3, 100)]
    for other in batches[1:]:
        assert [answer.name for answer in other] == [str(path) for path in paths]
        for one, two in zip(batches[0], other, strict=True):
            np.testing.assert_allclose(one.supervised, two.supervised, atol=1e-5)
            np.testing.assert_allclose(one.contrastive, two.contrastive, atol=1e-5)
            [[first], [second]] = one.explanations.values(), two.explanations.values()
            torch.testing.assert_close(first.heatmap, second.heatmap, rtol=0, atol=1e-5)
    assert np.ptp([answer.supervised for answer in batches[0]], axis=0).min() > 1e-3  # the images do differ


def test_without_findings_all_but_words_of_normality_are_asked(predictor, films):
    request = predictor.request()
    assert request.findings == ("pneumonia", "effusion", "thicken", "cardiomegaly")
    assert request.explained == TOP
    [answer] = predictor.stream([films / "grey.png"], predictor.request(explained=2))
    assert list(answer.explanations) == list(answer.scores())[:2]


def test_requests_in_turn_give_the_scores_of_each_alone(model, predictor, films):
    names = ["pneumonia", "covid19", ["effusion", "pneumonia"], "pneumonia"]
    alone = [mavl.load(model, device="cpu").predict(films / "grey.png", name)[0].supervised for name in names]
    for name, expected in zip(names * 2, alone * 2, strict=True):
        np.testing.assert_allclose(predictor.predict(films / "grey.png", name)[0].supervised, expected, atol=1e-6)


def test_two_names_of_one_finding_are_asked_once(predictor):
    request = predictor.request(["pleural effusion", "effusion"])
    assert (request.findings, request.asked) == (("effusion",), ("pleural effusion",))


def test_explanations_have_the_sentences_behind_the_vectors(predictor, films):
    explanation = predictor.explain(films / "grey.png", "pleural effusion")
    assert explanation.finding == "effusion"
    book = json.loads((tiny.ROOT / "concept_gen/books/aspects.json").read_text())["findings"]
    assert explanation.sentences[1:] == tuple(book["effusion"])
    assert explanation.heatmap.shape == explanation.aspect_heatmaps.shape[1:] == (4, 4)


def test_sentences_of_other_books_than_the_models_are_not_shown(model, predictor, films):
    assert predictor.books_complete
    pretrained = checkpoint.load(model)
    pretrained.embeddings.about["books"]["books/aspects.json"] = "of another time"
    holds_them = PretrainedPredictor("model", pretrained, AvailableBooks(pretrained, (), ()), None, "cpu")
    assert holds_them.books_complete
    assert holds_them.explain(films / "grey.png", "effusion").sentences[1].startswith("border:")
    pretrained = replace(pretrained, embeddings=replace(pretrained.embeddings, sentences={}))  # as of older versions
    other = PretrainedPredictor("model", pretrained, AvailableBooks(pretrained, (), ()), None, "cpu")
    assert not other.books_complete
    explanation = other.explain(films / "grey.png", "effusion")
    assert explanation.sentences[0]
    assert explanation.sentences[1:] == (None,) * 8


def test_pictures_of_the_caller_are_taken_too(predictor, films):
    picture = read_image(films / "grey.png")
    [from_file, from_memory] = predictor.predict([films / "grey.png", picture.copy()], "pneumonia")
    assert from_memory.name == "image 2"
    np.testing.assert_allclose(from_file.supervised, from_memory.supervised, atol=1e-6)


def test_folders_lists_and_patterns_are_taken_from_python_too(predictor, films, tmp_path):
    for name in ("b.png", "a.png"):
        shutil.copy(films / "grey.png", tmp_path / name)
    (tmp_path / "list.csv").write_text("image\nb.png\n")
    answers = predictor.predict([tmp_path, tmp_path / "list.csv", f"{tmp_path}/a*"], "pneumonia")
    assert [Path(answer.name).name for answer in answers] == ["a.png", "b.png", "b.png", "a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImageError, match="no image in it"):
        predictor.predict(tmp_path / "empty", "pneumonia")


def test_a_bad_image_is_an_error_from_python(predictor, broken):
    with pytest.raises(ImageError, match=r"empty\.png: empty \(0 bytes\)"):
        predictor.predict(broken / "empty.png", "pneumonia")


def test_no_more_images_are_opened_than_the_next_batch_needs(predictor, films):
    opened = []

    def endless():
        for number in count():
            opened.append(number)
            yield films / "grey.png"

    answers = predictor.stream(endless(), predictor.request("pneumonia", explained=0), batch_size=4)
    for number in range(12):
        assert next(answers).explanations == {}
        assert len(opened) <= number + 2 * 4 + 1
    answers.close()


# New findings ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def books(tmp_path):
    lines = [f"{aspect}: what tuberculous scars have of it" for aspect in ASPECTS[1:]]
    (tmp_path / "d.json").write_text(json.dumps({"Simon foci": "Small calcified scars in the apex of a lung."}))
    (tmp_path / "a.json").write_text(json.dumps({"Simon foci": lines}))
    return {"descriptions": [tmp_path / "d.json"], "aspects": [tmp_path / "a.json"]}


def test_a_new_finding_is_described_in_a_book(model, films, books):
    predictor = mavl.load(model, **books, device="cpu")
    [prediction] = predictor.predict(films / "grey.png", ["simon_foci", "pneumonia"])
    assert prediction.findings == ("Simon foci", "pneumonia")
    assert 0 < prediction.supervised[0] < 1
    assert prediction.explanations["Simon foci"].sentences[0] == "Small calcified scars in the apex of a lung."
    assert prediction.explanations["pneumonia"].sentences[0].startswith("Infection of the lung")


def test_findings_of_this_projects_books_need_no_other(predictor):
    assert predictor.request(["COVID-19", "Rib fracture"]).findings == ("covid19", "rib fracture")
    assert predictor.request("covid19").embeddings.findings == (*tiny.FINDINGS, "covid19")


def test_findings_that_cannot_be_asked_are_named(predictor):
    with pytest.raises(UnknownFindingError, match="unknown finding 'pneumona'; did you mean 'pneumonia'"):
        predictor.request(["pneumona"])


@pytest.mark.parametrize("flag", ["descriptions", "books"])
def test_a_finding_in_one_sentence_is_predicted_and_that_is_said(flag, model, films, books, capsys):
    described = mavl.load(model, **{flag: books["descriptions"]}, device="cpu")
    [prediction] = described.predict(films / "grey.png", findings=["Simon foci"])
    assert 0 < prediction.scores()["Simon foci"] < 1
    assert "1 finding without aspects in the books, Simon foci" in capsys.readouterr().err


def test_the_contrastive_head_leads_for_a_new_finding_also_where_the_vocabulary_has_no_normality(tmp_path, films):
    predictor = mavl.load(tiny.write_model(tmp_path, findings=("pneumonia", "effusion")), device="cpu")
    assert predictor.predict(films / "grey.png")[0].contrastive is None
    [prediction] = predictor.predict(films / "grey.png", ["covid19", "pneumonia"])
    assert prediction.scores()["covid19"] == pytest.approx(prediction.contrastive[0])
    embeddings = predictor.request(["covid19"]).embeddings
    assert embeddings.findings == ("pneumonia", "effusion", "covid19", "normal", "clear")


def test_a_model_without_a_contrastive_head_has_one_score(tmp_path, films):
    predictor = mavl.load(tiny.write_model(tmp_path, aspects=("description",), contrastive=False), device="cpu")
    [prediction] = predictor.predict(films / "grey.png")
    assert prediction.contrastive is None
    assert all(len(explanation.shares) == 1 for explanation in prediction.explanations.values())


# The package ----------------------------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, mavl; print({'torch', 'numpy', 'PIL', 'transformers'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tiny.ROOT, timeout=60)
    assert finished.stdout == "set()\n", finished.stderr


def test_the_package_offers_its_parts_by_name():
    assert mavl.MAVL is MAVL
    assert mavl.explain.presence_shares is presence_shares
    assert mavl.load is load
    assert mavl.__version__ == version("mavl")


def test_the_package_has_no_other_attributes():
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = mavl.laod


def test_failures_stand_where_their_images_stood(predictor, films, broken):
    images = [films / "grey.png", broken / "text.png", films / "rgba.png", broken / "empty.png"]
    answers = list(predictor.stream(images, predictor.request("pneumonia"), batch_size=3))
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False, True]
    assert [answer.name for answer in answers] == list(map(str, images))


# Images in memory -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grey(films):
    return np.asarray(read_image(films / "grey.png"))


def test_arrays_and_tensors_score_as_their_file(predictor, films, grey):
    [expected] = predictor.predict(films / "grey.png", "pneumonia")
    colour = np.stack([grey] * 3, axis=-1)
    same = {
        "uint8": grey,
        "uint8 [H, W, 1]": grey[..., None],
        "uint8 [1, H, W]": grey[None],
        "uint8 [H, W, 3]": colour,
        "uint8 [3, H, W]": np.moveaxis(colour, -1, 0),
        "tensor": torch.from_numpy(grey.copy()),
        "not contiguous": np.asfortranarray(grey),
    }
    for name, array in same.items():
        [prediction] = predictor.predict(array, "pneumonia")
        np.testing.assert_array_equal(np.asarray(prediction.picture), grey, err_msg=name)
        np.testing.assert_allclose(prediction.supervised, expected.supervised, atol=1e-6, err_msg=name)
        assert prediction.name == "image 1"


def test_colours_are_the_last_axis_where_both_could_be(predictor, grey):
    strip = np.stack([grey[:3]] * 3, axis=-1)  # [3, W, 3]
    [prediction] = predictor.predict(strip, "pneumonia")
    np.testing.assert_array_equal(np.asarray(prediction.picture), grey[:3])


@pytest.mark.parametrize(
    ("scale", "value_range"),
    [(1 / 255, (0, 1)), (2 / 255, (0, 2)), (1, (0, 255)), (-1, (0, -255))],
)
def test_floats_have_a_stated_range(predictor, grey, scale, value_range):
    for array in (grey * float(scale), torch.from_numpy(grey * np.float32(scale))):
        [prediction] = predictor.predict(array, "pneumonia", value_range=value_range)
        np.testing.assert_allclose(np.asarray(prediction.picture).astype(int), grey.astype(int), atol=1)
    offset, half = grey / 255 - 0.5, torch.from_numpy(grey.copy()).half() / 255
    [shifted] = predictor.predict(offset, "pneumonia", value_range=(-0.5, 0.5))
    np.testing.assert_array_equal(np.asarray(shifted.picture), grey)
    assert predictor.explain(half, "pneumonia", value_range=(0, 1)).finding == "pneumonia"


def test_sixteen_bits_are_read_as_from_a_file(predictor, tmp_path, grey):
    deep = grey.astype(np.uint16) * 200
    Image.fromarray(deep).save(tmp_path / "deep.png")
    [file, array] = predictor.predict([tmp_path / "deep.png", deep], "pneumonia")
    np.testing.assert_array_equal(np.asarray(array.picture), np.asarray(file.picture))
    [scaled] = predictor.predict(deep, "pneumonia", value_range=(0, 51000))
    np.testing.assert_array_equal(np.asarray(scaled.picture), grey)


NOISE = np.random.default_rng(0).random((20, 30))


@pytest.mark.parametrize(
    ("array", "value_range", "complaint"),
    [
        (NOISE, None, r"image 1: an array of float64 needs value_range=\(black, white\)"),
        (NOISE * 2, (0, 1), "exceed value_range, 0 to 1"),
        (NOISE - 0.5, (0, 1), "exceed value_range, 0 to 1"),
        (np.where(NOISE > 0.9, np.nan, NOISE), (0, 1), r"image 1: \d+ values of the array NaN or infinite"),
        (np.where(NOISE > 0.9, np.inf, NOISE), (0, 1), "NaN or infinite"),
        (NOISE, (1, 1), "value_range is 1 to 1; expected two numbers that differ"),
        (NOISE, (0, np.nan), "expected two numbers that differ"),
        (np.zeros((4, 20, 30), np.uint8), None, r"shape \[4, 20, 30\]; one image has \[H, W\]"),
        (np.zeros((1, 1, 20, 30), np.uint8), None, r"shape \[1, 1, 20, 30\]"),
        (np.zeros(20, np.uint8), None, r"shape \[20\]"),
        (np.zeros((0, 20), np.uint8), None, r"shape \[0, 20\]"),
        (np.zeros((20, 20), bool), None, "an array of bool"),
        (np.zeros((20, 20), complex), None, "an array of complex128"),
        (np.zeros((20, 20), np.int32), None, "int32 needs value_range"),
    ],
)
def test_arrays_that_are_no_image_are_one_clear_error(predictor, array, value_range, complaint):
    with pytest.raises(ImageError, match=complaint) as caught:
        predictor.predict(array, "pneumonia", value_range=value_range)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [3, None, [[1, 2], [3, 4]], b"film.png"])
def test_what_is_no_image_at_all_is_one_clear_error(predictor, thing):
    message = f"image 1: a {type(thing).__name__}; expected a file, a PIL image, an array or a tensor"
    with pytest.raises(ImageError, match=message):
        predictor.predict([thing], "pneumonia")
    with pytest.raises(ImageError, match=message):
        predictor.encode_image([thing])


def test_what_is_neither_an_image_nor_several_is_one_clear_error(predictor):
    with pytest.raises(ImageError, match=r"^a NoneType; expected a file, a PIL image, an array, a tensor, or several$"):
        predictor.predict(None)


@pytest.mark.parametrize("findings", [[5], 5, ["pneumonia", None]])
def test_a_finding_that_is_no_name_is_one_clear_error(predictor, findings):
    with pytest.raises(TypeError, match=r"finding (5|None) is of type (int|NoneType); expected a name"):
        predictor.request(findings)


def test_one_finding_of_one_image_is_explained(predictor, films):
    film = films / "grey.png"
    assert predictor.explain(film, "enlarged heart").finding == "cardiomegaly"
    with pytest.raises(
        TypeError, match=r"one finding, not 1 image and \['pneumonia', 'effusion'\]; predict takes several"
    ):
        predictor.explain(film, ["pneumonia", "effusion"])
    with pytest.raises(TypeError, match="one finding, not 2 images and 'pneumonia'"):
        predictor.explain([film, film], "pneumonia")


def test_a_blank_film_is_scored_with_a_warning(predictor, grey):
    blank, dark, fine = predictor.predict([np.full((40, 30), 7, np.uint8), np.zeros((9, 9), np.uint8), grey])
    assert blank.warnings == ("blank: every pixel has the same grey, 7 of 255; its result means nothing",)
    assert len(dark.warnings) == 1
    assert fine.warnings == ()
    hot = np.full((40, 30), 100, np.uint16)
    hot[10:20], hot[0, 0] = 2000, 65535
    assert predictor.predict([hot])[0].warnings == (
        "nearly blank: 98 % of its pixels lie within 7 of 255 grey levels; cut extreme pixels off",
    )


# What a prediction offers ---------------------------------------------------------------------------------------------


def test_a_heatmap_has_the_size_of_the_film_or_any_other(predictor, films):
    [prediction] = predictor.predict(films / "grey.png", ["enlarged heart"])
    of_film = prediction.heatmap("enlarged heart")
    assert (of_film.shape, of_film.dtype) == ((90, 70), np.float32)
    np.testing.assert_array_equal(prediction.heatmap("cardiomegaly"), of_film)
    explanation = prediction.explanations["cardiomegaly"]
    expected = enlarge(explanation.heatmap[None, None], (33, 44), explanation.patch_grid)[0, 0]
    np.testing.assert_array_equal(prediction.heatmap("cardiomegaly", (33, 44)), expected)
    with pytest.raises(HeatmapError, match="no heatmap of 'effusion'; explained are: cardiomegaly"):
        prediction.heatmap("effusion")
    for size in (0, 10, -1, "x", (0, 5), (1.5, 2), (1, 2, 3), (10**6, 10**6)):
        with pytest.raises(HeatmapError, match=r"^size .*: expected \(height, width\), of at most"):
            prediction.heatmap("cardiomegaly", size)


def test_vectors_of_images_and_texts_give_the_cosines_of_the_contrastive_head(predictor, films, grey):
    explanations = [predictor.explain(films / "grey.png", name) for name in ("effusion", "covid19")]
    image = predictor.encode_image([films / "grey.png", grey])
    text = predictor.encode_text(["pleural effusion", "covid19"])
    assert (image.shape, text.shape) == ((2, 32), (2, 9, 32))
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(image[0], image[1])
    for of_text, explanation in zip(text, explanations, strict=True):
        torch.testing.assert_close(of_text @ image[0], explanation.cosine, rtol=0, atol=1e-5)
    with pytest.raises(ImageError, match="needs value_range"):
        predictor.encode_image(grey / 255)


def test_a_model_without_a_contrastive_head_has_no_such_vectors(tmp_path, films):
    predictor = mavl.load(tiny.write_model(tmp_path, aspects=("description",), contrastive=False), device="cpu")
    for call in (lambda: predictor.encode_image(films / "grey.png"), lambda: predictor.encode_text("effusion")):
        with pytest.raises(HeadError, match="no contrastive head"):
            call()


def test_what_is_printed_is_short(predictor, films):
    [prediction] = predictor.predict(films / "grey.png")
    first = prediction.ranked()[0]
    shown = f"{prediction.findings[first]} {100 * prediction.supervised[first]:.1f} %, "
    assert repr(prediction).startswith(f"Prediction('{films / 'grey.png'}': {shown}")
    for thing in (prediction, predictor, predictor.request(), *prediction.explanations.values()):
        assert len(repr(thing)) < 300
    assert "7 findings, on cpu" in repr(predictor)


def test_a_request_shows_its_first_five_findings():
    names = ("a", "b", "c", "d", "e", "f")
    assert repr(Request(names[:5], names[:5], 2)) == "Request(a, b, c, d, e; 2 explained)"
    assert repr(Request(names, names, 0)) == "Request(a, b, c, d, e, …; 0 explained)"


def test_print_says_that_a_model_saw_drawings_alone_and_which_findings_it_never_saw(predictor, films, monkeypatch):
    monkeypatch.setattr(predictor, "trained_on", {"kind": "phantom drawings", "source": "phantom", "images": 7})
    assert "Trained on 7 phantom drawings, not on radiographs" in repr(predictor)
    [prediction] = predictor.predict(films / "grey.png", ["effusion"])
    unseen = replace(prediction, new=frozenset(["effusion"]))
    assert "effusion (never trained on) " in repr(unseen)
    assert "never trained on" not in repr(prediction)


# Findings never trained on, and models trained on drawings ------------------------------------------------------------


def test_the_contrastive_head_leads_for_findings_never_trained_on(predictor, films):
    names = ["covid19", "pneumonia", "rib fracture", "effusion"]
    [prediction] = predictor.predict(films / "grey.png", names)
    assert prediction.new == {"covid19", "rib fracture"}
    supervised, contrastive = prediction.supervised, prediction.contrastive
    np.testing.assert_array_equal(prediction.leading, [contrastive[0], supervised[1], contrastive[2], supervised[3]])
    trained = sorted((1, 3), key=lambda i: -supervised[i])
    new = sorted((0, 2), key=lambda i: -contrastive[i])
    assert prediction.ranked() == [*trained, *new]
    assert prediction.scores() == {names[i]: float(prediction.leading[i]) for i in [*trained, *new]}
    [first] = predictor.stream([films / "grey.png"], predictor.request(["covid19", "rib fracture"], explained=1))
    assert list(first.explanations) == [names[new[0]]]


def test_without_a_contrastive_head_the_supervised_one_leads_everywhere(tmp_path, films):
    predictor = mavl.load(tiny.write_model(tmp_path, aspects=("description",), contrastive=False), device="cpu")
    [prediction] = predictor.predict(films / "grey.png", ["covid19", "pneumonia"])
    assert prediction.new == {"covid19"}
    np.testing.assert_array_equal(prediction.leading, prediction.supervised)


def test_scores_that_are_no_numbers_are_failures(model, films):
    predictor = mavl.load(model, device="cpu")
    with torch.no_grad():
        predictor.model.presence_head.bias[1] = float("nan")
    [answer] = predictor.stream([films / "grey.png"], predictor.request("pneumonia"))
    assert answer == Failure(str(films / "grey.png"), "the model gives a score that is not a finite number")


def test_books_with_both_parts_are_given_once(model, films, tmp_path):
    lines = [f"{aspect}: what tuberculous scars have of it" for aspect in ASPECTS[1:]]
    entry = {"description": "Small calcified scars in the apex of a lung.", "aspects": lines}
    (tmp_path / "book.json").write_text(json.dumps({"findings": {"Simon foci": entry}}))
    for books in (tmp_path / "book.json", str(tmp_path / "book.json"), [tmp_path / "book.json"]):
        [prediction] = mavl.load(model, books=books, device="cpu").predict(films / "grey.png", "simon foci")
        assert prediction.explanations["Simon foci"].sentences[1:] == tuple(lines)


def test_help_shows_the_way():
    shown = pydoc.plain(pydoc.render_doc(mavl))
    for part in ("mavl.load()", "predictor.predict(", "prediction.heatmap(", "books=", "value_range="):
        assert part in shown
    assert "load(source" in shown
    assert {"MAVL", "load", "explain"} <= set(dir(mavl))
