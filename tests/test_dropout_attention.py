"""Attention with dropout, image by image, against the same written out for the batch."""

import pytest
import torch
from torch.nn import functional as F

from mavl import dropout_attention as module
from mavl.dropout_attention import LANES, draw_kept, dropout_attention


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def tensors(dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    sizes = ((3, 2, 5, 4), (3, 2, 7, 4), (3, 2, 7, 4))
    return [torch.randn(size, dtype=dtype).requires_grad_() for size in sizes]


def written_out(query, key, value, kept, dropout):
    weights = (query @ key.mT / 2).softmax(dim=-1)
    return (weights * kept / (1 - dropout)) @ value


def test_values_and_gradients(monkeypatch):
    dropout = 0.25
    query, key, value = tensors()
    kept = torch.rand(3, 2, 5, 7) > dropout
    monkeypatch.setattr(module, "draw_kept", lambda shape, dropped: kept)
    came = torch.randn(3, 2, 5, 4)
    expected = written_out(query, key, value, kept, dropout)
    expected_gradients = torch.autograd.grad(expected, (query, key, value), came)
    actual = dropout_attention(query, key, value, dropout)
    torch.testing.assert_close(actual, expected)
    for gradient, wanted in zip(
        torch.autograd.grad(actual, (query, key, value), came), expected_gradients, strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


def test_without_anything_dropped_it_is_stock_attention():
    query, key, value = tensors()
    expected = F.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(dropout_attention(query, key, value, 0.0), expected)


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_as_many_are_dropped_as_asked_for_everywhere(dropout):
    """A million weights: the share has a standard deviation of at most 0.0005; of each of four lanes, twice that."""
    kept = draw_kept((10, 100, 1000), round(dropout * LANES)).flatten()
    assert (~kept).float().mean() == pytest.approx(dropout, abs=0.0025)
    for lane in range(4):
        assert (~kept[lane::4]).float().mean() == pytest.approx(dropout, abs=0.005)
    neighbours = (~kept[1:] & ~kept[:-1]).float().mean()
    assert neighbours == pytest.approx(dropout**2, abs=0.0025)


def test_the_global_seed_decides_what_is_dropped():
    torch.manual_seed(3)
    first = draw_kept((4, 5, 3), 6554)
    torch.manual_seed(3)
    assert torch.equal(first, draw_kept((4, 5, 3), 6554))
    assert not torch.equal(first, draw_kept((4, 5, 3), 6554))


def test_bf16_in_bf16_out():
    query, key, value = tensors(torch.bfloat16)
    attended = dropout_attention(query, key, value, 0.1)
    assert attended.dtype == torch.bfloat16
    gradients = torch.autograd.grad(attended.float().sum(), (query, key, value))
    assert all(gradient.dtype == torch.bfloat16 and gradient.isfinite().all() for gradient in gradients)
