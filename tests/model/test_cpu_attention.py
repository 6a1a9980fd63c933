"""Attention on a CPU, image by image, against the same written out for the batch."""

import pytest
import torch
from torch.nn import functional as F

from mavl.model import cpu_attention as module
from mavl.model.cpu_attention import LARGE, attention_by_image, dropout_attention, has_fast_products


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
    kept = (torch.rand(3, 2, 5, 7) > dropout).to(torch.uint8)
    images = iter(kept)
    monkeypatch.setattr(module, "draw_kept", lambda shape, dropped: next(images))
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


def test_equal_ones_of_a_batch_are_each_dropped_from(monkeypatch):
    """Given once for a batch of three, against given three times; the gradients are then the sums over the images."""
    query, key, value = (tensor[:1].detach().requires_grad_() for tensor in tensors())
    kept = (torch.rand(3, 2, 5, 7) > 0.25).to(torch.uint8)
    images = iter(kept)
    monkeypatch.setattr(module, "draw_kept", lambda shape, dropped: next(images))
    came = torch.randn(3, 2, 5, 4)
    expected = written_out(query, key, value, kept, 0.25)
    expected_gradients = torch.autograd.grad(expected, (query, key, value), came)
    actual = dropout_attention(query, key, value, 0.25, batch=3)
    torch.testing.assert_close(actual, expected)
    for gradient, wanted in zip(
        torch.autograd.grad(actual, (query, key, value), came), expected_gradients, strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


def test_bf16_in_bf16_out():
    query, key, value = tensors(torch.bfloat16)
    attended = dropout_attention(query, key, value, 0.1)
    assert attended.dtype == torch.bfloat16
    gradients = torch.autograd.grad(attended.float().sum(), (query, key, value))
    assert all(gradient.dtype == torch.bfloat16 and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_image_it_is_stock_attention(dtype):
    query, key, value = tensors(dtype)
    rounds = dtype == torch.bfloat16  # its weights and sums are rounded to 8 bits
    with torch.inference_mode():
        expected = F.scaled_dot_product_attention(query, key, value)
        torch.testing.assert_close(
            attention_by_image(query, key, value), expected, atol=0.02 if rounds else 1e-6, rtol=1e-5
        )


def test_only_large_attention_in_bf16_without_gradients_goes_by_image():
    large, small = (torch.empty(1, 1, number, 1, dtype=torch.bfloat16) for number in (LARGE, LARGE - 1))
    key = small[:, :, :1]
    with torch.no_grad():
        assert has_fast_products(large, key)
        assert not has_fast_products(small, key)
        assert not has_fast_products(large.float(), key.float())
    assert not has_fast_products(large, key)
