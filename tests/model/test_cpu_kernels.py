"""Dropout and attention on a CPU: probabilities, seeds, and values and gradients against torch with the same masks."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.model.cpu_kernels import Dropout, attention

PROBABILITY = 0.25


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def with_seed(function, *arguments):
    torch.manual_seed(3)
    return function(*arguments)


# ---- dropout


@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_dropout_zeroes_independent_values_with_the_given_probability(probability):
    """A million values: the share has a standard deviation of at most 0.0005; of each of four residues, twice that."""
    dropped = (Dropout(probability)(torch.ones(10, 100, 1000)) == 0).flatten()
    assert dropped.float().mean() == pytest.approx(probability, abs=0.0025)
    for residue in range(4):
        assert dropped[residue::4].float().mean() == pytest.approx(probability, abs=0.005)
    for distance in (1, 1000, 100_000):
        both = dropped[distance:] & dropped[:-distance]
        assert both.float().mean() == pytest.approx(probability**2, abs=0.0025)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_and_its_gradient_by_hand(dtype):
    """A quarter of the values is zero, the others times 4/3, forwards and backwards alike."""
    tensor = torch.full((3, 50, 40), 3.0, dtype=dtype, requires_grad=True)
    result = Dropout(PROBABILITY)(tensor)
    assert result.dtype == dtype
    assert set(result.unique().tolist()) == {0, 4}
    (gradient,) = torch.autograd.grad(result, tensor, torch.full_like(result, 6.0))
    assert torch.equal(gradient, 2 * result)
    assert len({tuple((image == 0).flatten().tolist()) for image in result}) == 3


def test_the_global_seed_decides_what_is_dropped():
    drop, ones = Dropout(0.5), torch.ones(4, 5, 3)
    first = with_seed(drop, ones)
    assert torch.equal(with_seed(drop, ones), first)
    assert not torch.equal(drop(ones), first)


def test_dropout_at_probability_zero_and_one_and_in_evaluation():
    tensor = torch.tensor([[1.0, -2]])
    assert torch.equal(Dropout(0.0)(tensor), tensor)
    assert torch.equal(Dropout(1.0)(tensor), torch.zeros(1, 2))
    assert torch.equal(Dropout(0.5).eval()(tensor), tensor)
    assert isinstance(Dropout(0.5), nn.Dropout)


def test_dropout_compiles_as_one_graph():
    compiled = torch.compile(Dropout(0.5), fullgraph=True, backend="eager")
    assert set(compiled(torch.ones(20, 10)).unique().tolist()) == {0, 2}


# ---- attention


def inputs(batch: int = 3, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    sizes = ((batch, 2, 5, 4), (batch, 2, 7, 4), (batch, 2, 7, 4))
    return [torch.randn(size, dtype=dtype).requires_grad_() for size in sizes]


@pytest.mark.parametrize(("given", "batch"), [(3, None), (1, 3)])
def test_attention_with_dropout_is_the_written_out_one_with_the_same_masks(given, batch):
    """Three images with an input each, and three that share one, whose gradients are then sums over the images.

    The same seed with the unit matrix for a value gives the weights themselves, and so the mask.
    """
    query, key, value = inputs(given)
    unit = torch.eye(7).expand(given, 2, 7, 7)
    dropped = with_seed(attention, query, key, unit, PROBABILITY, batch)
    weights = (query @ key.mT / 2).softmax(dim=-1)
    mask = dropped != 0
    assert mask.shape == (3, 2, 5, 7)
    assert 0.6 < mask.float().mean() < 0.9
    assert not torch.equal(mask[0], mask[1])
    torch.testing.assert_close(dropped, weights * mask / 0.75)

    attended = with_seed(attention, query, key, value, PROBABILITY, batch)
    expected = weights * mask / 0.75 @ value
    torch.testing.assert_close(attended, expected)
    of_attended = torch.randn(3, 2, 5, 4)
    gradients = torch.autograd.grad(attended, (query, key, value), of_attended)
    expected_gradients = torch.autograd.grad(expected, (query, key, value), of_attended)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_attention_drops_weights_with_the_given_probability():
    """Of 200,000 weights: the share has a standard deviation of 0.001."""
    query = key = torch.zeros(5, 4, 100, 4)
    attended = attention(query, key, torch.eye(100).expand(5, 4, 100, 100), 0.1)
    assert (attended == 0).float().mean() == pytest.approx(0.1, abs=0.005)
    assert attended.max() == pytest.approx(0.01 / 0.9, rel=1e-4)


def test_attention_without_dropout_is_torch_s():
    query, key, value = inputs()
    expected = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(attention(query, key, value), expected)
    with torch.inference_mode():
        torch.testing.assert_close(attention(query, key, value), expected)


def test_attention_in_bf16_without_gradients_is_torch_s():
    query, key, value = inputs(dtype=torch.bfloat16)
    expected = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    with torch.inference_mode():
        attended = attention(query, key, value)
    assert attended.dtype == torch.bfloat16
    torch.testing.assert_close(attended.float(), expected, atol=0.03, rtol=0.03)  # weights are rounded to 8 bits


def test_attention_with_dropout_in_bf16_is_that_in_fp32():
    """16 images share an input, whose gradients are sums of 16 parts."""
    rounded = inputs(1, torch.bfloat16)
    exact = [tensor.detach().float().requires_grad_() for tensor in rounded]
    results = []
    for query, key, value in (rounded, exact):
        attended = with_seed(attention, query, key, value, PROBABILITY, 16)
        gradients = torch.autograd.grad(attended.square().sum(), (query, key, value))
        assert {tensor.dtype for tensor in (attended, *gradients)} == {query.dtype}
        results.append((attended.detach(), *gradients))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual.float(), expected, atol=0.02 * float(expected.abs().max()), rtol=0)


# ---- the switch

COMPARE = """
import torch
from torch.nn import functional as F
from mavl.model.cpu_kernels import Dropout, attention

def equal(ours, torchs):
    results = []
    for function in (ours, torchs):
        torch.manual_seed(0)
        results.append(function())
    return torch.equal(*results)

ones, query = torch.ones(3, 4, 50), torch.randn(3, 2, 5, 4)
print(equal(lambda: Dropout(0.5)(ones), lambda: F.dropout(ones, 0.5)))
print(equal(lambda: attention(query, query, query, 0.5),
            lambda: F.scaled_dot_product_attention(query, query, query, dropout_p=0.5)))
shared = query[:1].expand(3, -1, -1, -1)
print(equal(lambda: attention(*[query[:1]] * 3, 0.5, 3),
            lambda: F.scaled_dot_product_attention(shared, shared, shared, dropout_p=0.5)))
"""


def run(switch: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"MAVL_CPU_KERNELS": switch}
    return subprocess.run([sys.executable, "-c", COMPARE], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("switch", "is_torch"), [("0", "True"), ("1", "False")])
def test_the_switch_gives_torch_s_own(switch, is_torch):
    assert run(switch).stdout.split() == [is_torch] * 3


def test_the_switch_takes_no_other_value():
    assert "MAVL_CPU_KERNELS=off; set it to 0 or 1" in run("off").stderr
