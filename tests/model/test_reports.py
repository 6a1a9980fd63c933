"""The contrast of images and whole reports, against numbers worked by hand and against one process."""

import math
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from mavl.model.losses import Targets, pretraining_losses, report_loss
from mavl.model.mavl import MAVL
from tests.support.processes import ROOT, environment

EYE = torch.eye(3)


def test_matching_pairs_by_hand():
    """Three orthogonal pairs at scale ln 2: each row has the cosines 1, 0, 0, so its softmax is 2, 1, 1 of 4."""
    loss = report_loss(EYE, EYE, torch.tensor(math.log(math.log(2))), torch.tensor([4, 7, 9]))
    assert loss.item() == pytest.approx(math.log(2))


def test_images_of_one_study_are_right_answers_of_each_other():
    """Rows: softmax (2, 1, 1) / 4. Studies a, a, b: -(ln ½ + ln ¼) / 2 for the first two, -ln ½ for the last."""
    loss = report_loss(EYE, EYE, torch.tensor(math.log(math.log(2))), torch.tensor([4, 4, 9]))
    assert loss.item() == pytest.approx((2 * (math.log(2) + math.log(4)) / 2 + math.log(2)) / 3)


def test_a_study_without_a_report_is_no_answer_and_no_question():
    """Two pairs are left: softmax (2, 1) / 3."""
    reports = EYE.clone().requires_grad_()
    loss = report_loss(EYE, reports, torch.tensor(math.log(math.log(2))), torch.tensor([4, -1, 9]))
    assert loss.item() == pytest.approx(math.log(1.5))
    loss.backward()
    assert reports.grad[1].abs().sum() == 0
    none = report_loss(EYE, EYE, torch.tensor(1.0), torch.full((3,), -1))
    assert none.item() == 0


def test_the_model_compares_its_pooled_image_with_projected_reports():
    torch.manual_seed(0)
    model = MAVL(backbone="resnet18", image_size=32, width=32, layers=1, text_width=12, report_head=True).eval()
    images, text, reports = torch.randn(2, 3, 32, 32), torch.randn(4, 9, 12), torch.randn(2, 12)
    output = model(images, text, reports=reports)
    torch.testing.assert_close(output.pairs.images, F.normalize(model.encode_image(images).pooled, dim=-1))
    torch.testing.assert_close(output.pairs.reports, F.normalize(model.report_head.projection(reports), dim=-1))
    assert output.pairs.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    labels, locations = torch.tensor([[1, 0, -1, 1]] * 2), torch.zeros(2, 4, 8, dtype=torch.long)
    targets = Targets(labels, locations, torch.randn(51, 12), report_weight=0.5, studies=torch.tensor([0, 1]))
    losses = pretraining_losses(output, targets)
    expected = report_loss(output.pairs.images, output.pairs.reports, output.pairs.logit_scale, targets.studies)
    torch.testing.assert_close(losses["loss_report"], 0.5 * expected)
    terms = [losses[name] for name in ("loss_ce", "loss_cl", "loss_global", "loss_report")]
    torch.testing.assert_close(losses["loss"], sum(terms))
    assert "loss_report" not in pretraining_losses(model(images, text), targets)


def test_reports_need_the_pooled_image():
    with pytest.raises(ValueError, match="report_head needs contrastive"):
        MAVL(backbone="resnet18", contrastive=False, report_head=True)


GATHERED = """
import sys
import torch
from torch import distributed
from torch.nn import functional as F
from mavl.model.losses import report_loss
from mavl.train.pretrain import gather

rank, store = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
torch.manual_seed(0)
vectors, studies = torch.randn(2, 6, 8), torch.tensor([0, 1, -1, 1, 2, 3])
whole = vectors.clone().requires_grad_()
expected = report_loss(F.normalize(whole[0], dim=-1), F.normalize(whole[1], dim=-1), torch.tensor(1.0), studies)
expected.backward()
own = slice(3 * rank, 3 * rank + 3)
part = vectors[:, own].clone().requires_grad_()
pairs = [gather(F.normalize(part[i], dim=-1)) for i in (0, 1)]
loss = report_loss(*pairs, torch.tensor(1.0), gather(studies[own]))
loss.backward()
assert torch.allclose(loss, expected), (loss, expected)
# DistributedDataParallel takes the mean of the two processes' gradients, each of which is that of both
assert torch.allclose(part.grad / 2, whole.grad[:, own], atol=1e-6), (part.grad, whole.grad)
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_and_the_gradients_of_one(tmp_path):
    lines = [[sys.executable, "-c", GATHERED, str(rank), str(tmp_path / "store")] for rank in range(2)]
    started = [subprocess.Popen(line, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True) for line in lines]
    for process in started:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-2000:]
