"""The model that comes with the package: small, offline, with reasons, operating points and a card."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import mavl
from mavl.checkpoint.folder import BUNDLED_FOLDER
from mavl.config.settings import BUNDLED
from tests.support.processes import ROOT, environment

FINDINGS = 14
MOST_BYTES = 12_000_000


@pytest.fixture
def film(tmp_path):
    pixels = np.random.default_rng(0).normal(120, 40, (140, 120)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    return tmp_path / "film.png"


@pytest.fixture
def offline(monkeypatch):
    def refuse(*arguments):
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_it_needs_no_name_and_no_network(film, offline):
    predictor = mavl.load()
    assert predictor.source == BUNDLED
    [prediction] = predictor.predict(film)
    assert len(prediction.findings) == FINDINGS
    assert ((prediction.supervised > 0) & (prediction.supervised < 1)).all()
    for name, explanation in prediction.explanations.items():
        assert prediction.heatmap(name).shape == (140, 120)
        assert all(explanation.sentences)
        assert prediction.positive(name) is not None


def test_it_is_small_and_names_no_place_of_a_machine():
    size = sum(path.stat().st_size for path in BUNDLED_FOLDER.iterdir())
    assert size <= MOST_BYTES
    about = json.loads((BUNDLED_FOLDER / "mavl.json").read_text())

    def texts(content):
        if isinstance(content, dict | list):
            return [
                text for each in (content.values() if isinstance(content, dict) else content) for text in texts(each)
            ]
        return [content] if isinstance(content, str) else []

    assert [text for text in texts(about) if text.startswith(("/", "..", "~/work"))] == []
    assert about["trained_on"] == {"kind": "films", "list": "nih128", "images": 4387, "collection": "ChestX-ray14"}
    points = about["operating_points"]
    assert len(points["findings"]) == FINDINGS
    assert "906 images of the validation split" in points["chosen"]


def test_its_card_says_what_it_is_for_and_what_not():
    card = (BUNDLED_FOLDER / "README.md").read_text()
    for words in ("ChestX-ray14", "Wang et al.", "text mining", "4,387", "1,161 patients", "not for diagnosis", "128"):
        assert words in card


@pytest.mark.slow
def test_the_script_takes_it_and_says_so(film, tmp_path):
    line = [sys.executable, "predict.py", str(film), "--out", str(tmp_path / "out")]
    done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"{BUNDLED}, which comes with the package. Trained on 4,387 films of nih128." in done.stdout + done.stderr
    assert (tmp_path / "out" / "predictions.html").exists()
