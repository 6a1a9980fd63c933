"""Two processes that a scheduler signals, or of which one is lost, end with the weights of an undisturbed run.

The example job script runs under stand-ins for SLURM's programs, as two nodes with a task each.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.processes import ROOT, descendants, different, environment, none_left
from tests.support.trainings import write_training

SRUN = """#!{python}
# Starts the tasks, passes signals on to them, and exits with the largest code, as srun does.
import os, signal, subprocess, sys

line = sys.argv[3:]  # without its own options
tasks = [
    subprocess.Popen(line, env=os.environ | {{"SLURM_PROCID": str(task), "SLURM_LOCALID": "0"}})
    for task in range(int(os.environ["SLURM_NTASKS"]))
]
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, _: [task.send_signal(number) for task in tasks])
codes = [task.wait() for task in tasks]
sys.exit(max(code if code >= 0 else 128 - code for code in codes))
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> {folder}/requeued; fi
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    return write_training("pretraining", tmp_path_factory.mktemp("config"), epochs=5, workers=1)


@pytest.fixture(scope="module")
def job(config):
    """job(folder, mark) -> a started job of two tasks, of the same training; requeues are lines of mark/requeued."""

    def start(folder: Path, mark: Path) -> subprocess.Popen:
        programs = mark / "programs"
        if not programs.exists():
            programs.mkdir()
            (programs / "srun").write_text(SRUN.format(python=sys.executable))
            (programs / "scontrol").write_text(SCONTROL.format(folder=mark))
            (programs / "python").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
            for program in programs.iterdir():
                program.chmod(0o755)
        slurm = {"SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "here", "MARK": str(mark)}
        slurm |= {"SLURM_JOB_ID": str(random.randrange(10**5)), "PATH": f"{programs}:{os.environ['PATH']}"}
        arguments = ["--config", config, "--output_dir", folder, "--bs", "2"]
        return begin(["bash", ROOT / "examples/slurm/train.sbatch", *arguments], slurm)

    return start


def begin(line: list, variables: dict[str, str]) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, line)), cwd=ROOT, env=environment() | variables, **pipes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, job) -> Path:
    """The run folder of an undisturbed job."""
    folder = tmp_path_factory.mktemp("whole")
    process = job(folder / "run", folder)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return folder / "run"


def wait_for_a_checkpoint(run: Path, process: subprocess.Popen) -> None:
    while not list(run.glob("checkpoints/step_*")) and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.slow
def test_a_job_that_is_signalled_saves_and_goes_on(job, whole, tmp_path):
    first = job(tmp_path / "run", tmp_path)
    wait_for_a_checkpoint(tmp_path / "run", first)
    first.send_signal(signal.SIGUSR1)  # to the script alone, as --signal=B:USR1@120 does
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 75, errors[-3000:]
    [line] = [line for line in errors.splitlines() if "stopped by" in line]
    assert line.startswith("stopped by SIGUSR1 after step ")
    assert "Traceback" not in errors
    assert (tmp_path / "requeued").read_text().startswith("requeue ")
    second = job(tmp_path / "run", tmp_path)
    said, errors = second.communicate(timeout=300)
    assert second.returncode == 0, errors[-3000:]
    assert "resumed from" in said
    assert different(whole, tmp_path / "run") == []
    assert len((tmp_path / "requeued").read_text().splitlines()) == 1
    assert none_left(f"MARK={tmp_path}")


def lose(rank: int, mark: Path) -> None:
    """Kill a process of the run, as the kernel does where memory is short."""
    for process in descendants(f"MARK={mark}"):
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
        line = Path(f"/proc/{process}/cmdline").read_bytes()
        if f"RANK={rank}".encode() in variables and b"train_mavl.py" in line:
            os.kill(process, signal.SIGKILL)


@pytest.mark.slow
def test_a_job_that_loses_a_process_goes_on_by_itself(job, whole, tmp_path):
    """The first one, which writes the folder and where the others meet."""
    process = job(tmp_path / "run", tmp_path)
    wait_for_a_checkpoint(tmp_path / "run", process)
    lose(0, tmp_path)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    assert "a process was lost (exit code 137)" in errors
    assert "resumed from" in said
    assert different(whole, tmp_path / "run") == []
    assert not (tmp_path / "requeued").exists()
    assert none_left(f"MARK={tmp_path}")


@pytest.mark.slow
def test_torchrun_restarts_a_run_that_loses_a_process(config, whole, tmp_path):
    """Without --resume."""
    arguments = ["train_mavl.py", "--config", config, "--output_dir", tmp_path / "run", "--bs", "2"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    process = begin([*launch, *arguments], {"MARK": str(tmp_path), "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})
    wait_for_a_checkpoint(tmp_path / "run", process)
    lose(1, tmp_path)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    assert said.count("the launcher has started the run anew after a lost process: it goes on as with --resume") == 1
    assert said.count("resumed from") == 1
    assert different(whole, tmp_path / "run") == []
    assert none_left(f"MARK={tmp_path}")
