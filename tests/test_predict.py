"""Prediction as a user meets it: good files and bad ones of every kind, both heads, new findings, what is written."""

import csv
import importlib.util
import json
import subprocess
import sys
from importlib.metadata import version
from itertools import count

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import mavl
from mavl.bank import UnknownFindingError
from mavl.books import BookError
from mavl.data.images import ImageError, read_image
from mavl.data.inputs import Failure
from mavl.data.transforms import eval_transform
from mavl.explain import presence_shares
from mavl.model import MAVL
from mavl.predict import TOP, load
from mavl.vocab import ASPECTS
from mavl.zero_shot import scores

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
    """Good images of every kind."""
    folder = tmp_path_factory.mktemp("films")
    grey = np.random.default_rng(0).integers(0, 256, (90, 70), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 200).save(folder / "deep.png")
    Image.fromarray(grey).convert("RGBA").save(folder / "rgba.png")
    Image.fromarray(grey).convert("P").save(folder / "palette.png")
    Image.fromarray(grey).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(grey).resize((3000, 40)).save(folder / "long.png")
    Image.fromarray(grey).save(folder / "jpeg in a png.png", "JPEG")
    return folder


@pytest.fixture(scope="module")
def broken(films, tmp_path_factory):
    """Bad ones of every kind, and how each is complained about."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("not an image")
    (folder / "cut.png").write_bytes((films / "grey.png").read_bytes()[:2000])
    (folder / "cut.jpg").write_bytes((films / "cmyk.jpg").read_bytes()[:2000])
    (folder / "cut.dcm").write_bytes(bytes(128) + b"DICM")
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")  # 400 million pixels in some kilobytes
    return folder


@pytest.fixture
def run(model, capsys, monkeypatch):
    """run(*arguments) -> exit code, printed lines, complaints; the script as it is started."""
    specification = importlib.util.spec_from_file_location("predict_script", tiny.ROOT / "predict.py")
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["predict.py", "--model", str(model), *map(str, arguments)])
        try:
            code = script.main()
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        return code, printed.out.splitlines(), printed.err.splitlines()

    return call


# What is computed -----------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_heads_with_the_whole_vocabulary(predictor, films):
    [prediction] = predictor.predict(films / "grey.png", ASKED)
    assert prediction.findings == MEANT
    assert prediction.asked == tuple(ASKED)
    pixels = eval_transform(64)(read_image(films / "grey.png"))[None]
    bank = predictor.pretrained.bank
    with torch.no_grad():
        output = predictor.model(pixels, bank.vectors)
    for head, values in (("supervised", prediction.supervised), ("contrastive", prediction.contrastive)):
        np.testing.assert_allclose(values, scores(output, bank, MEANT, head)[0], atol=1e-6)
    assert set(prediction.explanations) == set(MEANT)
    for row, finding in enumerate(MEANT):
        assert prediction.explanations[finding].probability == pytest.approx(prediction.supervised[row], abs=1e-5)


def test_scores_do_not_depend_on_the_batch(predictor, films):
    paths = sorted(films.iterdir())
    question = predictor.question(ASKED, explained=1)
    batches = [list(predictor.stream(paths, question, batch_size=size, workers=size)) for size in (1, 3, 100)]
    for other in batches[1:]:
        assert [answer.name for answer in other] == [str(path) for path in paths]
        for one, two in zip(batches[0], other, strict=True):
            np.testing.assert_allclose(one.supervised, two.supervised, atol=1e-5)
            np.testing.assert_allclose(one.contrastive, two.contrastive, atol=1e-5)
            [[first], [second]] = one.explanations.values(), two.explanations.values()
            torch.testing.assert_close(first.heatmap, second.heatmap, rtol=0, atol=1e-5)
    assert np.ptp([answer.supervised for answer in batches[0]], axis=0).min() > 1e-3  # the images do differ


def test_without_findings_all_but_words_of_normality_are_asked(predictor, films):
    question = predictor.question()
    assert question.findings == ("pneumonia", "effusion", "thicken", "cardiomegaly")
    assert question.explained == TOP
    [answer] = predictor.stream([films / "grey.png"], predictor.question(explained=2))
    assert list(answer.explanations) == list(answer.scores())[:2]


def test_two_names_of_one_finding_are_asked_once(predictor):
    question = predictor.question(["pleural effusion", "effusion"])
    assert (question.findings, question.asked) == (("effusion",), ("pleural effusion",))


def test_explanations_have_the_sentences_behind_the_vectors(predictor, films):
    explanation = predictor.explain(films / "grey.png", "pleural effusion")
    assert explanation.finding == "effusion"
    book = json.loads((tiny.ROOT / "concept_gen/books/aspects.json").read_text())
    assert explanation.sentences[1:] == tuple(book["effusion"])
    assert explanation.heatmap.shape == explanation.aspect_heatmaps.shape[1:] == (4, 4)


def test_sentences_of_other_books_than_the_models_are_not_shown(model, predictor, films):
    assert predictor.wording.complete
    other = mavl.load(model, device="cpu")
    other.pretrained.bank.about["books"]["books/aspects.json"] = "of another time"
    assert not other.wording.complete
    explanation = other.explain(films / "grey.png", "effusion")
    assert explanation.sentences[0]
    assert explanation.sentences[1:] == (None,) * 8


def test_pictures_of_the_caller_are_taken_too(predictor, films):
    picture = read_image(films / "grey.png")
    [from_file, from_memory] = predictor.predict([films / "grey.png", picture.copy()], "pneumonia")
    assert from_memory.name == "image 2"
    np.testing.assert_allclose(from_file.supervised, from_memory.supervised, atol=1e-6)


def test_a_bad_image_is_an_error_from_python(predictor, broken):
    with pytest.raises(ImageError, match=r"empty\.png: empty \(0 bytes\)"):
        predictor.predict(broken / "empty.png", "pneumonia")


def test_no_more_images_are_opened_than_the_next_batch_needs(predictor, films):
    opened = []

    def endless():
        for number in count():
            opened.append(number)
            yield films / "grey.png"

    answers = predictor.stream(endless(), predictor.question("pneumonia", explained=0), batch_size=4)
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
    assert predictor.question(["COVID-19", "Rib fracture"]).findings == ("covid19", "rib fracture")
    assert predictor.question("covid19").bank.findings == (*tiny.FINDINGS, "covid19")


def test_findings_that_cannot_be_asked_are_named(model, predictor, books):
    with pytest.raises(UnknownFindingError, match="unknown finding 'pneumona'; did you mean 'pneumonia'"):
        predictor.question(["pneumona"])
    incomplete = mavl.load(model, descriptions=books["descriptions"], device="cpu")
    with pytest.raises(BookError, match="'Simon foci' has no border, fluid"):
        incomplete.question("Simon foci")


# What is written ------------------------------------------------------------------------------------------------------


def test_bad_files_are_named_and_the_others_finish(run, films, broken, tmp_path):
    out = tmp_path / "out"
    code, printed, complaints = run(films, broken, tmp_path / "gone.png", "--findings", *ASKED, "--out", out)
    assert code == 1
    assert printed[-1] == f"7 images: {out / 'predictions.html'}"
    left_out = {line.removeprefix("left out ").split(": ")[0]: line for line in complaints if "left out" in line}
    assert left_out.keys() == {str(path) for path in (*broken.iterdir(), tmp_path / "gone.png")}
    assert "empty (0 bytes)" in left_out[str(broken / "empty.png")]
    assert "exceeds limit" in left_out[str(broken / "huge.png")]
    assert not any("Traceback" in line for line in complaints)
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7 * 3
    assert {(row["finding"], row["asked"]) for row in rows} == set(zip(MEANT, ASKED, strict=True))
    content = json.loads((out / "predictions.json").read_text())
    assert {failure["name"] for failure in content["failed"]} == left_out.keys()
    assert [image["image"] for image in content["images"]] == [str(path) for path in sorted(films.iterdir())]
    for row, finding in zip(rows, (each for image in content["images"] for each in image["findings"]), strict=True):
        assert row["overlay"] == finding["overlay"]
        assert float(row["supervised"]) == finding["supervised"]
    assert not list(out.glob("*.part"))


def test_json_holds_shares_that_sum_to_the_score(run, films, tmp_path):
    code, _, _ = run(films / "grey.png", "--findings", "pneumonia", "--out", tmp_path)
    assert code == 0
    [image] = json.loads((tmp_path / "predictions.json").read_text())["images"]
    assert (image["width"], image["height"]) == (70, 90)
    [finding], why = image["findings"], image["explained"]["pneumonia"]
    difference = sum(aspect["share"] for aspect in why["aspects"].values()) + why["bias"]
    assert difference == pytest.approx(why["logit_difference"], abs=1e-4)
    assert finding["supervised"] == pytest.approx(1 / (1 + np.exp(-difference)), abs=1e-4)
    assert set(why["aspects"]) == set(ASPECTS)
    assert set(why["aspects"]["border"]["healthy_cosine"]) == {"normal", "clear"}


def test_overlays_of_files_of_one_name_are_kept_apart(run, films, tmp_path):
    for folder, size in (("a", (300, 400)), ("b", (500, 450))):
        (tmp_path / folder).mkdir()
        Image.open(films / "grey.png").resize(size).save(tmp_path / folder / "film.png")
    run(tmp_path / "a", tmp_path / "b", "--findings", "pleural effusion", "--out", tmp_path / "out")
    names = [
        image["findings"][0]["overlay"]
        for image in json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    ]
    assert names == ["overlays/film__effusion.png", "overlays/film~2__effusion.png"]
    for name, size in zip(names, [(300, 400), (500, 450)], strict=True):
        with Image.open(tmp_path / "out" / name) as drawn:
            assert drawn.width > size[0]
            assert size[1] < drawn.height < size[1] + 100


@pytest.mark.parametrize("name", ["Fake_MONOHR1.dcm", "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"])
def test_real_dicom(run, shared, tmp_path, name):
    code, printed, _ = run(shared(f"data/dicom/{name}"), "--findings", "pneumonia", "--out", tmp_path)
    assert code == 0
    assert name in printed[0]
    [drawn] = (tmp_path / "overlays").iterdir()
    with Image.open(drawn) as picture:
        assert picture.width > 1024


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nothing*.png"], "nothing*.png: no file of such a name"),
        (["{broken}/empty.png", "{broken}/text.png"], "none of 2 images could be read"),
        (["{films}", "--findings", "pneumona"], "did you mean 'pneumonia'"),
        (["{films}", "--descriptions", "gone.json"], "gone.json: No such file"),
        (["{films}", "--out", "{films}/grey.png"], "grey.png: cannot be written"),
        (["{films}", "--model", "gone/model"], "gone/model: no such file or folder"),
    ],
)
def test_when_nothing_can_be_done_one_line_says_why(run, films, broken, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(films=films, broken=broken) for argument in arguments]
    if "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    code, _, complaints = run(*arguments)
    assert code == 2
    assert complaints[-1].startswith("error: ")
    assert complaint in complaints[-1]


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
    answers = list(predictor.stream(images, predictor.question("pneumonia"), batch_size=3))
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False, True]
    assert [answer.name for answer in answers] == list(map(str, images))
