"""Losses worked by hand on two images and two findings; batches without anything to learn from give zero."""

import math

import pytest
import torch

from mavl.backbones import PatchGrid
from mavl.model.losses import Targets, contrastive_loss, location_loss, presence_loss, pretraining_losses
from mavl.model.mavl import MAVLOutput

CENTRES = PatchGrid(0.0, 16, (16, 32))
LN3 = math.log(3)  # a softmax over (0, ln 3) is (1/4, 3/4)
EYE = torch.eye(2)


def logits(differences: list[list[float]]) -> torch.Tensor:
    """Presence logits (0, difference)."""
    present = torch.tensor(differences)
    return torch.stack([torch.zeros_like(present), present], dim=-1)


def anatomies(**values: float) -> torch.Tensor:
    """anatomy_vectors [51, 1], zero but for a0=…, a7=…."""
    vectors = torch.zeros(51, 1)
    for name, value in values.items():
        vectors[int(name[1:])] = value
    return vectors


def output(present: torch.Tensor, located: torch.Tensor, cosine: torch.Tensor | None) -> MAVLOutput:
    logit_scale = None if cosine is None else torch.full(cosine.shape[1:2], math.log(LN3), requires_grad=True)
    nothing = torch.empty(0)
    return MAVLOutput(present, located, nothing, nothing, cosine, logit_scale, None, CENTRES)


def test_presence_is_cross_entropy_averaged_over_known_labels():
    labels = torch.tensor([[1, 0], [-1, 2]])
    expected = (math.log(4 / 3) + math.log(4)) / 2  # 3/4 for the right label, then 1/4
    loss = presence_loss(logits([[LN3, LN3], [50.0, -50.0]]), labels)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert presence_loss(logits([[LN3, LN3], [0.0, 7.0]]), labels).item() == loss.item()


def test_presence_of_a_single_known_label_is_its_own_loss():
    labels = torch.tensor([[-1, 0], [-1, -1]])
    assert presence_loss(logits([[9.0, LN3], [9.0, 9.0]]), labels).item() == pytest.approx(math.log(4), rel=1e-6)


def test_location_finds_the_true_anatomy_among_eight():
    embedding = torch.tensor([[[1.0], [2.0]], [[5.0], [5.0]]])  # [2, 2, T=1]
    locations = torch.tensor([[[40, 1, 2, 3, 4, 5, 6, 7], [1, 40, 2, 3, 4, 5, 6, 7]]]).repeat(2, 1, 1)
    labels = torch.tensor([[1, 1], [0, -1]])
    vectors = anatomies(a40=math.log(9))
    first, second = math.log(16 / 9), math.log(1 + 6 + 81)  # 9 of 9 + 7; 1 of 81 + 7, since e^(2 ln 9) is 81
    loss = location_loss(embedding, labels, locations, vectors)
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_locations_of_minus_one_are_no_candidates():
    locations = torch.tensor([[[40, 1, 2, 3, 4, -1, -1, -1]]])
    vectors = anatomies(a40=math.log(9), a50=100.0)  # -1 must not mean the last anatomy either
    loss = location_loss(torch.ones(1, 1, 1), torch.tensor([[1]]), locations, vectors)
    assert loss.item() == pytest.approx(math.log(13 / 9), rel=1e-6)


def test_a_present_finding_without_a_place_is_left_out():
    locations = torch.tensor([[[40, 1, 2, 3, 4, 5, 6, 7], [-1] * 8]])
    vectors = anatomies(a40=math.log(9))
    loss = location_loss(torch.ones(1, 2, 1), torch.tensor([[1, 1]]), locations, vectors)
    assert loss.item() == pytest.approx(math.log(16 / 9), rel=1e-6)


