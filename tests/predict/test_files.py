"""The prediction script as a user meets it: good files and bad ones of every kind, and what is written."""

import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from mavl.vocab import ASPECTS
from tests.support import tiny
from tests.support.pages import Reader

ASKED = ["Pleural_Thickening", "enlarged heart", "pneumonia"]
MEANT = ("thicken", "cardiomegaly", "pneumonia")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return tiny.write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return tiny.write_broken_films(tmp_path_factory.mktemp("broken"))


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
    files = {"predictions.csv", "predictions.json", "predictions.html"}
    assert {path.name for path in out.iterdir()} == files | {"overlays"}


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


def overlays_in(out):
    content = json.loads((out / "predictions.json").read_text())
    return [finding["overlay"] for image in content["images"] for finding in image["findings"]]


def test_long_names_and_names_that_are_alike_get_files_of_their_own(run, films, tmp_path):
    long, out = "\u5f71" * 80, tmp_path / "out"  # 240 bytes
    names = [f"{long}.png", "a b.png", "a_b.png", "A_B.png"]
    for name in names:
        shutil.copy(films / "grey.png", tmp_path / name)
    code, _, _ = run(*(tmp_path / name for name in names), "--findings", "effusion", "--out", out)
    assert code == 0
    stems = ["\u5f71" * 33, "a_b", "a_b~2", "A_B~3"]  # 100 bytes hold 33 characters of three
    assert overlays_in(out) == [f"overlays/{stem}__effusion.png" for stem in stems]
    assert all((out / overlay).exists() for overlay in overlays_in(out))


def test_findings_that_are_alike_get_files_of_their_own(run, films, tmp_path):
    lines = [f"{aspect}: of it" for aspect in ASPECTS[1:]]
    book = {name: {"description": "A shadow.", "aspects": lines} for name in ("old/scar", "old: scar")}
    (tmp_path / "d.json").write_text(json.dumps({name: entry["description"] for name, entry in book.items()}))
    (tmp_path / "a.json").write_text(json.dumps({name: entry["aspects"] for name, entry in book.items()}))
    books = ["--descriptions", tmp_path / "d.json", "--aspects", tmp_path / "a.json"]
    code, _, complaints = run(films / "grey.png", *books, "--findings", *book, "--out", tmp_path / "out")
    assert code == 0, complaints
    assert sorted(overlays_in(tmp_path / "out")) == ["overlays/grey__old_scar.png", "overlays/grey__old_scar~2.png"]


