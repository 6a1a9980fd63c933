"""What the table, the files and the plots show of an evaluation."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mavl.metrics.classification import METRICS, evaluate
from mavl.report import tables as report

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
        lines = {line.split("  ")[0]: line.split() for line in printed(evaluation).splitlines() if line}
        bounds = f"{100 * evaluation.classes[0].auroc.low:.1f}–{100 * evaluation.classes[0].auroc.high:.1f}"
        assert lines["edema"][1:] == ["2", "5", "75.0", bounds, "75.0", "66.7", "50/100", "60.0", "100/33"]
        assert lines["mass [round]"][2:5] == ["2", "4", "75.0"]
        assert lines["mean"][1] == "75.0"
        assert lines["mean"][4] == "73.3"  # (2/3 + 4/5) / 2

    def test_an_undefined_class_keeps_its_row_and_is_explained(self, evaluation):
        text = printed(evaluation)
        row = next(line for line in text.splitlines() if line.startswith("hernia"))
        assert row.split() == ["hernia", "0", "5", "–", "undefined", *"–––––"]
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
        assert "No threshold, hence no acc., Se and Sp: mass [round]." in text

    def test_without_any_threshold_or_resample(self):
        text = printed(evaluate(LABELS[:, :1], SCORES[:, :1], NAMES[:1], resamples=0))
        assert "No threshold, hence no acc., Se and Sp: all classes." in text
        assert "bootstrap" not in text
        assert "mean" not in text  # of one class it would repeat the row

    def test_eighty_columns_hold_a_large_dataset(self):
        names = ["atelectasis", "tail_abnorm_obs"]
        many = evaluate(np.resize([1, 0, 0], (25_596, 2)), np.zeros((25_596, 2)), names, resamples=2)
        lines = printed(many, width=80).splitlines()
        assert "…" not in "".join(lines)
        assert any(line.startswith("tail_abnorm_obs  8532  25596   50.0") for line in lines)


class TestFiles:
    def test_csv_has_every_number_and_empty_cells(self, evaluation, tmp_path):
        report.write_csv(evaluation, tmp_path / "result.csv")
        with (tmp_path / "result.csv").open(encoding="utf-8", newline="") as file:
            edema, hernia, mass, mean = csv.DictReader(file)
        assert float(edema["best_f1"]) == 2 / 3
        assert float(edema["auroc_low"]) == evaluation.classes[0].auroc.low
        assert (mass["name"], mass["n"], mass["positives"]) == ("mass [round]", "4", "2")
        assert (hernia["n"], hernia["positives"], hernia["auroc"], hernia["threshold"]) == ("5", "0", "", "")
        assert (mean["name"], float(mean["auroc"]), mean["n"]) == ("mean", 0.75, "")
        assert {f"{metric}_high" for metric in METRICS} <= mean.keys()

    def test_json_is_strict_and_says_what_it_is_about(self, evaluation, tmp_path):
        about = {"protocol": "released", "books": Path("books"), "epoch": np.int64(46), "loss": float("nan")}
        report.write_json(evaluation, tmp_path / "result.json", about)

        def refuse(constant):
            raise AssertionError(f"{constant} is not JSON")

        read = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"), parse_constant=refuse)
        assert read["about"] == {"protocol": "released", "books": "books", "epoch": 46, "loss": None}
        assert (read["undefined"], read["resamples"], read["seed"]) == (["hernia"], 50, 0)
        assert read["classes"][1]["auroc"] == {"value": None, "low": None, "high": None}
        assert read["classes"][0]["best_f1"]["value"] == 2 / 3
        assert read["means"]["auroc"]["value"] == 0.75


class TestPlots:
    @pytest.fixture
    def axes(self, monkeypatch):
        """The axes of the plots that plot_curves makes, in order."""
        made, make = [], report._axes
        monkeypatch.setattr(report, "_axes", lambda *labels: made.append(make(*labels)) or made[-1])
        return made

    def entries(self, axes):
        return [text.get_text().replace("\u2007", "") for text in axes.get_legend().get_texts()]

    def test_curves_are_named_with_their_areas(self, evaluation, axes, tmp_path):
        report.plot_curves(LABELS, SCORES, NAMES, evaluation, tmp_path / "roc.png", tmp_path / "pr.svg")
        roc, precision_recall = axes
        assert [entry.split(" ")[0] for entry in self.entries(roc)] == ["75.0", "75.0", "75.0", "undefined:"]
        assert [entry.split("  ")[-1] for entry in self.entries(roc)[:3]] == ["mean of 2", "edema", "mass [round]"]
        edema = next(line for line in roc.lines if "edema" in line.get_label())
        assert np.trapezoid(edema.get_ydata(), edema.get_xdata()) == 0.75
        edema = next(line for line in precision_recall.lines if "edema" in line.get_label())
        assert np.trapezoid(edema.get_ydata(), edema.get_xdata()) == evaluation.classes[0].average_precision.value
        prevalences = {line.get_ydata()[0] for line in precision_recall.lines if line.get_linestyle() == ":"}
        assert prevalences == {2 / 5, 2 / 4}
        with Image.open(tmp_path / "roc.png") as image:
            assert min(image.size) > 600
        assert (tmp_path / "pr.svg").read_text(encoding="utf-8").startswith("<?xml")

    def test_of_many_classes_only_the_best_and_the_worst_are_named(self, axes, tmp_path):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, (200, 60))
        scores = labels * np.linspace(0, 3, 60) + rng.normal(size=(200, 60))
        names = [f"c{i}" for i in range(60)]
        many = evaluate(labels, scores, names, resamples=0)
        report.plot_curves(labels, scores, names, many, tmp_path / "roc.png", tmp_path / "pr.png")
        ranked = [result.name for result in sorted(many.classes, key=lambda result: -result.auroc.value)]
        named = [entry.split("  ")[-1] for entry in self.entries(axes[0])]
        assert named == ["mean of 60", *ranked[:5], "(50 between)", *ranked[-5:]]
        mean = axes[0].lines[1]
        area = np.trapezoid(mean.get_ydata(), mean.get_xdata())
        assert area == pytest.approx(many.means["auroc"].value, abs=2e-3)

    def test_nothing_defined_still_gives_plots(self, axes, tmp_path):
        blank = evaluate(LABELS * 0, SCORES, NAMES, resamples=0)
        report.plot_curves(LABELS * 0, SCORES, NAMES, blank, tmp_path / "roc.png", tmp_path / "pr.png")
        assert self.entries(axes[0]) == ["undefined: edema, hernia, mass [round]"]
        assert (tmp_path / "pr.png").exists()

    def test_names_must_be_those_of_the_evaluation(self, evaluation, tmp_path):
        with pytest.raises(ValueError, match=r"the evaluation is of edema, hernia, mass \[round\], not of a, b, c"):
            report.plot_curves(LABELS, SCORES, "abc", evaluation, tmp_path / "roc.png", tmp_path / "pr.png")


def test_importing_the_report_imports_no_plotting():
    heavy = ("matplotlib", "rich", "torch", "pandas")
    code = f"import sys, mavl.report.tables; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
