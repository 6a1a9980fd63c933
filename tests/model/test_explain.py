"""Shares that sum to the decision, worked by hand and on a drawn model."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mavl import checkpoint
from mavl.model.explain import explain, presence_shares
from mavl.model.heatmaps import heatmaps
from mavl.model.scores import presence_probability
from mavl.text.embeddings import UnknownFindingError
from mavl.vocab import ASPECTS
from tests.support import tiny


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A model, its embeddings, and its output for three images of noise."""
    pretrained = checkpoint.load(tiny.write_model(tmp_path_factory.mktemp("tiny")))
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = pretrained.model(images, pretrained.embeddings.vectors, return_attention=True)
    return pretrained.model, pretrained.embeddings, output


def test_a_share_is_the_dot_product_of_its_block_of_the_head():
    """Two aspects of width 2; present minus absent: weights (2, -1 | 0, 3), bias 0.5."""
    head = nn.Linear(4, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 1.0, 1.0, -1.0], [3.0, 0.0, 1.0, 2.0]]))
        head.bias.copy_(torch.tensor([0.25, 0.75]))
    features = torch.tensor([[[[1.0, 2.0], [5.0, 1.0]], [[0.0, 1.0], [1.0, -2.0]]]])  # [B=1, F=2, A=2, D=2]
    shares, bias = presence_shares(head, features)
    assert shares.tolist() == [[[0.0, 3.0], [-1.0, -6.0]]]
    assert bias.item() == 0.5
    logits = head(features.flatten(2))[0]
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], torch.tensor([3.5, -6.5]))


def test_shares_and_bias_sum_to_the_logit_difference(asked):
    model, embeddings, output = asked
    shares, bias = presence_shares(model.presence_head, output.aspect_features)
    difference = output.presence_logits[..., 1] - output.presence_logits[..., 0]
    assert difference.std() > 0.1  # else there is nothing to explain
    torch.testing.assert_close(shares.sum(-1) + bias, difference, rtol=0, atol=1e-5)
    for image in range(3):
        for row, finding in enumerate(embeddings.findings):
            explanation = explain(model, embeddings, output, finding, image)
            assert explanation.logit_difference == pytest.approx(difference[image, row].item(), abs=1e-5)
            probability = presence_probability(output.presence_logits)[image, row].item()
            assert explanation.probability == pytest.approx(probability, abs=1e-5)


def test_an_explanation_is_of_its_own_image_and_finding(asked):
    model, embeddings, output = asked
    sentences = {"border": "border: blurred", "shape": "shape: round"}
    explanation = explain(model, embeddings, output, "effusion", image=2, sentences=sentences)
    assert explanation.aspects == ASPECTS
    assert explanation.sentences == tuple(sentences.get(aspect) for aspect in ASPECTS)
    assert torch.equal(explanation.heatmap, heatmaps(output, embeddings, ["effusion"])[2, 0])
    row = embeddings.findings.index("effusion")
    queries = torch.stack([layer[2, 9 * row : 9 * row + 9] for layer in output.attention]).mean(0)
    torch.testing.assert_close(explanation.aspect_heatmaps.flatten(1), queries)
    torch.testing.assert_close(explanation.aspect_heatmaps.sum((1, 2)), torch.ones(9))
    assert torch.equal(explanation.cosine, output.cosine[2, :, row])
    assert {name: each.tolist() for name, each in explanation.healthy_cosine.items()} == {
        "normal": output.cosine[2, :, 0].tolist(),
        "clear": output.cosine[2, :, 1].tolist(),
    }


def test_what_was_not_computed_is_left_out(asked):
    model, embeddings, _ = asked
    ill = embeddings.select(["effusion", "pneumonia"])
    with torch.no_grad():
        output = model(torch.zeros(1, 3, 64, 64), ill.vectors)
    explanation = explain(model, ill, output, "pneumonia")
    assert explanation.heatmap is None
    assert explanation.aspect_heatmaps is None
    assert explanation.cosine is None  # nothing healthy to compare with
    assert explanation.healthy_cosine is None
    assert explanation.shares.shape == (9,)


def test_a_model_of_one_aspect_is_explained_by_that(tmp_path):
    pretrained = checkpoint.load(tiny.write_model(tmp_path, aspects=("description",), contrastive=False))
    with torch.no_grad():
        output = pretrained.model(torch.ones(1, 3, 64, 64), pretrained.embeddings.vectors, return_attention=True)
    explanation = explain(pretrained.model, pretrained.embeddings, output, "pneumonia")
    difference = output.presence_logits[0, 3, 1] - output.presence_logits[0, 3, 0]
    assert explanation.shares.item() + explanation.bias == pytest.approx(difference.item(), abs=1e-5)
    assert torch.equal(explanation.heatmap, explanation.aspect_heatmaps[0])


def test_a_finding_that_is_not_in_the_bank_is_named(asked):
    model, embeddings, output = asked
    with pytest.raises(UnknownFindingError, match="did you mean 'effusion'"):
        explain(model, embeddings, output, "efusion")


def test_shares_of_half_precision_features_are_computed_in_full_precision():
    torch.manual_seed(0)
    head, features = nn.Linear(9 * 16, 2), torch.randn(2, 3, 9, 16)
    shares, bias = presence_shares(head.bfloat16(), features.bfloat16())
    assert shares.dtype == bias.dtype == torch.float32
    expected, _ = presence_shares(head.float(), features.bfloat16().float())
    # the weights' difference is rounded once, their sum of products is not
    torch.testing.assert_close(shares, expected, rtol=0.02, atol=0.02)
    rounded = shares.bfloat16().float()
    assert (shares != rounded).float().mean() > 0.9


def test_an_explanation_of_half_precision_output_is_in_full_precision(asked):
    model, embeddings, output = asked
    half = replace(
        output,
        cosine=output.cosine.bfloat16(),
        aspect_features=output.aspect_features.bfloat16(),
        attention=tuple(layer.bfloat16() for layer in output.attention),
    )
    exact, found = (explain(model, embeddings, each, "effusion", 1) for each in (output, half))
    for name in ("shares", "heatmap", "aspect_heatmaps", "cosine"):
        value = getattr(found, name)
        assert value.dtype == torch.float32, name
        torch.testing.assert_close(value, getattr(exact, name), rtol=0.02, atol=0.02)
    assert all(value.dtype == torch.float32 for value in found.healthy_cosine.values())
    # a mean over layers that are rounded is not rounded itself
    assert (found.heatmap != found.heatmap.bfloat16().float()).any()


def test_the_healthy_findings_that_there_are_are_compared_with(asked):
    model, embeddings, _ = asked
    for healthy in (["normal"], ["clear"], ["normal", "clear"], []):
        part = embeddings.select(["effusion", *healthy])
        with torch.no_grad():
            output = model(torch.zeros(1, 3, 64, 64), part.vectors)
        explanation = explain(model, part, output, "effusion")
        assert list(explanation.healthy_cosine or {}) == healthy
        assert (explanation.cosine is None) == (not healthy)
