"""prepare_data.py reports: from a table or Open-I's XML to what training reads."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from mavl.data.labels import LabelStore
from mavl.data.samples import read_reports
from mavl.prepare.reports.vocabulary import read_findings
from mavl.vocab import ANATOMIES, FINDINGS
from tests.support.processes import run
from tests.support.reports import COLUMNS, prepare, read_table, report, write_archive, write_csv

DATA = Path(os.environ.get("MAVL_REAL_DATA", Path(__file__).resolve().parents[4] / "shared/data"))
WRITTEN = {
    *("landmark_observation_adj_mtx.npy", "vocabulary.json", "sentences.jsonl", "statistics.csv", "statistics.png"),
    *("problems.csv", "summary.json", *(f"rad_graph_metric_{split}.json" for split in ("train", "validate", "test"))),
}
ROWS = [
    {"image": "a/1.png", "study": "s1", "report": "Left pleural effusion. No foo sign.", "split": "train"},
    {"image": "a/2.png", "study": "s1", "report": "Left pleural effusion. No foo sign.", "split": "train"},
    {"image": "a/3.png", "study": "s2", "report": "Foo sign in the right upper lobe.", "split": "valid"},
    {"image": "a/4.png", "study": "s3", "report": "Possible foo signs.", "split": "test"},
    {"image": "a/5.png", "study": "s4", "report": "", "split": "test"},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a table and what the command itself makes of it, and what the command prints."""
    folder = tmp_path_factory.mktemp("reports")
    source = ("--csv", write_csv(folder, ROWS), *COLUMNS)
    printed = run("prepare_data.py", "reports", *source, "--findings", "foo sign", "effusion", "--out", folder / "out")
    return folder, printed.stdout


def test_files_are_those_of_the_label_store(made):
    folder, printed = made
    assert {path.name for path in (folder / "out").iterdir() if path.name[0] != "."} == WRITTEN
    vocabulary = json.loads((folder / "out/vocabulary.json").read_text())
    assert vocabulary["findings"] == ["foo sign", "effusion"]
    assert vocabulary["anatomies"] == list(ANATOMIES)
    lines = (folder / "out/sentences.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        ["Left pleural effusion.", "No foo sign."],
        ["Foo sign in the right upper lobe."],
        ["Possible foo signs."],
    ]
    assert json.loads((folder / "out/rad_graph_metric_train.json").read_text()) == {
        "a/1.png": {"labels_id": 0, "view": None},
        "a/2.png": {"labels_id": 0, "view": None},
    }
    assert list(json.loads((folder / "out/rad_graph_metric_validate.json").read_text())) == ["a/3.png"]
    assert [row["kind"] for row in read_table(folder / "out/problems.csv")] == ["empty report"]
    assert "3 studies in" in printed
    assert "in no report" not in printed


def test_findings_that_no_report_states_and_reports_in_other_languages_are_named(tmp_path, capsys):
    text = "Pleuraerguss links, kein Pneumothorax, keine Infiltrate."
    table = write_csv(tmp_path, [{**row, "report": text} for row in ROWS])
    prepare("--csv", table, *COLUMNS, "--findings", "pneumothorax", "bar sign", "mass", "--out", tmp_path / "out")
    printed = capsys.readouterr()
    assert "2 findings of 3 in no report: bar sign, mass" in printed.out
    assert "4 of 4 reports with 6 words or more seem not to be English" in printed.err


def test_labels_have_findings_where_the_report_says(made):
    folder, _ = made
    labels = np.load(folder / "out/landmark_observation_adj_mtx.npy")
    assert (labels.dtype, labels.shape) == (np.int8, (3, len(ANATOMIES), 2))
    known = {
        (row, ANATOMIES[place], column): labels[row, place, column].item()
        for row, place, column in np.argwhere(labels != -1)
    }
    assert known == {
        (0, "left_pleural", 1): 1,
        (0, "unspecified", 0): 0,
        (1, "upper_right_lobe", 0): 1,
    }
    summary = json.loads((folder / "out/summary.json").read_text())
    assert [summary[name] for name in ("studies", "present", "absent", "uncertain")] == [3, 2, 1, 1]
    assert summary["images"] == {"train": 2, "validate": 1, "test": 1}
    counts = read_table(folder / "out/statistics.csv")
    assert len(counts) == 2 * len(ANATOMIES)
    [row] = [row for row in counts if (row["finding"], row["anatomy"]) == ("foo sign", "upper_right_lobe")]
    assert (row["present"], row["absent"]) == ("1", "0")


def test_a_split_that_training_lacks_is_named(tmp_path, capsys):
    prepare("--csv", write_csv(tmp_path, ROWS[:3]), *COLUMNS, "--out", tmp_path / "out")
    assert "no image" not in capsys.readouterr().out  # in test alone
    prepare("--csv", write_csv(tmp_path, ROWS[:2]), *COLUMNS, "--out", tmp_path / "out")
    assert "no image in validate, without which nothing is trained: correct that column" in capsys.readouterr().out
    prepare("--csv", write_csv(tmp_path, ROWS[:2]), *COLUMNS[:-2], "--out", tmp_path / "out")
    assert "without which nothing is trained: give --split-column" in capsys.readouterr().out


