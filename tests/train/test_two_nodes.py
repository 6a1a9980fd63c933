"""Two nodes on loopback: two launchers with a machine rank each, as on two machines."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from tests.support.processes import without_times

ROOT = Path(__file__).resolve().parents[2]
IMAGES, BATCH, STEPS = 24, 3, 4  # two epochs of 4 steps, of two processes with 3 images each
TINY = {
    "findings": ["normal", "clear", "cardiomegaly", "effusion", "pneumothorax"],
    "model": {"backbone": "resnet18", "image_size": 64, "width": 32, "layers": 1, "feedforward": 32},
    "text": {"encoder": "drawn", "cache": None},
    "data": {"source": "phantom", "train": IMAGES, "valid": 8, "batch_size": BATCH, "eval_batch_size": 4, "workers": 0},
    "init": {"backbone": "none"},
    "schedule": {"epochs": 2, "warmup_steps": 2, "warmup_stair": 1},
    "train": {"log_every": 1, "checkpoint_every": 100},
}

SPY = '''
"""train_mavl.py, with a note of the images that each process loads and the launcher it belongs to."""
import json, os, sys
from pathlib import Path

sys.path.insert(0, {root!r})
import train_mavl
from mavl.data.pretraining import PretrainingDataset

loaded, load = [], PretrainingDataset.__getitem__
PretrainingDataset.__getitem__ = lambda self, key: (loaded.append(key), load(self, key))[1]
code = train_mavl.main()
note = {{"node": os.environ["GROUP_RANK"], "of": os.environ["WORLD_SIZE"], "loaded": loaded}}
Path({folder!r}, "rank" + os.environ["RANK"] + ".json").write_text(json.dumps(note))
sys.exit(code)
'''


def launcher(script: Path, *arguments: object, machines: int, rank: int, port: int) -> subprocess.Popen:
    where = ["--main_process_ip=127.0.0.1", f"--main_process_port={port}", f"--machine_rank={rank}"]
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", f"--num_machines={machines}", "--num_processes=2"]
    precision = ["--mixed_precision=no", "--dynamo_backend=no"]
    line = [sys.executable, *launch, *where, *precision, str(script), *map(str, arguments)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(line, cwd=ROOT, env=environment, start_new_session=True, **pipes)


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """What each printed; none is left running."""
    try:
        printed = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    for process, (_, errors) in zip(processes, printed, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [output for output, _ in printed]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def log_of(run: Path) -> list[dict]:
    return [without_times(json.loads(line)) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_nodes_train_like_two_processes_of_one(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TINY))
    arguments = ("--config", config, "--output_dir")
    spy = tmp_path / "spy.py"
    spy.write_text(SPY.format(root=str(ROOT), folder=str(tmp_path)))
    port = free_port()
    nodes = [launcher(spy, *arguments, tmp_path / "two", machines=2, rank=rank, port=port) for rank in (0, 1)]
    printed = finish(nodes)
    finish([launcher(ROOT / "train_mavl.py", *arguments, tmp_path / "one", machines=1, rank=0, port=free_port())])

    notes = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert [(note["node"], note["of"]) for note in notes] == [("0", "2"), ("1", "2")]
    for epoch in (0, 1):
        shares = [[index for at, index in note["loaded"] if at == epoch][: STEPS * BATCH] for note in notes]
        assert sorted(shares[0] + shares[1]) == list(range(IMAGES))  # each image once, by one node
    assert "2 × 3 images a step, 4 steps an epoch" in printed[0]

    assert log_of(tmp_path / "two") == log_of(tmp_path / "one")
    assert [line["step"] for line in log_of(tmp_path / "two") if "valid_auroc" in line] == [STEPS, 2 * STEPS]
    two, one = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("two", "one"))
    assert two.keys() == one.keys()
    assert [name for name in one if not np.array_equal(one[name], two[name])] == []
