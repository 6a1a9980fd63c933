"""The example job script under stand-ins for SLURM's programs: signalled, queued again, ended with the same weights."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import ROOT, different, environment, none_left
from tests.support.trainings import write_training

SRUN = """#!{python}
# Starts the tasks, passes signals on to them, and exits with the largest code, as srun does.
import os, signal, subprocess, sys

line = sys.argv[2:]  # without its own option
tasks = [
    subprocess.Popen(line, env=os.environ | {{"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)}})
    for task in range(int(os.environ["SLURM_NTASKS"]))
]
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, _: [task.send_signal(number) for task in tasks])
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> {folder}/requeued; fi
"""


@pytest.fixture
def job(tmp_path):
    """job() -> a started job of two tasks, of the same training."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "srun").write_text(SRUN.format(python=sys.executable))
    (programs / "scontrol").write_text(SCONTROL.format(folder=tmp_path))
    (programs / "python").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    config = write_training("pretraining", tmp_path, epochs=8, workers=1)

    def start(folder: Path) -> subprocess.Popen:
        slurm = {"SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "here", "MARK": str(tmp_path)}
        slurm |= {"SLURM_JOB_ID": str(random.randrange(10**5)), "PATH": f"{programs}:{os.environ['PATH']}"}
        arguments = ["--config", config, "--output_dir", folder, "--bs", "2"]
        line = ["bash", ROOT / "examples/slurm/train.sbatch", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(list(map(str, line)), cwd=ROOT, env=environment() | slurm, **pipes)

    return start


@pytest.mark.slow
def test_a_job_that_is_signalled_saves_and_goes_on(job, tmp_path):
    whole = job(tmp_path / "whole")
    assert whole.wait(timeout=300) == 0, whole.stderr.read()[-3000:]
    first = job(tmp_path / "run")
    while not list((tmp_path / "run").glob("checkpoints/step_*")) and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGUSR1)  # to the script alone, as --signal=B:USR1@120 does
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 75, errors[-3000:]
    [line] = [line for line in errors.splitlines() if "stopped by" in line]
    assert line.startswith("stopped by SIGUSR1 after step ")
    assert "Traceback" not in errors
    assert (tmp_path / "requeued").read_text().startswith("requeue ")
    second = job(tmp_path / "run")
    said, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors[-3000:]
    assert "resumed from" in said
    assert different(tmp_path / "whole", tmp_path / "run") == []
    assert len((tmp_path / "requeued").read_text().splitlines()) == 1
    assert none_left(f"MARK={tmp_path}")
