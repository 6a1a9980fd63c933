"""docs/any_disease.md: its book passes the inspector beside this project's, and predict.py explains its disease."""

import re
from pathlib import Path

import pytest

from mavl.concepts.book import read_whole_book
from mavl.concepts.inspection import inspect, read_entries, read_justified
from mavl.predict import load
from tests.support import tiny

PAGE = tiny.ROOT / "docs" / "any_disease.md"
BOOKS = tiny.ROOT / "concept_gen" / "books"
NAME = "pneumopericardium"


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("any") / "book.json"
    path.write_text(re.search(r"<<'BOOK'\n(.*?)^BOOK$", PAGE.read_text(encoding="utf-8"), re.S | re.M)[1])
    return path


def test_its_book_reads_and_is_like_no_other(book):
    assert list(read_whole_book(book).findings) == [NAME]
    entries = read_entries([BOOKS / "descriptions.json", BOOKS / "aspects.json", book])
    assert len(entries.lines) == 149
    assert inspect(entries, read_justified([BOOKS / "justified.yaml"])).problems == []


def test_a_model_that_never_heard_of_it_gives_score_words_and_heatmap(book, tmp_path):
    predictor = load(tiny.write_model(tmp_path), descriptions=[book], aspects=[book])
    assert NAME not in predictor.vocabulary
    [prediction] = predictor.predict(tiny.write_films(tmp_path) / "grey.png", [NAME, "cardiomegaly"])
    assert 0 < prediction.scores()[NAME] < 1
    assert prediction.scores()[NAME] != prediction.scores()["cardiomegaly"]
    explanation = prediction.explanations[NAME]
    words = dict(zip(explanation.aspects, explanation.sentences, strict=True))
    assert words["shape"].startswith("shape: halo or horseshoe")
    assert float(explanation.heatmap.sum()) == pytest.approx(1, abs=1e-4)
