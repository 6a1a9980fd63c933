"""What benchmarks/gpu.sh writes: a table from lines of figures, and a line for a stage that failed or had no time."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmarks.gpu.__main__ import Runner
from benchmarks.gpu.table import table
from tests.support.processes import ROOT, descendants, none_left

CASE = {"stage": "training", "what": "case", "encoder": "ResNet-50", "batch": 124, "trained": "whole"}
CASE |= {"precision": "bf16", "compiled": False, "recomputed": False, "variant": ""}


def test_a_table_of_the_figures_so_far(tmp_path):
    """2,000 images/s of 40 GFLOP are 80 TFLOP/s, a tenth of 800; 60 × 377,110 images take 3.1 hours at that rate."""
    rows = [
        {"stage": "rates", "what": "matrix", "precision": "bf16", "tflops": 800.0},
        CASE | {"images_per_second": 2000.0, "gflop_per_image": 40.0, "peak_gib": 9.2},
        CASE | {"compiled": True, "images_per_second": 3000.0, "peak_gib": 9.0},
        CASE | {"batch": 512, "error": "OutOfMemoryError: CUDA out of memory."},
    ]
    figures = tmp_path / "figures.jsonl"
    figures.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = table(figures).splitlines()
    assert "| ResNet-50 | whole | bf16 | 124 | 2,000 | 40.0 | 10.0% | 9.2 | 3.1 h |" in lines
    assert "| ResNet-50 | whole, compiled | bf16 | 124 | 3,000 | 40.0 | 15.0% | 9.0 | 2.1 h |" in lines
    assert "| ResNet-50 | whole | bf16 | 512 | OutOfMemoryError: CUDA out of memory. |  |  |  |  |" in lines


def test_a_stage_that_fails_or_has_no_time_is_a_line_and_the_others_go_on(tmp_path, capfd):
    figures = tmp_path / "figures.jsonl"
    Runner(figures, small=True, end=time.monotonic() + 60).run(["no such stage"], 50)
    assert "KeyError: 'no such stage'" in capfd.readouterr().out
    Runner(figures, small=True, end=time.monotonic() + 5).run(["rates"], 50)
    lines = [line for line in table(figures).splitlines() if line]
    assert "stage no such stage: exit status 1" in lines
    assert lines[-1] == "stage rates: left out: no time was left"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_stage_outlives_a_run_that_is_ended(tmp_path, number, code):
    line = [sys.executable, "-m", "benchmarks.gpu", "--small", "--only", "rates", "--out", str(tmp_path / "figures")]
    process = subprocess.Popen(line, cwd=ROOT, env=os.environ | {"MARK": str(tmp_path)}, stdout=subprocess.PIPE)
    while len(descendants(f"MARK={tmp_path}")) < 2:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert none_left(f"MARK={tmp_path}")


def test_figures_of_another_run_are_not_overwritten(tmp_path):
    (tmp_path / "figures.jsonl").write_text("{}\n")
    line = [sys.executable, "-m", "benchmarks.gpu", "--only", "rates", "--out", str(tmp_path)]
    refused = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert f"{tmp_path / 'figures.jsonl'} holds figures of another run: delete it" in refused.stderr
