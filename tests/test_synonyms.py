"""Findings by the names that data sets and people give them."""

import json
from pathlib import Path

import pytest
import yaml

from mavl.bank import UnknownFindingError
from mavl.config import load
from mavl.data.benchmarks import Benchmark
from mavl.synonyms import TABLE, key, resolve
from mavl.vocab import FINDINGS

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = yaml.safe_load(TABLE.read_text())
BOOK = json.loads((ROOT / "concept_gen" / "books" / "descriptions.json").read_text())


def columns(benchmark: str) -> list[tuple[str, str]]:
    """(column, finding) of a benchmark's labels."""
    described = load(Benchmark, ROOT / "configs" / "benchmarks" / f"{benchmark}.yaml")
    return [(described.labels.columns.get(finding, finding), finding) for finding in described.findings]


@pytest.mark.parametrize("benchmark", ["chexpert14", "chexpert5", "chestxray14", "nih_sample", "padchest_seen"])
def test_every_column_means_the_finding_that_the_benchmark_asks(benchmark):
    named = columns(benchmark)
    assert [resolve(column, FINDINGS) for column, _ in named] == [finding for _, finding in named]


@pytest.mark.parametrize("benchmark", ["padchest_rare", "padchest_unseen"])
def test_new_findings_of_padchest_go_by_their_own_names(benchmark):
    """A synonym of the vocabulary must not come before them."""
    named = columns(benchmark)
    assert [resolve(column, FINDINGS, BOOK) for column, _ in named] == [finding for _, finding in named]


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("Pleural_Thickening", "thicken"),  # as ChestX-ray14's own file writes it
        ("Infiltration", "infiltrate"),
        ("Fibrosis", "tail_abnorm_obs"),
        ("No Finding", "normal"),
        ("Support Devices", "device"),
        ("lung nodule", "nodule"),
        ("LUNG  NODULES", "nodule"),
        ("collapsed lung", "pneumothorax"),
        ("an enlarged heart", "cardiomegaly"),
        ("pulmonary oedema", "edema"),
        ("pleural-effusion", "effusion"),
        ("Hernias", "hernia"),
        ("tail-abnorm-obs", "tail_abnorm_obs"),
    ],
)
def test_names_of_everyday_and_of_other_spelling(name, finding):
    assert resolve(name, FINDINGS) == finding


@pytest.mark.parametrize(
    ("name", "finding"), [("COVID-19", "covid19"), ("lung tumours", "lung tumor"), ("TB", "tuberculosis")]
)
def test_findings_of_the_books_have_synonyms_too(name, finding):
    assert resolve(name, FINDINGS, BOOK) == finding


def test_the_first_collection_that_has_the_name_counts():
    assert resolve("fibrosis", FINDINGS, BOOK) == "tail_abnorm_obs"
    assert resolve("fibrosis", [*FINDINGS, "fibrosis"]) == "fibrosis"
    assert resolve("Rib Fracture", FINDINGS, BOOK) == "rib fracture"


def test_names_in_any_script_are_kept_apart():
    assert resolve("ÉPANCHEMENT pleural", ["épanchement pleural", "气胸"]) == "épanchement pleural"
    assert resolve("气胸", ["肺炎", "气胸"]) == "气胸"


def test_an_unknown_name_suggests_near_ones_of_findings_and_synonyms():
    with pytest.raises(UnknownFindingError, match="unknown finding 'pneumotorax'; did you mean 'pneumothorax'"):
        resolve("pneumotorax", FINDINGS)
    with pytest.raises(UnknownFindingError, match="did you mean 'enlarged heart'"):
        resolve("enlarged hart", FINDINGS)


def test_a_synonym_of_a_finding_that_is_not_known_says_what_it_means():
    with pytest.raises(UnknownFindingError, match="'enlarged heart' means 'cardiomegaly': unknown finding"):
        resolve("enlarged heart", ["pneumonia", "mass"])


def test_the_table_is_of_known_findings_and_no_name_means_two():
    assert set(ENTRIES) <= set(BOOK)
    names = [key(name) for synonyms in ENTRIES.values() for name in synonyms]
    assert len(names) == len(set(names))
    own = {key(finding) for finding in BOOK}
    assert own.intersection(names) == {"fibrosis"}  # ChestX-ray14's, which the release asks under another name
    assert len(own) == len(BOOK)