def test_a_name_that_is_no_text_is_written(run, films, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/q\xff.png")
    shutil.copy(films / "grey.png", name)
    code, printed, _ = run(name, "--findings", "effusion", "--out", tmp_path / "out")
    assert code == 0
    assert printed[0].startswith(f"{tmp_path}/q\\udcff.png: effusion ")
    [image] = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert image["image"] == name
    assert overlays_in(tmp_path / "out") == ["overlays/q__effusion.png"]


def test_a_second_run_reads_and_keeps_nothing_of_the_first(run, films, tmp_path):
    shutil.copy(films / "grey.png", tmp_path / "a.png")
    shutil.copy(films / "grey.png", tmp_path / "b.png")
    out = tmp_path / "out"
    run(tmp_path, "--findings", "effusion", "pneumonia", "--out", out)
    assert len(list((out / "overlays").iterdir())) == 4
    (tmp_path / "b.png").unlink()
    before = {path: path.read_bytes() for path in out.rglob("*.*")}
    code, _, complaints = run(tmp_path, "--findings", "effusion", "--out", out)
    assert (code, complaints[-1]) == (
        2,
        f"error: {out} holds an earlier result: give --overwrite to replace it, or another folder",
    )
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == before
    code, printed, _ = run(tmp_path, "--findings", "effusion", "--out", out, "--overwrite")
    assert code == 0
    assert printed[-1] == f"1 image: {out / 'predictions.html'}"
    assert {path.name for path in (out / "overlays").iterdir()} == {"a__effusion.png"}


def test_a_folder_of_films_is_never_an_output_folder(run, films, tmp_path):
    shutil.copy(films / "grey.png", tmp_path / "a.png")
    code, _, complaints = run(tmp_path / "a.png", "--findings", "effusion", "--out", tmp_path, "--overwrite")
    assert code == 2
    assert "holds 'a.png', which no run made: give a folder of its own" in complaints[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_run_that_fails_keeps_the_former_result(run, films, broken, tmp_path):
    run(films / "grey.png", "--findings", "effusion", "--out", tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    code, _, _ = run(broken / "empty.png", "--findings", "effusion", "--out", tmp_path / "out", "--overwrite")
    assert code == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


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
        ([""], "'': an empty name"),
        (["nothing*.png"], "nothing*.png: no file of such a name"),
        (["{broken}/empty.png", "{broken}/text.png"], "none of 2 images could be read"),
        (["{films}", "--findings", "pneumona"], "did you mean 'pneumonia'"),
        (["{films}", "--descriptions", "gone.json"], "gone.json: No such file"),
        (["{films}", "--out", "{films}/grey.png"], "grey.png is a file, not a folder"),
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


# Names, marks, warnings -----------------------------------------------------------------------------------------------


def test_names_cannot_harm_spreadsheets_terminals_or_pages(run, films, tmp_path):
    for name in ("=cmd|x.png", "a\x1b[31m\x07.png", "[b]<b>$x$.png"):
        shutil.copy(films / "grey.png", tmp_path / name)
    write_book(tmp_path, ["=1+1", "[/b] $\\frac$ <i>x</i>"])
    books = ["--books", tmp_path / "book.json"]
    code, printed, _ = run(
        *sorted(tmp_path.glob("*.png")),
        *books,
        "--findings",
        "=1+1",
        "[/b] $\\frac$ <i>x</i>",
        "--out",
        tmp_path / "out",
    )
    assert code == 0
    assert not any("\x1b" in line or "\x07" in line for line in printed)
    with (tmp_path / "out/predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["finding"] for row in rows} == {"'=1+1", "[/b] $\\frac$ <i>x</i>"}
    page = (tmp_path / "out/predictions.html").read_text()
    assert "<i>x</i>" not in page
    assert "\x1b" not in page
    assert "\\x1b[31m" in page
    content = json.loads((tmp_path / "out/predictions.json").read_text(), parse_constant=pytest.fail)
    assert {finding["finding"] for image in content["images"] for finding in image["findings"]} == {
        *("=1+1", "[/b] $\\frac$ <i>x</i>")
    }


def write_book(folder, names):
    lines = [f"{aspect}: of it" for aspect in ASPECTS[1:]]
    book = {name: {"description": "A shadow.", "aspects": lines} for name in names}
    (folder / "book.json").write_text(json.dumps({"findings": book}))


def test_findings_never_trained_on_are_marked_and_the_contrastive_head_leads(run, films, tmp_path):
    code, [line, _], _ = run(films / "grey.png", "--findings", "covid19", "effusion", "--out", tmp_path / "out")
    assert code == 0
    [image] = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    trained, new = image["findings"]
    assert [(found["finding"], found["new"]) for found in (trained, new)] == [("effusion", False), ("covid19", True)]
    score = f"{100 * new['contrastive']:.1f} %"
    assert line.endswith(f"covid19 {score} (contrastive head, never trained on)")
    assert f"effusion {100 * trained['supervised']:.1f} %, " in line
    page = " ".join(Reader((tmp_path / "out/predictions.html").read_text()).text.split())
    assert "covid19 never trained on" in page
    assert f"Why {score} for covid19" in page
    assert f"the {score} are of the contrastive head" in page
    assert "Which head leads:" in page


@pytest.mark.parametrize(
    ("trained_on", "sentence"),
    [
        (
            {"kind": "phantom drawings", "list": "phantoms", "images": 2000},
            "Trained on 2,000 phantom drawings, not on radiographs: its scores of real films mean nothing.",
        ),
        ({"kind": "films", "list": "train.csv", "images": 377110}, "Trained on 377,110 films of train.csv."),
        (None, ""),
    ],
)
def test_what_a_model_was_trained_on_is_said(run, model, films, tmp_path, trained_on, sentence):
    shutil.copytree(model, tmp_path / "model")
    about = json.loads((tmp_path / "model/mavl.json").read_text())
    (tmp_path / "model/mavl.json").write_text(json.dumps(about | {"trained_on": trained_on}))
    arguments = ["--findings", "effusion", "--model", tmp_path / "model", "--out", tmp_path / "out"]
    code, _, complaints = run(films / "grey.png", *arguments)
    assert code == 0
    assert complaints.count(sentence) == (sentence != "")
    assert any("Trained on" in line for line in complaints) == (sentence != "")
    page = Reader((tmp_path / "out/predictions.html").read_text()).text
    assert (sentence if sentence else "not for diagnosis.") in page
    assert ("Trained on" in page) == (sentence != "")


def test_a_blank_film_is_named_on_console_and_page(run, films, tmp_path):
    Image.new("L", (50, 40), 255).save(tmp_path / "white.png")
    code, _, complaints = run(tmp_path / "white.png", "--findings", "effusion", "--out", tmp_path / "out")
    assert code == 0
    warning = "blank: every pixel has the same grey, 255 of 255; its result means nothing"
    assert complaints == [f"warning: {tmp_path / 'white.png'}: {warning}"]
    [image] = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    assert image["warnings"] == [warning]
    assert warning in Reader((tmp_path / "out/predictions.html").read_text()).text


def test_a_large_film_has_a_bounded_overlay(run, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4200, 3600), dtype=np.uint8)).save(tmp_path / "film.png")
    code, _, _ = run(tmp_path / "film.png", "--findings", "effusion", "--out", tmp_path / "out")
    assert code == 0
    [drawn] = (tmp_path / "out/overlays").iterdir()
    with Image.open(drawn) as picture:
        assert 2900 < max(picture.size) < 3600
    [image] = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    assert (image["width"], image["height"]) == (3600, 4200)


@pytest.mark.slow
def test_a_killed_run_leaves_no_result_and_the_next_one_clears_up(model, films, tmp_path):
    paths = [shutil.copy(films / "grey.png", tmp_path / f"{number}.png") for number in range(200)]
    out = tmp_path / "results" / "out"
    command = [sys.executable, str(tiny.ROOT / "predict.py"), "--model", str(model), "--findings", "effusion"]
    environment = os.environ | {"PYTHONPATH": str(tiny.ROOT), "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen([*command, "--out", str(out), *paths], env=environment, stderr=subprocess.DEVNULL) as process:
        while not any((out.parent / ".out.draft/overlays").glob("*.png")) and process.poll() is None:
            time.sleep(0.02)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in out.parent.iterdir()] == [".out.draft"]
    again = subprocess.run(
        [*command, "--out", str(out), *paths[:2]], env=environment, capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == f"2 images: {out / 'predictions.html'}"
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert len(list((out / "overlays").iterdir())) == 2


def test_the_page_and_the_files_have_the_operating_points(run, model, films, tmp_path):
    own = shutil.copytree(model, tmp_path / "model")
    about = json.loads((own / "mavl.json").read_text())
    shares = {"sensitivity": 0.75, "specificity": 0.5, "positives": 4, "images": 12}
    doubled = {"kind": "platt", "slope": 2.0, "offset": 0.0, "of_logits": True}
    points = {
        "pneumonia": {"threshold": 0.0, "calibration": doubled} | shares,
        "effusion": {"threshold": 1.0} | shares | {"sensitivity": None},
    }
    about["operating_points"] = {"benchmark": "Films of a clinic", "chosen": "best F1 on 9 images", "findings": points}
    (own / "mavl.json").write_text(json.dumps(about))
    out = tmp_path / "out"
    asked = ["pneumonia", "effusion", "cardiomegaly"]
    code, lines, _ = run("--model", own, films / "grey.png", "--findings", *asked, "--out", out)
    assert code == 0
    assert lines[0].count("above its threshold") == 1
    assert re.search(r"pneumonia [\d.]+ %, calibrated [\d.]+ %, above its threshold", lines[0])
    found = {row["finding"]: row["threshold"] for row in csv.DictReader((out / "predictions.csv").open())}
    assert found == {"pneumonia": "0.0", "effusion": "1.0", "cardiomegaly": ""}
    rows = {row["finding"]: row for row in csv.DictReader((out / "predictions.csv").open())}
    odds = (float(rows["pneumonia"]["supervised"]) ** -1 - 1) ** -2
    assert float(rows["pneumonia"]["calibrated"]) == pytest.approx(odds / (1 + odds), rel=1e-4)
    assert rows["effusion"]["calibrated"] == ""
    page = (out / "predictions.html").read_text()
    assert "uncalibrated" in page
    assert "Its threshold: best F1 on 9 images. What it gave on Films of a clinic" in " ".join(page.split())
    assert "75.0 %" in page
    assert "4 of 12" in page