def test_training_reads_the_default_vocabulary(tmp_path):
    prepare("--csv", write_csv(tmp_path, ROWS), *COLUMNS, "--out", tmp_path / "out")
    out = tmp_path / "out"
    store = LabelStore(out / "landmark_observation_adj_mtx.npy", ["effusion"])
    assert store.vocabulary.findings == FINDINGS
    assert len(read_reports(out / "rad_graph_metric_train.json", store, tmp_path, "")) == 2
    row = store[0]
    assert [(ANATOMIES[place], value) for place, value in enumerate(row[:, 0].tolist()) if value != -1] == [
        ("left_pleural", 1)
    ]


def test_findings_come_from_books_and_files(tmp_path):
    (tmp_path / "book.json").write_text(json.dumps({"gas gangrene": "Gas in soft tissue.", "effusion": "Fluid."}))
    (tmp_path / "names.txt").write_text("foo sign\n\nbar\n")
    table = write_csv(tmp_path, ROWS)
    source = ("--csv", table, *COLUMNS, "--out", tmp_path / "out")
    prepare(*source, "--findings", tmp_path / "names.txt", "--books", tmp_path / "book.json")
    assert json.loads((tmp_path / "out/vocabulary.json").read_text())["findings"] == [
        *("foo sign", "bar", "gas gangrene", "effusion"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--image-column", "image"), "--image-column and --text-column name the columns"),
        ((*COLUMNS, "--compare", "none"), "none: expected a folder with"),
        ((*COLUMNS, "--findings", "Mass", "mass"), "'Mass' and 'mass' are one name"),
        ((*COLUMNS, "--books", "none.json"), "none.json: No such file"),
    ],
)
def test_a_failed_run_leaves_the_former_files(made, arguments, message):
    folder, _ = made
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    with pytest.raises(ValueError, match=message):
        prepare("--csv", folder / "reports.csv", *arguments, "--out", folder / "out")
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before


def test_labels_that_another_hand_wrote_are_not_written_over(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "landmark_observation_adj_mtx.npy").write_bytes(b"a long download")
    with pytest.raises(ValueError, match="was not written by this command"):
        prepare("--csv", write_csv(tmp_path, ROWS), *COLUMNS, "--out", out)
    assert [path.name for path in out.iterdir()] == ["landmark_observation_adj_mtx.npy"]


def test_open_i_as_delivered(tmp_path):
    archive = write_archive(tmp_path / "NLMCXR_reports.tgz", {f"x/{n}.xml": report(f"CXR{n}") for n in range(1, 30)})
    prepare("--openi", archive, "--findings", "nodule", "edema", "--out", tmp_path / "out", "--compare", archive)
    entries = {}
    for split in ("train", "validate", "test"):
        entries |= json.loads((tmp_path / f"out/rad_graph_metric_{split}.json").read_text())
    assert len(entries) == 58
    assert entries["CXR2_IM-0001-1001.png"] == {"labels_id": 1, "view": None}
    rows = {(row["reference"], row["finding"]): row for row in read_table(tmp_path / "out/compare.csv")}
    assert rows["major", "nodule"]["f1"] == rows["automatic", "nodule"]["f1"] == "1.0"
    assert ("major", "edema") not in rows  # no coder named it


FOURTEEN = (
    *("atelectasis", "cardiomegaly", "effusion", "infiltrate", "mass", "nodule", "pneumonia", "pneumothorax"),
    *("edema", "emphysema", "fibrosis", "pleural thickening", "hernia", "fracture"),
)


@pytest.mark.skipif(not (DATA / "openi").is_dir(), reason="needs the reports of Open-I")
def test_real_reports_agree_with_their_coders(tmp_path):
    """The floor of docs/reports.md: 14 classes, against the terms that people gave to 1,965 reports."""
    source = DATA / "openi"
    prepare("--openi", source, "--findings", *FOURTEEN, "--out", tmp_path, "--compare", source)
    agreement = json.loads((tmp_path / "summary.json").read_text())["agreement"]
    assert agreement["major"]["studies"] == 1965
    assert agreement["major"]["micro_f1"] > 0.94
    assert agreement["major"]["macro_f1"] > 0.92
    assert agreement["automatic"]["micro_f1"] > 0.8


@pytest.mark.skipif(not (DATA / "nih").is_dir(), reason="needs the sample of ChestX-ray14")
def test_labels_written_as_sentences_are_read_back(tmp_path):
    """The finding labels of NIH films, as reports."""
    rows = read_table(DATA / "nih/train.csv")
    names = list(rows[0])[3:]
    for row in rows:
        present, absent = ([name for name in names if row[name] == value] for value in "10")
        row["report"] = (
            " ".join(f"There is {name}." for name in present) + f" No {', '.join(absent[:-1])} or {absent[-1]}."
        )
    table = write_csv(tmp_path, rows)
    columns = ("--image-column", "img_path", "--text-column", "report")
    prepare("--csv", table, *columns, "--findings", *names, "--out", tmp_path / "out", "--compare", table)
    labels = np.load(tmp_path / "out/landmark_observation_adj_mtx.npy").max(axis=1)
    assert np.array_equal(labels, [[int(row[name]) for name in names] for row in rows])
    rows = read_table(tmp_path / "out/compare.csv")
    assert {row["f1"] for row in rows} == {"1.0"}
    assert read_table(tmp_path / "out/disagreements.csv") == []


def test_two_names_of_one_finding_are_kept_with_a_note(capsys):
    assert read_findings(["effusion", "mass", "pleural effusion"], []) == ("effusion", "mass", "pleural effusion")
    assert capsys.readouterr().err == (
        "note: 'effusion' and 'pleural effusion' are one finding: a mention of one of them is none of the other\n"
    )
    assert read_findings([], []) == FINDINGS
    assert capsys.readouterr().err == ""
