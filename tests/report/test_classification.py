"""What the table and the files show of an evaluation."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mavl.data.benchmarks.splits import Split
from mavl.metrics.classification import evaluate
from mavl.report import classification as report

NAMES = ["edema", "hernia", "mass [round]"]
LABELS = np.array([[1, 0, 1], [0, 0, 0], [1, 0, -1], [0, 0, 1], [0, 0, 0]])
SCORES = np.array([[0.9, 0.5, 0.4], [0.8, 0.5, 0.3], [0.7, 0.5, 0.1], [0.7, 0.5, 0.2], [0.2, 0.5, 0.1]])


@pytest.fixture(scope="module")
def evaluation():
    """edema: AUROC 0.75, F1 2/3 at 0.7; hernia has no positive; mass: 3 of 4 pairs right, F1 0.8 at 0.2, n 4."""
    return evaluate(LABELS, SCORES, NAMES, threshold_source="test", resamples=50)


def printed(evaluation, width=80, **kwargs):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(report.table(evaluation, "ChestX-ray14 [released]", **kwargs))
    return console.export_text()


class TestTable:
    def test_rows_hold_the_numbers_in_percent(self, evaluation):
        lines = {line.split()[0]: line.split() for line in printed(evaluation).splitlines() if line.strip()}
        auroc = evaluation.classes[0].metrics["auroc"]
        bounds = f"{100 * auroc.low:.1f}–{100 * auroc.high:.1f}"
        rest = ["75.0", "66.7", "50.0", "100.0", "60.0", "100.0", "33.3"]  # AP, F1, P, R, acc., Se, Sp
        assert lines["edema"] == ["edema", "2", "5", "75.0", bounds, *rest]
        assert lines["mass"][2:5] == ["2", "4", "75.0"]
        assert lines["mean"][1] == "75.0"
        assert lines["mean"][4] == "73.3"  # (2/3 + 4/5) / 2; P and R have no mean
        assert len(lines["mean"]) == 8

    def test_an_undefined_class_keeps_its_row_and_is_explained(self, evaluation):
        text = printed(evaluation)
        row = next(line for line in text.splitlines() if line.startswith("hernia"))
        assert row.split() == ["hernia", "0", "5", *"––––––––"]
        assert "Mean over 2 of 3 classes." in text
        assert "Undefined without both labels: hernia." in text

    def test_it_says_how_the_numbers_came_about(self, evaluation):
        text = printed(evaluation, caption="MAVL, supervised head")
        assert "ChestX-ray14 [released]" in text
        assert "MAVL, supervised head" in text
        assert "50 resamples of 5 images" in text
        assert "score ≥ a threshold chosen on the test images themselves" in text
        sound = evaluate(
            LABELS, SCORES, NAMES, thresholds=[0.5, 0.5, np.nan], threshold_source="validation", strict=True,
            groups=list("ppqrs"), resamples=50,
        )  # fmt: skip
        text = printed(sound)
        assert "50 resamples of 4 groups of images" in text
        assert "score > a threshold chosen on validation data" in text
        assert "Without a threshold and therefore without acc., Se, Sp: mass [round]." in text

    def test_without_any_threshold_or_resample(self):
        text = printed(evaluate(LABELS[:, :1], SCORES[:, :1], NAMES[:1], resamples=0))
        assert "Without a threshold and therefore without acc., Se, Sp: all classes." in " ".join(text.split())
        assert "bootstrap" not in text
        assert "mean" not in [line.split()[0] for line in text.splitlines() if line.strip()]  # it would repeat the row

    def test_eighty_columns_hold_a_large_dataset(self):
        names = ["atelectasis", "tail_abnorm_obs"]
        many = evaluate(np.resize([1, 0, 0], (25_596, 2)), np.zeros((25_596, 2)), names, resamples=2)
        lines = printed(many, width=80).splitlines()
        assert "…" not in "".join(lines)
        assert any(line.startswith("tail_abnorm_obs 8532 25596  50.0") for line in lines)


class TestFiles:
    def test_csv_has_every_number_and_empty_cells(self, evaluation, tmp_path):
        report.write_csv(evaluation, tmp_path / "result.csv")
        with (tmp_path / "result.csv").open(encoding="utf-8", newline="") as file:
            edema, hernia, mass, mean = csv.DictReader(file)
        assert float(edema["best_f1"]) == 2 / 3
        assert float(edema["auroc_low"]) == evaluation.classes[0].metrics["auroc"].low
        assert (mass["name"], mass["n"], mass["positives"]) == ("mass [round]", "4", "2")
        assert (hernia["n"], hernia["positives"], hernia["auroc"], hernia["threshold"]) == ("5", "0", "", "")
        assert (mean["name"], float(mean["auroc"]), mean["n"]) == ("mean", 0.75, "")
        assert list(edema) == [
            *("name", "n", "positives", "auroc", "auroc_low", "auroc_high"),
            *("average_precision", "average_precision_low", "average_precision_high"),
            *("best_f1", "best_f1_low", "best_f1_high", "precision", "recall", "threshold", "threshold_source"),
            *("accuracy", "accuracy_low", "accuracy_high", "sensitivity", "sensitivity_low", "sensitivity_high"),
            *("specificity", "specificity_low", "specificity_high"),
        ]

    def test_json_has_the_metrics_of_a_class_as_its_keys(self, evaluation, tmp_path):
        report.write_json(evaluation, tmp_path / "result.json", {"protocol": "released"})
        read = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
        assert read["about"] == {"protocol": "released"}
        assert (read["undefined"], read["resamples"], read["seed"]) == (["hernia"], 50, 0)
        edema, hernia, _ = read["classes"]
        assert hernia["auroc"] == {"value": None, "low": None, "high": None}
        assert (edema["best_f1"]["value"], edema["precision"], edema["threshold_source"]) == (2 / 3, 0.5, "test")
        assert read["means"]["auroc"]["value"] == 0.75
        assert read["without_threshold"] == []

    def test_results_are_read_back(self, evaluation, tmp_path):
        report.write_json(evaluation, tmp_path / "results.json", {"protocol": "released"})
        about, read = report.read_results(tmp_path)
        assert about == {"protocol": "released"}
        assert repr(read) == repr(evaluation)  # equal but for NaN, which equals nothing

    def test_scores_of_every_image(self, tmp_path):
        split = Split("test", ("edema",), [Path("a.png"), Path("b.png")], LABELS[:2, :1], list("pq"), list("12"), None)
        report.write_scores(tmp_path / "scores.csv", split, SCORES[:2, :1])
        assert (tmp_path / "scores.csv").read_text() == (
            "path,row,group,edema_label,edema_score\na.png,1,p,1,0.9\nb.png,2,q,0,0.8\n"
        )


class TestSeeds:
    @pytest.fixture
    def folders(self, tmp_path):
        """Runs of two seeds of one finding: AUROC 1/2 and 1 with the same threshold."""
        folders = {}
        for seed, scores in ((0, [0.9, 0.1, 0.8, 0.2]), (1, [0.9, 0.8, 0.2, 0.1])):
            found = evaluate(
                np.array([[1], [1], [0], [0]]), np.array(scores)[:, None], ["edema"], thresholds=[0.5],
                threshold_source="validation", resamples=0,
            )  # fmt: skip
            about = {"title": "Films", "train": {"images": 10 + seed}, "started_from": ["nothing"], "data_pct": 1.0}
            about |= {"thresholds": "best F1 on 5 images", "baseline": dict.fromkeys(found.means, 0.25)}
            folders[seed] = tmp_path / f"seed_{seed}"
            folders[seed].mkdir()
            report.write_json(found, folders[seed] / "results.json", about)
        return folders

    def test_mean_over_seeds(self, folders, tmp_path, capsys):
        report.print_summary(folders, tmp_path)
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["train_images"] == [10, 11]
        auroc = {row: figures["auroc"]["values"] for row, figures in summary["rows"].items()}
        assert auroc == {"edema": [0.5, 1.0], "mean": [0.5, 1.0], "prevalence": [0.25, 0.25]}
        rows = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["mean", "75.0", "±", "35.4"] in [row[:4] for row in rows]  # 1/2 / sqrt(2)
        written = csv.DictReader((tmp_path / "summary.csv").open())
        assert [row["accuracy_mean"] for row in written] == ["0.75", "0.75", "0.25"]

    def test_one_seed_is_printed_with_its_baseline(self, folders, tmp_path, capsys):
        report.print_summary({1: folders[1]}, tmp_path)
        text = " ".join(capsys.readouterr().out.split())
        assert "Films (test), fine-tuned on 11 images" in text
        assert "Baseline with the share of each finding in training as its score: AUROC 25.0, AP 25.0" in text
        assert str(folders[1]) in text.replace(" ", "")

    def test_an_undefined_baseline_is_a_dash(self):
        """JSON has null for NaN: a test split in which no finding has both labels."""
        assert report.baseline_line({"baseline": {"auroc": None, "accuracy": None}}).endswith("AUROC –, acc. –.")
