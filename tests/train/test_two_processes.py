"""Two processes: both keep their precision after a validation, and DDP's exchange of buffers changes no weight."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.processes import ROOT, different, environment, without_times
from tests.support.trainings import SIZES, write_training

EPOCHS = 2
TRAIN = '''
"""Train; write the types of the first convolution's outputs, how many rows of a validation there are, the processes."""
import json, os, sys
from pathlib import Path

sys.path.insert(0, {root!r})
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mavl.config.loader import load
from mavl.config.settings import PretrainSettings
from mavl.train import pretrain

config, folder, exchange = sys.argv[1:]
if exchange == "exchange":
    DistributedDataParallel.broadcast_buffers = property(lambda self: True, lambda self, value: None)
types, rows, exchanged = {{"train": [], "eval": []}}, [], []

def note(module, _, output):
    if isinstance(module, nn.Conv2d) and module.in_channels == 3:
        types["train" if module.training else "eval"].append(str(output.dtype))
    if isinstance(module, DistributedDataParallel):
        exchanged.append(module.will_sync_module_buffers())

nn.modules.module.register_module_forward_hook(note)
compute_all = pretrain.compute_all

def noted(*arguments, **options):
    computed = compute_all(*arguments, **options)
    rows.append(None if computed is None else len(computed["labels"]))
    return computed

pretrain.compute_all = noted
rank = os.environ["RANK"]
progress = pretrain.run(load(PretrainSettings, Path(config), ["output_dir=" + folder]))
seen = {{"types": types, "rows": rows, "exchanged": exchanged, "best": progress.best}}
Path(folder, "seen_" + rank + ".json").write_text(json.dumps(seen))
'''


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of two runs on two processes, `plain` and `exchange`."""
    folder = tmp_path_factory.mktemp("two")
    config = write_training("pretraining", folder, EPOCHS, mixed_precision="bf16")
    config.write_text(config.read_text().replace("batch_size: 4", "batch_size: 2"))
    script = folder / "train.py"
    script.write_text(TRAIN.format(root=str(ROOT)))
    for way in ("plain", "exchange"):
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        line = [*launch, script, config, folder / way, way]
        variables = environment() | {"ACCELERATE_MIXED_PRECISION": "no"}
        done = subprocess.run(
            list(map(str, line)), cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def seen(run: Path) -> list[dict]:
    return [json.loads((run / f"seen_{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.slow
def test_both_keep_the_precision_after_a_validation(trained):
    """6 steps of 2 × 2 images; a validation has batches of 2 images, which the processes take in turn."""
    for process in seen(trained / "plain"):
        assert process["types"]["train"] == ["torch.bfloat16"] * 6
        assert set(process["types"]["eval"]) == {"torch.bfloat16"}
    assert json.loads((trained / "plain" / "run.json").read_text()).items() >= {
        ("mixed_precision", "bf16"),
        ("processes", 2),
        ("gpu", None),
    }


@pytest.mark.slow
def test_the_rows_of_a_validation_are_on_the_main_process_and_its_figures_on_both(trained):
    main, other = seen(trained / "plain")
    assert main["rows"] == [SIZES["valid"]] * EPOCHS
    assert other["rows"] == [None] * EPOCHS
    assert main["best"] == other["best"] > 0


@pytest.mark.slow
def test_weights_are_equal_with_and_without_the_exchange_of_buffers(trained):
    """Also the running statistics, in the model folders and in the checkpoints; and so is the log."""
    plain, exchange = trained / "plain", trained / "exchange"
    assert [set(process["exchanged"]) for process in seen(plain) + seen(exchange)] == [{False}] * 2 + [{True}] * 2
    assert different(plain, exchange) == []
    steps = sorted(path.name for path in (plain / "checkpoints").iterdir())
    assert steps
    for step in steps:
        one, other = (torch.load(run / "checkpoints" / step / "state.pt")["model"] for run in (plain, exchange))
        assert [name for name in one if not torch.equal(one[name], other[name])] == []
    logs = [[without_times(json.loads(line)) for line in (run / "log.jsonl").open()] for run in (plain, exchange)]
    assert logs[0] == logs[1]
    assert all(0 <= line["loader_wait"] <= 1 for line in map(json.loads, (plain / "log.jsonl").open()) if "lr" in line)
