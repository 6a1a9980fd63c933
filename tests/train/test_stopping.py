"""A signal of a scheduler ends a run after its step, or in the middle of its validation, and nothing is lost."""

import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from mavl.backbones import Preprocessing
from mavl.data.loading import compute_all
from mavl.data.processes import InUseError, Stopping, StopRequested
from mavl.train.run_folder import run_of
from tests.support.processes import ROOT, command, descendants, environment, none_left
from tests.support.small_runs import Line, Numbers, fit, forget_accelerator
from tests.support.trainings import SCRIPTS, write_training


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    yield
    forget_accelerator()


class Signalled(Line):
    """A signal comes in a training step, or in the second batch of a validation (calls are counted over all runs)."""

    def __init__(self, number: int, at_step: int | None = None, at_validation: int | None = None):
        super().__init__()
        self.number, self.at_step, self.at_validation, self.validations = number, at_step, at_validation, 0

    def losses(self, model, batch):
        if self.calls + 1 == self.at_step:
            os.kill(os.getpid(), self.number)
        return super().losses(model, batch)

    def validate(self, model, accelerator):
        self.validations += 1
        batches = []

        def compute(batch):
            batches.append(batch)
            if self.validations == self.at_validation and len(batches) == 2:
                os.kill(os.getpid(), self.number)
            return {"error": (model(batch["x"]) - 3 * batch["x"]).abs()}

        keys, sizes = [(0, index) for index in range(8)], {"batch_size": 2, "workers": 0, "description": ""}
        rows = compute_all(accelerator, Numbers(), keys, compute, Preprocessing(), **sizes)
        assert len(batches) == 4
        return {"valid_loss": float(rows["error"].mean())}


def trained(task: Line, folder: Path, resume: bool) -> Line:
    forget_accelerator()
    run = fit(task, folder, epochs=3, checkpoint_every=100, log_every=3)
    with Stopping.expected():
        run.run(resume)
    return task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize(("where", "step"), [({"at_step": 6}, 6), ({"at_step": 8}, 8), ({"at_validation": 2}, 8)])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(tmp_path, number, where, step):
    """4 steps an epoch. A signal in step 8 leaves its validation to the resumed run."""
    whole = trained(Signalled(number), tmp_path / "whole", resume=False)
    with pytest.raises(StopRequested, match=f"{signal.Signals(number).name} after step {step}, which is saved"):
        trained(Signalled(number, **where), tmp_path / "run", resume=False)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()][-1] == f"step_{step:08d}"
    resumed = trained(Signalled(number), tmp_path / "run", resume=True)
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert resumed.validations == (1 if step == 12 else 2)
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("whole", "run")]
    figures = [[line for line in log.splitlines() if "valid_loss" in line] for log in logs]
    assert figures[0] == figures[1]


def test_before_the_first_step_a_signal_ends_a_run_at_once():
    with Stopping.expected(), pytest.raises(StopRequested, match="SIGTERM"):
        signal.raise_signal(signal.SIGTERM)


def test_a_folder_has_one_writer(tmp_path):
    run = fit(Line(), tmp_path)
    second = run_of(run.accelerator, [tmp_path])
    with run_of(run.accelerator, [tmp_path]), pytest.raises(InUseError, match="is being written by another process"):
        second.__enter__()
    with run_of(run.accelerator, [tmp_path]):
        pass


def test_a_full_disk_names_the_run_folder(tmp_path):
    """Where the error itself names no file, as that of a write does."""
    run = fit(Line(), tmp_path)
    for error, named in ((OSError(errno.ENOSPC, "full"), str(tmp_path)), (OSError(errno.EIO, "broken"), None)):
        with pytest.raises(OSError, match=error.strerror) as caught, run_of(run.accelerator, [tmp_path]):
            raise error
        assert caught.value.filename == named


def test_a_stopped_run_exits_with_the_code_that_asks_for_another_try(tmp_path, capsys):
    run = fit(Line(), tmp_path)
    with pytest.raises(SystemExit) as caught, run_of(run.accelerator, [tmp_path]):
        signal.raise_signal(signal.SIGUSR1)
    assert caught.value.code == 75
    assert capsys.readouterr().err == f"stopped by SIGUSR1; --resume goes on in {tmp_path}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "number"),
    [("pretraining", signal.SIGTERM), ("classification", signal.SIGUSR1), ("segmentation", signal.SIGTERM)],
)
def test_a_signal_to_all_processes_of_a_run_saves_it(tmp_path, kind, number):
    """The trainer, its fork server and its workers all get it."""
    config = write_training(kind, tmp_path, epochs=30, workers=2, checkpoint_every=1000)
    arguments = (SCRIPTS[kind], "--config", config, "--output_dir", tmp_path / "run")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    mark = environment() | {"MARK": str(tmp_path)}
    process = subprocess.Popen(command(*arguments), cwd=ROOT, env=mark, start_new_session=True, **pipes)
    while not list((tmp_path / "run").rglob("step_*")) and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors[-3000:]
    assert f"stopped by {signal.Signals(number).name} after step " in errors
    assert "--resume goes on" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert none_left(f"MARK={tmp_path}")


@pytest.mark.slow
def test_a_killed_trainer_leaves_no_process(tmp_path):
    config = write_training("pretraining", tmp_path, epochs=100, workers=2)
    line = command("train_mavl.py", "--config", config, "--output_dir", tmp_path / "run")
    mark = environment() | {"MARK": str(tmp_path)}
    process = subprocess.Popen(line, cwd=ROOT, env=mark, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "run").rglob("step_*")) and process.poll() is None:
        time.sleep(0.02)
    assert len(descendants(f"MARK={tmp_path}")) > 3  # the trainer, the fork server and two workers
    process.kill()
    process.wait()
    assert none_left(f"MARK={tmp_path}")
