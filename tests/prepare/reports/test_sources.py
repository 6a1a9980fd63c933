"""Tables of reports: rows, images, studies and splits; what cannot be used is listed."""

from collections import Counter

import pytest

from mavl.data import DataError
from mavl.prepare.reports.sources import Columns, Study, hashed_split, read_csv, report_leaks, share_out
from tests.support.reports import write_csv

COLUMNS = Columns("image", ("report",))


def paths(study: Study) -> list[str]:
    return [image.path for image in study.images]


def test_each_row_is_a_study_without_a_study_column(tmp_path):
    file = write_csv(tmp_path, [{"image": f"{name}.png", "report": "Clear."} for name in "ab"])
    studies = read_csv(file, COLUMNS, [])
    assert [(study.report.study, study.report.text, paths(study)) for study in studies] == [
        ("a.png", "Clear.", ["a.png"]),
        ("b.png", "Clear.", ["b.png"]),
    ]


def test_images_of_a_study_share_its_report(tmp_path):
    rows = [
        {"image": "a.png", "study": "1", "report": "", "view": "PA"},
        {"image": "b.png", "study": "1", "report": "A mass.\nNo edema – none.", "view": ""},
        {"image": "c.png", "study": "2", "report": "Clear.", "view": "LATERAL"},
    ]
    problems = []
    studies = read_csv(write_csv(tmp_path, rows, "utf-16"), COLUMNS._replace(study="study"), problems)
    assert [(study.report.study, study.report.text, study.report.where) for study in studies] == [
        ("1", "A mass.\nNo edema – none.", "reports.csv:3"),
        ("2", "Clear.", "reports.csv:5"),
    ]
    assert [[image[:2] for image in study.images] for study in studies] == [
        [("a.png", "PA"), ("b.png", None)],
        [("c.png", "LATERAL")],
    ]
    assert not problems


def test_columns_of_sections_are_sections(tmp_path):
    file = write_csv(tmp_path, [{"image": "a.png", "findings": "", "impression": "A mass.", "indication": "x"}])
    [study] = read_csv(file, Columns("image", ("findings", "impression")), [])
    assert study.report.sections == {"findings": "", "impression": "A mass."}


def test_what_cannot_be_used_is_listed_with_its_row(tmp_path):
    rows = [
        {"image": "a.png", "study": "1", "report": "A mass.", "split": "Train"},
        {"image": "./a.png", "study": "1", "report": "A mass.", "split": "train"},
        {"image": "b.png", "study": "1", "report": "No mass.", "split": "train"},
        {"image": "c.png", "study": "2", "report": "", "split": "val"},
        {"image": "d.png", "study": "3", "report": "Clear.", "split": "later"},
        {"image": "", "study": "4", "report": "Clear.", "split": "test"},
        {"image": "e.png", "study": "", "report": "Clear.", "split": "test"},
    ]
    problems = []
    studies = read_csv(write_csv(tmp_path, rows), COLUMNS._replace(study="study", split="split"), problems)
    assert [(study.report.study, paths(study)) for study in studies] == [("1", ["a.png", "b.png"]), ("4", [])]
    assert {(problem.kind, problem.where) for problem in problems} == {
        ("image twice", "reports.csv:3"),
        ("study with two texts", "reports.csv:4"),
        ("empty report", "reports.csv:5"),
        ("unknown split", "reports.csv:6"),
        ("row without image", "reports.csv:7"),
        ("row without study", "reports.csv:8"),
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,report\na.png\n", r"reports\.csv:2: 1 cell, but the header has 2"),
        (b"image,text\na.png,Clear\n", "unknown column 'report'"),
        (b"image,report\na.png,\xff\n", "not UTF-8 text"),
        (b"", "the file is empty"),
        (b"PK\x03\x04", "a spreadsheet"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path, content, message):
    path = tmp_path / "reports.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(path, COLUMNS, [])


def test_a_hash_splits_by_patient(tmp_path):
    rows = [{"image": f"{number}.png", "report": "Clear.", "patient": f"p{number // 3}"} for number in range(3 * 400)]
    studies = read_csv(write_csv(tmp_path, rows), COLUMNS._replace(patient="patient"), [])
    share_out(studies, seed=1)
    splits = {}
    for study in studies:
        splits.setdefault(study.group, set()).update(image.split for image in study.images)
    assert all(len(of) == 1 for of in splits.values())
    numbers = Counter(split for of in splits.values() for split in of)
    assert numbers["train"] == pytest.approx(320, abs=30)
    assert numbers["validate"] == pytest.approx(40, abs=20)
    assert {hashed_split("p7", seed) for seed in range(40)} == {"train", "validate", "test"}
    assert splits["p7"] == {hashed_split("p7", 1)}


def test_a_patient_in_two_given_splits_is_listed(tmp_path):
    rows = [
        {"image": "a.png", "report": "Clear.", "patient": "p", "split": "train"},
        {"image": "b.png", "report": "Clear.", "patient": "p", "split": "test"},
        {"image": "c.png", "report": "Clear.", "patient": "q", "split": "test"},
    ]
    studies = read_csv(write_csv(tmp_path, rows), COLUMNS._replace(patient="patient", split="split"), [])
    problems = []
    report_leaks(studies, problems)
    assert problems == [("group in several splits", "p", "images: train 1, test 1")]
