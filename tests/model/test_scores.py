"""Zero-shot scores worked by hand, looked up by finding name."""

import math

import pytest
import torch

from mavl.backbones import PatchGrid
from mavl.model.mavl import MAVLOutput
from mavl.model.scores import HeadError, contrastive_probability, presence_probability, scores
from mavl.text.embeddings import TextEmbeddings

CENTRES = PatchGrid(0.0, 16, (16, 32))
FINDINGS = ("clear", "edema", "normal", "mass")
EMBEDDINGS = TextEmbeddings(
    FINDINGS, ("description", "border"), torch.zeros(4, 2, 3), torch.zeros(51, 3), {"encoder": "e", "books": {}}
)
COSINE = torch.tensor([[[0.1, 0.9, 0.3, 0.3], [0.0, 0.4, 0.4, -0.6]]])  # [B=1, A=2, F=4]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def output(cosine: torch.Tensor | None = COSINE) -> MAVLOutput:
    odds = torch.tensor([[3.0, 1.0, 0.25, 9.0]])
    logits = torch.stack([torch.full_like(odds, 2.0), 2.0 + odds.log()], dim=-1)
    nothing = torch.empty(0)
    return MAVLOutput(logits, nothing, nothing, nothing, cosine, None, None, CENTRES)


def test_presence_is_the_softmax_of_the_second_logit():
    expected = torch.tensor([[0.75, 0.5, 0.2, 0.9]])
    torch.testing.assert_close(presence_probability(output().presence_logits), expected)


def test_contrastive_is_the_mean_softmax_against_healthy_findings_over_aspects():
    """Edema: against normal and clear by 0.6 and 0.8 in one aspect, by 0 and 0.4 in the other."""
    probability = contrastive_probability(COSINE, [2, 0])
    assert probability.shape == (1, 4)
    expected = (sigmoid(0.6) + sigmoid(0.8) + sigmoid(0.0) + sigmoid(0.4)) / 4
    assert probability[0, 1].item() == pytest.approx(expected, rel=1e-6)
    pair = torch.tensor([0.3, 0.9]).softmax(dim=0)  # as the release words it
    assert contrastive_probability(COSINE[:, :1], [2])[0, 1].item() == pytest.approx(pair[1].item(), rel=1e-6)


def test_a_healthy_finding_against_itself_is_even():
    assert contrastive_probability(COSINE, [2])[0, 2].item() == 0.5


@pytest.mark.parametrize("head", ["supervised", "contrastive"])
def test_scores_come_in_the_order_of_the_names_asked_for(head):
    both = scores(output(), EMBEDDINGS, ["mass", "edema"], head)
    assert both.shape == (1, 2)
    assert torch.equal(both[:, [1]], scores(output(), EMBEDDINGS, ["edema"], head))
    if head == "supervised":
        torch.testing.assert_close(both, torch.tensor([[0.9, 0.5]]))


def test_the_contrastive_head_finds_the_healthy_ones_by_name():
    expected = contrastive_probability(COSINE, [2, 0])[:, [3]]
    assert torch.equal(scores(output(), EMBEDDINGS, ["mass"], "contrastive"), expected)


def test_a_finding_that_is_not_in_the_bank_suggests_near_ones():
    with pytest.raises(KeyError, match="unknown finding 'edemma'; did you mean 'edema'"):
        scores(output(), EMBEDDINGS, ["edemma"])


def test_a_bank_without_healthy_findings_has_no_contrastive_score():
    with pytest.raises(HeadError, match="compares with normal and clear, and there is text of neither"):
        scores(output(COSINE[:, :, [1, 3]]), EMBEDDINGS.select(["edema", "mass"]), ["mass"], "contrastive")


def test_a_model_without_a_contrastive_head_says_so():
    with pytest.raises(HeadError, match=r"no contrastive head .* use head: supervised"):
        scores(output(cosine=None), EMBEDDINGS, ["mass"], "contrastive")


def test_an_unknown_head_is_named():
    with pytest.raises(HeadError, match="head is 'text'; known: supervised, contrastive"):
        scores(output(), EMBEDDINGS, ["mass"], "text")


# Half precision: what comes in is rounded, what is computed from it is not


def test_presence_of_half_precision_logits_is_computed_in_full_precision():
    logits = torch.tensor([[[2.0, 2.5], [-7.0, 1.25], [0.0, 9.0]]])  # exact in bf16
    found = presence_probability(logits.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, logits.double().softmax(-1)[..., 1].float(), rtol=1e-6, atol=0)


def test_contrastive_scores_of_half_precision_cosines_are_computed_in_full_precision():
    cosine = torch.tensor([[[0.125, 0.90625, 0.5, -0.25], [0.0, 0.3125, 0.4375, -0.625]]])  # exact in bf16
    found = contrastive_probability(cosine.bfloat16(), [2, 0])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, contrastive_probability(cosine, [2, 0]), rtol=1e-6, atol=0)


def test_the_healthy_findings_are_both_compared_with():
    """Each of them alone gives another score, and the mean is between the two."""
    normal, clear, both = (contrastive_probability(COSINE, healthy)[0, 1].item() for healthy in ([2], [0], [2, 0]))
    assert normal != pytest.approx(clear, abs=0.01)
    assert both == pytest.approx((normal + clear) / 2, rel=1e-6)


@pytest.mark.parametrize("healthy", ["normal", "clear"])
def test_a_model_with_one_healthy_finding_compares_with_that_one(healthy):
    columns = [FINDINGS.index(healthy), FINDINGS.index("edema")]
    found = scores(output(COSINE[:, :, columns]), EMBEDDINGS.select([healthy, "edema"]), ["edema"], "contrastive")
    normal = COSINE[0, :, columns[0]]
    assert found.item() == pytest.approx(sum(map(sigmoid, (COSINE[0, :, 1] - normal).tolist())) / 2)
