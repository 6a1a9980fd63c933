"""Mixed precision lasts for a whole run: the activations of every step have its type, also after a resumption."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.processes import run, weights
from tests.support.trainings import SCRIPTS, STEPS, count_precisions, write_training

EPOCHS = 3


@pytest.mark.parametrize("precision", ["bf16", "no"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_every_step_of_every_epoch_has_the_precision_of_the_run(tmp_path, kind, precision):
    seen = count_precisions(kind, tmp_path, EPOCHS, precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    assert seen[True] == {dtype: EPOCHS * STEPS}
    page = {torch.float32} if kind == "classification" else set()  # the evidence on the report's page
    assert seen[False].keys() <= {dtype} | page
    assert seen[False][dtype] >= 2 * EPOCHS  # two batches each validation


@pytest.mark.slow
def test_a_resumed_run_in_bf16_ends_with_the_same_weights(tmp_path):
    def train(folder: Path, *more: str) -> None:
        config = write_training("pretraining", tmp_path, EPOCHS, mixed_precision="bf16", keep=9)
        run("train_mavl.py", "--config", config, "--output_dir", folder, *more)

    train(tmp_path / "whole")
    train(tmp_path / "resumed")
    for step in range(STEPS + 2, EPOCHS * STEPS + 1):  # back to the middle of the second epoch
        (tmp_path / "resumed" / "checkpoints" / f"step_{step:08d}").rename(tmp_path / f"gone_{step}")
    train(tmp_path / "resumed", "--resume")
    expected, resumed = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert [name for name in expected if not np.array_equal(expected[name], resumed[name])] == []
