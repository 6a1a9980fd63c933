"""Agreement of labels with another source's."""

import json
from pathlib import Path

import numpy as np
import pytest

from mavl.data import DataError
from mavl.prepare.reports.agreement import agreement_of, macro, micro
from tests.support.reports import COLUMNS, prepare, read_table, write_csv

ROWS = [
    {"image": "1.png", "study": "s1", "report": "Effusion.", "split": "train"},
    {"image": "2.png", "study": "s2", "report": "Effusion. Possible mass.", "split": "train"},
    {"image": "3.png", "study": "s3", "report": "No effusion.", "split": "train"},
    {"image": "4.png", "study": "s4", "report": "A mass.", "split": "test"},
]


def compared(folder: Path, reference: Path, *arguments) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """{finding: row of compare.csv} and disagreements.csv of ROWS."""
    prepare("--csv", write_csv(folder, ROWS), *COLUMNS, *arguments, "--out", folder / "out", "--compare", reference)
    return {row["finding"]: row for row in read_table(folder / "out/compare.csv")}, read_table(
        folder / "out/disagreements.csv"
    )


def test_agreement_is_counted_by_hand():
    """10 studies: both say present in 3, we alone in 1, they alone in 2, neither in 4."""
    ours = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)[:, None]
    theirs = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)[:, None]
    [found] = agreement_of(ours, theirs, ["mass"])
    assert found == ("mass", 3, 1, 2, 4)
    assert (found.precision, found.recall, found.f1) == (3 / 4, 3 / 5, 6 / 9)
    chance = 0.4 * 0.5 + 0.6 * 0.5
    assert found.kappa == pytest.approx((0.7 - chance) / (1 - chance))


def test_micro_sums_and_macro_means_over_what_the_reference_has():
    ours = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)
    theirs = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    found = agreement_of(ours, theirs, ["a", "b", "c"])
    assert micro(found) == ("micro", 2, 2, 1, 4)
    assert macro(found)["f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert np.isnan(found[2].recall)


def test_a_table_of_labels_by_other_names_of_the_findings(tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text("study,Pleural Effusion,Mass,Comment\ns1,1,,x\ns2,0,-1,y\ns4,,1.0,z\ns9,1,1,\n")
    rows, different = compared(tmp_path, labels, "--findings", "effusion", "mass")
    assert [rows["effusion"][name] for name in ("both", "labels_only", "reference_only", "neither")] == list("1101")
    assert [rows["mass"][name] for name in ("both", "labels_only", "reference_only", "neither")] == list("1002")
    assert rows["micro"]["f1"] == "0.8"
    assert [
        (row["study"], row["finding"], row["label"], row["reference_label"], row["sentence"]) for row in different
    ] == [("s2", "effusion", "present", "not present", "Effusion.")]


def test_another_label_store_is_joined_by_images(tmp_path):
    other = tmp_path / "other"
    rows = [dict(row) for row in ROWS[::-1]]
    rows[0]["report"] = "A mass. Effusion."
    for row in rows:
        row["study"] = f"x{row['study']}"
    other.mkdir()
    prepare("--csv", write_csv(other, rows), *COLUMNS, "--out", other / "out")
    rows, different = compared(tmp_path, other / "out", "--findings", "effusion", "mass")
    assert [rows["effusion"][name] for name in ("both", "labels_only", "reference_only", "neither")] == list("2011")
    assert rows["mass"]["f1"] == "1.0"
    assert [(row["study"], row["label"], row["reference_label"]) for row in different] == [
        ("s4", "not mentioned", "present")
    ]
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["agreement"]["out"]["studies"] == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,mass\ns1,1\n", "has no column study or image"),
        ("study,comment\ns1,1\n", "has none of the findings"),
        ("study,mass\ns9,1\n", "has none of the 4 studies; the first is 's1'"),
        ("study,mass\ns1,yes\n", "a label is 1, 0"),
    ],
)
def test_a_reference_that_fits_nothing_is_refused(tmp_path, content, message):
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        compared(tmp_path, tmp_path / "labels.csv", "--findings", "mass")
    assert not (tmp_path / "out").exists()


def test_an_agreement_of_former_labels_does_not_stay(tmp_path):
    (tmp_path / "labels.csv").write_text("study,mass\ns1,1\n")
    compared(tmp_path, tmp_path / "labels.csv")
    assert (tmp_path / "out/compare.csv").exists()
    prepare("--csv", tmp_path / "reports.csv", *COLUMNS, "--out", tmp_path / "out")
    assert not {"compare.csv", "disagreements.csv"} & {path.name for path in (tmp_path / "out").iterdir()}


def test_a_damaged_label_store_is_refused(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    np.save(other / "landmark_observation_adj_mtx.npy", np.zeros((2, 51, 3), dtype=np.int8))
    with pytest.raises(DataError, match=r"other: not a label store \(.*shape \(2, 51, 3\)"):
        compared(tmp_path, other)
