"""What the reports share: CSV, JSON, the summary of seeds."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mavl.metrics.intervals import Interval, mean_and_std
from mavl.metrics.metric import ratio
from mavl.report.tables import dump_json, plus_minus, write_rows, write_summary


def test_an_interval_takes_three_columns_and_nan_is_an_empty_cell(tmp_path):
    rows = [{"name": "a, b", "auroc": Interval(0.5, 0.25, math.nan), "n": 3}, {"name": "mean", "auroc": 1.0}]
    write_rows(rows, tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes() == (
        b'name,auroc,auroc_low,auroc_high,n\r\n"a, b",0.5,0.25,,3\r\nmean,1.0,,,\r\n'
    )


def test_json_is_strict(tmp_path):
    about = {
        "books": Path("books"),
        "epoch": np.int64(46),
        "loss": math.nan,
        "grid": np.eye(2),
        "one": Interval(1, 0, 2),
    }
    dump_json({"about": about}, tmp_path / "result.json")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads((tmp_path / "result.json").read_text(encoding="utf-8"), parse_constant=refuse)["about"] == {
        "books": "books",
        "epoch": 46,
        "loss": None,
        "grid": [[1, 0], [0, 1]],
        "one": {"value": 1, "low": 0, "high": 2},
    }


def test_mean_and_deviation_in_a_cell():
    assert plus_minus(mean_and_std([0.5, 0.7, 0.9])) == "70.0 ± 20.0"
    assert plus_minus(mean_and_std([0.5, 0.7, 0.9]), ratio) == "0.70 ± 0.20"
    assert plus_minus(mean_and_std([0.25])) == "25.0"
    assert plus_minus(mean_and_std([math.nan, None])) == "–"


def test_the_summary_has_mean_and_deviation_in_its_table_and_the_values_in_json(tmp_path):
    rows = {"edema": {"auroc": mean_and_std([0.5, 0.75])}, "hernia": {"auroc": mean_and_std([None])}}
    write_summary({"seeds": [0, 1], "rows": rows}, rows, tmp_path)
    first, second = csv.DictReader((tmp_path / "summary.csv").open())
    assert (first["name"], float(first["auroc_mean"])) == ("edema", 0.625)
    assert float(first["auroc_std"]) == pytest.approx(0.25 / math.sqrt(2))
    assert second == {"name": "hernia", "auroc_mean": "", "auroc_std": ""}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rows"]["edema"]["auroc"]["values"] == [0.5, 0.75]


def test_importing_the_report_imports_no_plotting():
    heavy = ("matplotlib", "rich", "torch", "pandas")
    code = f"import sys, mavl.report.tables; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
