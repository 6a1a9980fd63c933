"""A run that is killed at any moment, and resumed, ends with the same weights, and no process is left.

MAVL_KILLS=60 kills so often in all; by default it is a dozen times.
"""

import json
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.support.processes import ROOT, command, descendants, environment, none_left
from tests.support.trainings import SCRIPTS, write_training

KINDS = {  # of runs: the training, its processes, loader workers, and keys of `train`
    "fp32": ("pretraining", 1, 0, {}),
    "bf16": ("pretraining", 1, 0, {"mixed_precision": "bf16"}),
    "average": ("pretraining", 1, 0, {"average": 0.9}),
    "accumulation": ("pretraining", 1, 0, {"gradient_accumulation": 2}),
    "workers": ("pretraining", 1, 2, {}),
    "two processes": ("pretraining", 2, 0, {}),
    "classification": ("classification", 1, 0, {}),
    "segmentation": ("segmentation", 1, 0, {}),
}
KILLS = int(os.environ.get("MAVL_KILLS", "12"))
EPOCHS = 4


def last_models(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Of a run folder, or of the only seed in it."""
    [last] = folder.rglob("last/model.safetensors")
    return {name: load_file(last.parents[1] / name / "model.safetensors") for name in ("last", "best")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_kills_change_nothing(tmp_path, kind):
    """Half of them when a checkpoint has just appeared, the others at a random moment after one."""
    training, processes, workers, train = KINDS[kind]
    kills = KILLS // len(KINDS) + (list(KINDS).index(kind) < KILLS % len(KINDS))
    config = write_training(training, tmp_path, EPOCHS, workers, **train)
    mark, moments = environment() | {"MARK": str(tmp_path)}, random.Random(kind)
    more = ("--bs", 2) if processes > 1 or "gradient_accumulation" in train else ()

    def start(folder: Path) -> subprocess.Popen:
        line = command(
            SCRIPTS[training], "--config", config, "--output_dir", folder, "--resume", *more, processes=processes
        )
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(line, cwd=ROOT, env=mark, start_new_session=True, **pipes)

    def finish(folder: Path) -> None:
        process = start(folder)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]

    finish(tmp_path / "whole")
    for kill in range(kills):
        process = start(tmp_path / "run")
        before = {path.name for path in (tmp_path / "run").rglob("step_*")}
        wanted = moments.randint(1, 2)
        seen: set[str] = set()
        while len(seen) < wanted and process.poll() is None:
            seen |= {path.name for path in (tmp_path / "run").rglob("step_*")} - before
            time.sleep(0.005)
        time.sleep((kill % 2) * moments.random())
        process.kill()
        process.communicate()
        if processes > 1:  # these outlive their launcher
            for each in descendants(f"MARK={tmp_path}"):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        assert none_left(f"MARK={tmp_path}")
    finish(tmp_path / "run")
    [log] = (tmp_path / "run").rglob("log.jsonl")
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == sorted(steps)
    expected, actual = last_models(tmp_path / "whole"), last_models(tmp_path / "run")
    for name in expected:
        assert [key for key in expected[name] if not np.array_equal(expected[name][key], actual[name][key])] == []