@pytest.mark.parametrize(
    ("cosine", "labels", "image_to_text", "text_to_image"),
    [
        # each image has its own finding: 3/4 both ways; a mean over 2 × 2 entries of which 2 count
        ([[1, 0], [0, 1]], [[1, 0], [0, 1]], math.log(4 / 3) / 2, math.log(4 / 3) / 2),
        # both findings in the first image; -1 and 2 are no targets
        ([[1, 0], [0, 1]], [[1, 1], [2, -1]], math.log(16 / 3) / 4, math.log(16 / 3) / 4),
        # one target; the images look alike, so the text cannot tell them apart: 1/2
        ([[1, 0], [1, 0]], [[1, 0], [0, 0]], math.log(4 / 3) / 4, math.log(2) / 4),
    ],
)
def test_contrastive_is_soft_target_cross_entropy_both_ways(cosine, labels, image_to_text, text_to_image):
    cosine = torch.tensor(cosine, dtype=torch.float32)[:, None]
    loss = contrastive_loss(cosine, torch.tensor([math.log(LN3)]), torch.tensor(labels))
    assert loss.item() == pytest.approx(image_to_text + text_to_image, rel=1e-6)


def test_contrastive_is_averaged_over_aspects_each_with_its_temperature():
    cosine = EYE[:, None].repeat(1, 2, 1)
    logit_scale = torch.tensor([math.log(LN3), math.log(math.log(7))])  # right with 3/4, and with 7/8
    loss = contrastive_loss(cosine, logit_scale, torch.eye(2, dtype=torch.int8))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(8 / 7)) / 2, rel=1e-6)


def test_the_total_is_the_sum_with_a_tenth_of_the_contrastive():
    locations = torch.tensor([40, 1, 2, 3, 4, 5, 6, 7]).repeat(2, 2, 1)
    made = output(logits([[LN3, LN3], [0.0, 0.0]]), torch.ones(2, 2, 1), EYE[:, None])
    losses = pretraining_losses(made, Targets(torch.tensor([[1, 0], [-1, 1]]), locations, anatomies(a40=math.log(9))))
    expected = {
        "loss_ce": (math.log(4 / 3) + math.log(4) + math.log(2)) / 3,
        "loss_cl": math.log(16 / 9),
        "loss_global": 0.1 * math.log(4 / 3),
    }
    named = {name: value.item() for name, value in losses.items()}
    assert named == pytest.approx(expected | {"loss": sum(expected.values())}, rel=1e-6)


def test_medklip_has_no_contrastive_loss():
    locations = torch.zeros(2, 2, 8, dtype=torch.long)
    made = output(logits([[LN3, LN3], [0.0, 0.0]]), torch.ones(2, 2, 1), None)
    losses = pretraining_losses(made, Targets(torch.tensor([[1, 0], [0, 0]]), locations, anatomies()))
    assert losses["loss_global"].item() == 0
    assert losses["loss"].item() == pytest.approx((losses["loss_ce"] + losses["loss_cl"]).item())


@pytest.mark.parametrize("label", [-1, 2])
def test_a_batch_without_known_labels_is_exactly_zero(label):
    present, located = logits([[3.0, -2.0], [1.0, 0.0]]).requires_grad_(), torch.ones(2, 2, 1, requires_grad=True)
    cosine = EYE[:, None].clone().requires_grad_()
    made = output(present, located, cosine)
    losses = pretraining_losses(made, Targets(torch.full((2, 2), label), torch.full((2, 2, 8), -1), anatomies(a3=1.0)))
    assert {name: value.item() for name, value in losses.items()} == dict.fromkeys(losses, 0.0)
    losses["loss"].backward()
    for tensor in (present, located, cosine, made.logit_scale):
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


def test_a_batch_with_absent_findings_only_teaches_their_absence():
    present, located = logits([[3.0, -2.0], [1.0, 0.0]]).requires_grad_(), torch.ones(2, 2, 1, requires_grad=True)
    cosine = EYE[:, None].clone().requires_grad_()
    locations = torch.arange(8).repeat(2, 2, 1)
    losses = pretraining_losses(
        output(present, located, cosine), Targets(torch.zeros(2, 2), locations, anatomies(a3=1.0))
    )
    assert (losses["loss_cl"].item(), losses["loss_global"].item()) == (0, 0)
    losses["loss"].backward()
    assert (present.grad[..., 1] > 0).all()  # less of "present"
    assert torch.equal(located.grad, torch.zeros_like(located))


def test_half_precision_outputs_are_summed_in_single():
    """The sum of 2 ** 17 entries of ln 2 is more than fp16 can hold."""
    present = torch.zeros(2**10, 2**7, 2, dtype=torch.float16)
    loss = presence_loss(present, torch.ones(2**10, 2**7))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
