"""A metric that is declared in METRICS appears in the terminal, the CSV, the JSON and the page."""

import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console

from mavl.data.benchmarks.splits import Split
from mavl.metrics import classification, grounding, segmentation
from mavl.metrics.classification import evaluate
from mavl.metrics.metric import Metric, ratio
from mavl.metrics.segmentation import PixelCounts, summarize
from mavl.report import classification as report
from mavl.report import segmentation as segmentation_report
from mavl.report.classification_page import write_classification_page
from tests.support.classification_results import ABOUT, FINDINGS, LABELS, SCORES
from tests.support.grounding_results import write_all
from tests.support.pages import check_self_contained


@pytest.fixture(autouse=True)
def intervals_of_few_cases(monkeypatch):
    """A bootstrap interval of any number of images."""
    monkeypatch.setattr("mavl.metrics.intervals.FEWEST", 1)


def test_of_classification(monkeypatch, tmp_path):
    # Positives over negatives: edema has 3 of 6, hernia is undefined.
    odds = Metric(
        "odds",
        "odds",
        "odds of presence",
        lambda at: (at.end.positives / at.end.negatives)[:, 0],
        format=ratio,
        fewest=1,
    )
    monkeypatch.setitem(classification.METRICS, "odds", odds)
    # hernia is absent everywhere, so the mean is that of edema
    evaluation = evaluate(LABELS, SCORES, FINDINGS, thresholds=[0.5, 0.5], threshold_source="validation", resamples=30)
    console = Console(width=100, file=io.StringIO())
    console.print(report.table(evaluation, "Films"))
    report.write_csv(evaluation, tmp_path / "results.csv")
    report.write_json(evaluation, tmp_path / "results.json", {})
    (tmp_path / "config.yaml").touch()
    split = Split("test", FINDINGS, [tmp_path / f"{i}.png" for i in range(7)], LABELS, None, [""] * 7, None)
    monkeypatch.setattr("mavl.report.classification_page.most_confident", lambda *arguments: {})
    page = check_self_contained(write_classification_page(tmp_path, evaluation, ABOUT, split, SCORES).read_text())

    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert (lines[1][-4:], lines[3][0], lines[3][-4]) == (["odds", "acc.", "Se", "Sp"], "edema", "1.00")
    assert "odds: odds of presence" in console.file.getvalue()
    rows = list(csv.DictReader((tmp_path / "results.csv").open()))
    assert [row["odds"] for row in rows] == ["1.0", "", "1.0"]
    assert float(rows[0]["odds_low"]) < 1 < float(rows[0]["odds_high"])
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["means"]["odds"]["value"] == written["classes"][0]["odds"]["value"] == 1
    [heading, edema] = (row for row in page.rows if row[0] in ("finding", "edema"))
    assert edema[heading.index("odds")].startswith("1.00 ")
    assert report.read_results(tmp_path)[1].means["odds"] == evaluation.means["odds"]


def test_of_grounding(monkeypatch, tmp_path):
    share = Metric("share", "share", "share of the mask", lambda image: image.mask.mean(), note="mask in the image")
    area = Metric("area", "area", "predicted share", lambda at: at.predicted / 4, needs_threshold=True)
    monkeypatch.setitem(grounding.METRICS, "share", share)
    monkeypatch.setitem(grounding.METRICS, "area", area)
    written = write_all(tmp_path)

    row = next(line for line in written["terminal"].splitlines() if line.startswith("effusion")).split()
    assert (row[6], row[-1]) == ("50.0", "50.0")
    assert "share: mask in the image" in written["terminal"]
    first = next(csv.DictReader(io.StringIO(written["csv"])))
    assert (first["share"], first["share_high"], first["area"]) == ("0.5", "0.5", "0.5")
    means = json.loads(written["json"])["findings"]["effusion"]["model"]["means"]
    assert means["share"] == means["area"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    heading, *rows = (row for row in check_self_contained(written["page"]).rows if row[0] in ("finding", "effusion"))
    assert rows[0][heading.index("share")] == rows[0][heading.index("area")] == "50.0 50.0–50.0"


def test_of_segmentation(monkeypatch, tmp_path):
    missed = Metric(
        "missed", "missed", "missed masks", lambda counts: np.where(counts.true > 0, counts.both == 0, np.nan)
    )
    monkeypatch.setitem(segmentation.METRICS, "missed", missed)
    counts = PixelCounts(np.array([3, 0, 2]), np.array([4, 5, 0]), np.array([2, 0, 0]))
    results = {"U-Net": summarize(counts, resamples=0)}
    console = Console(width=100, file=io.StringIO())
    console.print(segmentation_report.table(results, "Films"))
    segmentation_report.write_csv(results, tmp_path / "results.csv")
    segmentation_report.write_json(results, tmp_path / "results.json", {})

    assert next(line for line in console.file.getvalue().splitlines() if "U-Net" in line).split()[-1] == "50.0"
    assert next(csv.DictReader((tmp_path / "results.csv").open()))["missed"] == "0.5"
    assert segmentation_report.read_results(tmp_path)[1]["U-Net"].means["missed"].value == 0.5
