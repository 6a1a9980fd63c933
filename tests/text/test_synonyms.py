"""Findings by the names that data sets and people give them."""

import json
from pathlib import Path

import pytest
import yaml

from mavl.config.loader import load
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.text.embeddings import UnknownFindingError
from mavl.text.synonyms import TABLE, key, meaning, resolve
from mavl.vocab import FINDINGS

ROOT = Path(__file__).resolve().parents[2]
ENTRIES = yaml.safe_load(TABLE.read_text())
BOOK = json.loads((ROOT / "concept_gen" / "books" / "descriptions.json").read_text())["findings"]


def columns(benchmark: str) -> list[tuple[str, str]]:
    """(column, finding) of a benchmark's labels."""
    described = load(Benchmark, ROOT / "configs" / "benchmarks" / f"{benchmark}.yaml")
    return [(described.labels.columns.get(finding, finding), finding) for finding in described.findings]


@pytest.mark.parametrize("benchmark", ["chexpert14", "chexpert5", "chestxray14", "nih_sample", "padchest_seen"])
def test_every_column_means_the_finding_of_the_benchmark(benchmark):
    named = columns(benchmark)
    assert [resolve(column, FINDINGS, BOOK) for column, _ in named] == [finding for _, finding in named]


@pytest.mark.parametrize("benchmark", ["padchest_rare", "padchest_unseen"])
def test_new_findings_of_padchest_go_by_their_own_names(benchmark):
    """A synonym of the vocabulary must not come before them."""
    named = columns(benchmark)
    assert [resolve(column, FINDINGS, BOOK) for column, _ in named] == [finding for _, finding in named]


NAMES = {
    "ChestX-Det": {  # all 13; ChestX-Det10 has those without the last three
        "Atelectasis": "atelectasis",
        "Calcification": "calcification",
        "Consolidation": "consolidation",
        "Effusion": "effusion",
        "Emphysema": "emphysema",
        "Fibrosis": "fibrosis",
        "Fracture": "fracture",
        "Mass": "mass",
        "Nodule": "nodule",
        "Pneumothorax": "pneumothorax",
        "Cardiomegaly": "cardiomegaly",
        "Diffuse Nodule": "diffuse nodule",
        "Pleural Thickening": "thicken",
    },
    "VinDr-CXR": {  # 26 of 28: "Nodule/Mass" means two findings, "Other disease" none
        "Aortic enlargement": "aortic enlargement",
        "Atelectasis": "atelectasis",
        "Cardiomegaly": "cardiomegaly",
        "Calcification": "calcification",
        "Clavicle fracture": "clavicle fracture",
        "Consolidation": "consolidation",
        "Edema": "edema",
        "Emphysema": "emphysema",
        "Enlarged PA": "enlarged pulmonary artery",
        "Interstitial lung disease (ILD)": "interstitial lung disease",
        "Infiltration": "infiltrate",
        "Lung cavity": "lung cavity",
        "Lung cyst": "lung cyst",
        "Lung opacity": "opacity",
        "Mediastinal shift": "mediastinal shift",
        "Pulmonary fibrosis": "pulmonary fibrosis",
        "Pneumothorax": "pneumothorax",
        "Pleural thickening": "thicken",
        "Pleural effusion": "effusion",
        "Rib fracture": "rib fracture",
        "Other lesion": "lesion",
        "Lung tumor": "lung tumor",
        "Pneumonia": "pneumonia",
        "Tuberculosis": "tuberculosis",
        "COPD": "copd",
        "No finding": "normal",
    },
    "MS-CXR": {
        "Atelectasis": "atelectasis",
        "Cardiomegaly": "cardiomegaly",
        "Consolidation": "consolidation",
        "Edema": "edema",
        "Lung Opacity": "opacity",
        "Pleural Effusion": "effusion",
        "Pneumonia": "pneumonia",
        "Pneumothorax": "pneumothorax",
    },
    "RadLex": {
        "consolidation": "consolidation",
        "emphysema": "emphysema",
        "endotracheal tube": "tube",
        "foreign body": "abnormal foreign body",
        "fracture": "fracture",
        "ground-glass opacity": "ground glass pattern",
        "mass": "mass",
        "nasogastric tube": "tube",
        "opacity": "opacity",
        "pacemaker": "pacemaker",
        "peripheral intravenous central catheter": "picc",
        "pleural effusion": "effusion",
        "pleural mass": "pleural mass",
        "pleural thickening": "thicken",
        "pneumothorax": "pneumothorax",
        "pulmonary edema": "edema",
        "pulmonary nodule": "nodule",
        "surgical drain": "drainage",
        "thoracostomy tube": "tube",
        "enteric tube": "tube",
        "pulmonary artery catheter": "catheter",
        "implantable cardioverter-defibrillator": "device",
        "subsegmental atelectasis": "atelectasis",
        "rounded atelectasis": "round atelectasis",
        "pulmonary cyst": "lung cyst",
        "pulmonary bulla": "bullas",
        "compression fracture": "vertebral compression",
        "acute respiratory distress syndrome": "respiratory distress",
        "median sternotomy": "sternotomy",
        "right aortic arch": "right sided aortic arch",
        "tracheostomy tube": "tube",
    },
    "PadChest": {  # labels of its file in no split of the benchmarks
        "NSG tube": "tube",
        "laminar atelectasis": "atelectasis",
        "lobar atelectasis": "collapse",
        "costophrenic angle blunting": "blunt",
        "vertebral degenerative changes": "degenerative",
        "hemidiaphragm elevation": "elevation",
        "descendent aortic elongation": "aortic elongation",
        "aortic atheromatosis": "calcification",
        "heart insufficiency": "chf",
        "air trapping": "hyperinflate",
        "fibrotic band": "scar",
        "central vascular redistribution": "redistribution",
        "superior mediastinal enlargement": "widen",
        "reservoir central venous catheter": "catheter",
        "central venous catheter via subclavian vein": "central venous catheter",
        "chest drain tube": "drainage",
        "subcutaneous emphysema": "air",
        "pneumoperitoneo": "air",
        "artificial heart valve": "device",
        "humeral prosthesis": "surgery humeral",
        "pulmonary mass": "mass",
        "infiltrates": "infiltrate",
        "unchanged": "stable",
    },
}


