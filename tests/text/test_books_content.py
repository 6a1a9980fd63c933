"""The project's own books: complete and well formed. tests/concepts/test_inspection.py finds near-duplicates."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from mavl.vocab import ASPECTS, FINDINGS

BOOKS = Path(__file__).resolve().parents[2] / "concept_gen" / "books"
OTHER_BENCHMARKS = {
    "COVIDx and COVID Rural": ["covid19"],
    "ChestX-ray14 and ChestX-Det10": ["fibrosis", "diffuse nodule"],
    "VinDr-CXR": [
        "aortic enlargement",
        "interstitial lung disease",
        "pulmonary fibrosis",
        "enlarged pulmonary artery",
        "lung cavity",
        "lung cyst",
        "rib fracture",
        "copd",
        "lung tumor",
        "tuberculosis",
    ],
}
SHARED_LINE = "fluid: no fluid"
BOILERPLATE = re.compile(
    r"\b(may|might|can be|could be|varies|variable|depending|not applicable|n/a|not specific)\b", re.I
)


def mapping_without_duplicates(pairs: list[tuple]) -> dict:
    """JSON keeps the last of two equal names without a word; a book must not hold two."""
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    assert not repeated, f"named twice: {repeated}"
    return dict(pairs)


def read(name: str) -> dict:
    return json.loads((BOOKS / name).read_text(encoding="ascii"), object_pairs_hook=mapping_without_duplicates)


@pytest.fixture(scope="module")
def descriptions() -> dict[str, str]:
    return read("descriptions.json")["findings"]


@pytest.fixture(scope="module")
def aspects() -> dict[str, list[str]]:
    return read("aspects.json")["findings"]


def words(line: str) -> str:
    return line.split(": ", 1)[1]


def test_both_books_state_their_origin():
    about = read("descriptions.json")["about"]
    assert about == read("aspects.json")["about"]
    assert list(about) == ["source", "version", "date", "licence", "review"]
    assert about["licence"] == "Apache-2.0"
    assert "No radiologist has reviewed" in about["review"]
    assert f"Version {about['version']}, {about['date']}" in (BOOKS / "README.md").read_text(encoding="utf-8")


def test_both_books_hold_the_same_findings(descriptions, aspects):
    assert set(descriptions) == set(aspects)


def test_vocabulary_and_benchmark_names_are_described(descriptions):
    expected = {*FINDINGS, *itertools.chain(*OTHER_BENCHMARKS.values())}
    assert expected - set(descriptions) == set()


def test_every_padchest_class_is_described_and_nothing_else(descriptions, shared):
    classes = yaml.safe_load(shared("padchest_classes.yaml").read_text(encoding="utf-8"))
    padchest = set(itertools.chain(*classes.values()))
    padchest.remove("pleural effusion")  # is `effusion`
    assert padchest - set(descriptions) == set()
    assert set(descriptions) == padchest.union(FINDINGS, *OTHER_BENCHMARKS.values())
    assert len(descriptions) == 148  # 75 of the vocabulary, 60 of PadChest, 13 of other benchmarks


def test_eight_aspects_in_alphabetical_order(aspects):
    for finding, lines in aspects.items():
        assert [line.split(": ", 1)[0] for line in lines] == list(ASPECTS[1:]), finding


def test_descriptions_are_one_plain_sentence_of_15_to_40_words(descriptions):
    for finding, text in descriptions.items():
        assert 15 <= len(text.split()) <= 40, (finding, len(text.split()))
        assert text.endswith("."), finding
        assert text.count(".") == 1, finding


def test_aspect_lines_have_6_to_20_words(aspects):
    lines = [(finding, line) for finding, lines in aspects.items() for line in lines if line != SHARED_LINE]
    outside = [(finding, line) for finding, line in lines if not 6 <= len(words(line).split()) <= 20]
    assert not outside


def test_text_is_tidy_printable_ascii(descriptions, aspects):
    for text in itertools.chain(descriptions.values(), *aspects.values()):
        assert re.fullmatch(r"[\x20-\x7e]+", text), text
        assert "  " not in text, text
        assert text == text.strip(), text


def test_only_the_fluid_negative_is_said_of_two_findings(aspects):
    counts = Counter(line for lines in aspects.values() for line in lines)
    assert {line for line, count in counts.items() if count > 1} == {SHARED_LINE}
    across_aspects = Counter(words(line) for lines in aspects.values() for line in lines if line != SHARED_LINE)
    assert max(across_aspects.values()) == 1, across_aspects.most_common(3)


def test_descriptions_are_distinct(descriptions):
    assert len(set(descriptions.values())) == len(descriptions)


def test_no_boilerplate(descriptions, aspects):
    for text in itertools.chain(descriptions.values(), *aspects.values()):
        assert not BOILERPLATE.search(text), text
