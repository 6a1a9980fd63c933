"""Mixed precision lasts for a whole run: the activations of every step have its type, also after a resumption."""

import pytest
import torch

from tests.support.trainings import SCRIPTS, STEPS, count_precisions

EPOCHS = 3


@pytest.mark.parametrize("average", [None, 0.9])
@pytest.mark.parametrize("precision", ["bf16", "no"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_every_step_of_every_epoch_has_the_precision_of_the_run(tmp_path, kind, precision, average):
    seen = count_precisions(kind, tmp_path, EPOCHS, precision, average=average)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    assert seen[True] == {dtype: EPOCHS * STEPS}
    page = {torch.float32} if kind == "classification" else set()  # the evidence on the report's page
    assert seen[False].keys() <= {dtype} | page
    assert seen[False][dtype] >= 2 * EPOCHS  # two batches each validation