@pytest.mark.parametrize(
    ("name", "finding"), [(name, finding) for names in NAMES.values() for name, finding in names.items()]
)
def test_names_of_other_data_sets_and_of_radlex(name, finding):
    assert resolve(name, FINDINGS, BOOK) == finding


def test_every_padchest_class_resolves(shared):
    classes = yaml.safe_load(shared("padchest_classes.yaml").read_text(encoding="utf-8"))
    names = {name for of in classes.values() for name in of}
    assert {name: resolve(name, FINDINGS, BOOK) for name in names} == {
        name: "effusion" if name == "pleural effusion" else name for name in names
    }


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "benchmarks").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_books_describe_the_findings_of_every_benchmark(path):
    benchmark = load(Benchmark, path)
    findings = benchmark.findings
    asked = [part for name in findings for part in benchmark.any_of.get(name, (name,))]
    assert [name for name in asked if name not in BOOK] == []
    assert [resolve(name, findings) for name in findings] == list(findings)


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("Pleural_Thickening", "thicken"),  # as ChestX-ray14's own file writes it
        ("Infiltration", "infiltrate"),
        ("No Finding", "normal"),
        ("Support Devices", "device"),
        ("lung nodule", "nodule"),
        ("LUNG  NODULES", "nodule"),
        ("chest tube", "tube"),
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
    ("name", "finding"),
    [("COVID-19", "covid19"), ("lung tumours", "lung tumor"), ("TB", "tuberculosis"), ("broken rib", "rib fracture")],
)
def test_findings_of_the_books_have_synonyms_too(name, finding):
    assert resolve(name, FINDINGS, BOOK) == finding


def test_the_first_collection_that_has_the_name_counts():
    assert resolve("pleural effusion", FINDINGS, ["pleural effusion"]) == "effusion"
    assert resolve("pleural effusion", ["pleural effusion"], FINDINGS) == "pleural effusion"
    assert resolve("Rib Fracture", FINDINGS, BOOK) == "rib fracture"


def test_fibrosis_is_asked_by_its_own_words():
    assert resolve("Fibrosis", FINDINGS, BOOK) == "fibrosis"
    with pytest.raises(UnknownFindingError, match="fibrosis"):
        resolve("fibrosis", FINDINGS)


def test_the_very_name_counts_before_another_spelling_and_else_the_first():
    assert resolve("r1", ["r1", "R1"]) == resolve("r1", ["R1", "r1"]) == "r1"
    assert resolve("R-1", ["r 1", "R 1"]) == "r 1"
    assert resolve("cardiomegaly", [*FINDINGS, "Cardiomegaly"]) == "cardiomegaly"
    assert resolve("enlarged heart", ["Cardiomegaly", *FINDINGS]) == "cardiomegaly"
    assert resolve("Cardiomegaly", [*FINDINGS, "Cardiomegaly"]) == "Cardiomegaly"


def test_the_meaning_of_a_name():
    assert meaning("Pleural Effusions") == meaning("effusion") == "effusion"
    assert meaning("rib fractures") == "rib fracture"


@pytest.mark.parametrize("name", ["Nodule/Mass", "Other disease", "collapsed lung", "lung collapse"])
def test_names_of_two_findings_or_of_none_are_refused(name):
    with pytest.raises(UnknownFindingError):
        resolve(name, FINDINGS, BOOK)


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
    assert own.isdisjoint(names)  # a finding of the books is asked by its own words
    assert len(own) == len(BOOK)
