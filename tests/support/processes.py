"""The scripts as a user runs them: real processes, and a pre-training small enough for a test."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]


FINDINGS = ["normal", "clear", "cardiomegaly", "effusion", "pneumothorax", "pacemaker"]


TINY = {
    "findings": FINDINGS,
    "model": {"backbone": "resnet18", "image_size": 64, "width": 32, "layers": 1, "feedforward": 32},
    "text": {"encoder": "drawn", "cache": None},
    "data": {"source": "phantom", "train": 40, "valid": 12, "batch_size": 4, "eval_batch_size": 6, "workers": 1},
    "init": {"backbone": "none"},
    "schedule": {"epochs": 2, "warmup_steps": 4, "warmup_stair": 1},
    "train": {"log_every": 5, "checkpoint_every": 3, "trackers": ["tensorboard"]},
}


def write_config(folder: Path, **changed) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.in.yaml"
    path.write_text(yaml.safe_dump(TINY | changed))
    return path


def command(script: str, *arguments: str | Path, processes: int = 1) -> list[str]:
    launcher = [sys.executable]
    if processes > 1:
        launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines=1", "--mixed_precision=no"]
        launcher += [*launch, "--dynamo_backend=no", "--main_process_port=0", f"--num_processes={processes}"]
    return [*launcher, str(ROOT / script), *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(*arguments, processes: int = 1, check: bool = True) -> subprocess.CompletedProcess:
    line = command(*arguments, processes=processes)
    finished = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300)
    assert not check or finished.returncode == 0, finished.stderr[-3000:]
    return finished


def different(one: Path, other: Path) -> list[str]:
    """The tensors of the last models of two run folders that are not the same, bit for bit."""
    expected, actual = weights(one), weights(other)
    assert expected.keys() == actual.keys()
    return [name for name in expected if not np.array_equal(expected[name], actual[name])]


def descendants(mark: str) -> list[int]:
    """The processes that have this text in their environment, such as the path of a test's folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in entry.read_bytes():
                found.append(int(entry.parent.name))
        except OSError:  # it has ended
            continue
    return found


def none_left(mark: str, seconds: float = 20) -> bool:
    """Whether all of `descendants` are gone, at the latest after some seconds."""
    end = time.monotonic() + seconds
    while found := descendants(mark):
        if time.monotonic() > end:
            for process in found:
                os.kill(process, signal.SIGKILL)
            return False
        time.sleep(0.1)
    return True


def without_times(line: dict) -> dict:
    """A line of a log without what no two runs have alike."""
    times = {"images_per_second", "images_per_second_process", "loader_wait", "checkpoint_seconds"}
    return {name: value for name, value in line.items() if name not in times}


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "last" / "model.safetensors")
