"""What the reports share: CSV, JSON, the summary of seeds."""

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mavl.files import NotJSONError
from mavl.metrics.grounding import METRICS
from mavl.metrics.intervals import Interval
from mavl.report.tables import (
    add_row,
    dump_json,
    mean_and_std,
    new_table,
    over_seeds,
    plus_minus,
    read_json,
    show_seeds,
    write_rows,
)


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


def test_json_is_read_back_with_its_intervals(tmp_path):
    content = {"about": {"seed": None}, "means": {"auroc": Interval(0.5, 0.25, 1.0), "dice": Interval(math.nan)}}
    dump_json(content, tmp_path / "result.json")
    assert repr(read_json(tmp_path / "result.json")) == repr(content)  # equal but for NaN, which equals nothing


def test_mean_and_deviation_over_seeds():
    found = mean_and_std([0.5, Interval(0.7), 0.9])
    assert found == {"mean": pytest.approx(0.7), "std": pytest.approx(0.2), "values": [0.5, 0.7, 0.9]}
    one = mean_and_std([0.25, None, math.nan])  # undefined values are left out
    assert (one["mean"], one["values"][0]) == (0.25, 0.25)
    assert math.isnan(one["std"])
    assert math.isnan(mean_and_std([None])["mean"])


def test_mean_and_deviation_in_a_cell():
    assert plus_minus(mean_and_std([0.5, 0.7, 0.9]), METRICS["dice"]) == "70.0 ± 20.0"
    assert plus_minus(mean_and_std([0.5, 0.7, 0.9]), METRICS["contrast_to_noise"]) == "0.70 ± 0.20"
    assert plus_minus(mean_and_std([0.25]), METRICS["dice"]) == "25.0"
    assert plus_minus(mean_and_std([math.nan, None]), METRICS["dice"]) == "–"


def test_the_summary_has_mean_and_deviation_in_its_table_and_the_values_in_json(tmp_path, capsys):
    seeds = [{"edema": {"dice": Interval(value), "iou": 0.5}, "hernia": {"dice": None}} for value in (0.5, 0.75)]
    del seeds[1]["edema"]["iou"]  # a metric that one of the seeds lacks
    rows = over_seeds(seeds)
    headings = ("Films", "finding")
    show_seeds({"seeds": [0, 1], "rows": rows}, rows, [METRICS["dice"]], tmp_path, headings=headings, styles={})
    assert "edema    62.5 ± 17.7" in capsys.readouterr().out
    first, second = csv.DictReader((tmp_path / "summary.csv").open())
    assert (first["name"], float(first["dice_mean"])) == ("edema", 0.625)
    assert float(first["dice_std"]) == pytest.approx(0.25 / math.sqrt(2))
    assert second == {"name": "hernia", "dice_mean": "", "dice_std": ""}
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rows"]["edema"]["dice"]["values"] == [0.5, 0.75]


def test_a_result_with_a_repeated_name_is_refused(tmp_path):
    (tmp_path / "results.json").write_text('{"AUROC": 1, "AUROC": 2}')
    with pytest.raises(NotJSONError, match=r"results\.json: 'AUROC' is twice in one object"):
        read_json(tmp_path / "results.json")


def test_names_are_text_in_every_table_and_file(tmp_path):
    names = ["=1+1", "[/b] a", "b\x1b[31m", "$x$"]
    table = new_table("[/b] title\x07", ["[/i]", "[red]n"], ["[/b] note"])
    for name in names:
        add_row(table, name, "[/b]")
    console = Console(width=80, file=io.StringIO())
    console.print(table)
    shown = console.file.getvalue()
    for text in ("[/b] title\\x07", "[/i]", "[red]n", "[/b] note", "=1+1", "[/b] a", "b\\x1b[31m", "$x$"):
        assert text in shown
    assert not {"\x1b", "\x07"} & set(shown)
    write_rows([{"name": name, "-value": -0.5, "auroc": Interval(-0.25)} for name in names], tmp_path / "a.csv")
    rows = list(csv.reader((tmp_path / "a.csv").open(newline="")))
    assert rows[0] == ["name", "'-value", "auroc", "auroc_low", "auroc_high"]
    assert rows[1] == ["'=1+1", "-0.5", "-0.25", "", ""]
    assert rows[3][0] == "b\\x1b[31m"


def test_importing_the_report_imports_no_plotting():
    heavy = ("matplotlib", "rich", "torch", "pandas")
    code = f"import sys, mavl.report.tables; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
