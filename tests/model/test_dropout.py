"""Dropout with cheap random numbers: the chances, the seed, and values and gradients by hand."""

import pytest
import torch
from torch import nn

from mavl.model import dropout as module
from mavl.model.dropout import LANES, Dropout, draw_kept, dropout, packed, relu_dropout, unpacked


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("chance", [0.1, 0.5])
def test_as_many_are_dropped_as_asked_for_everywhere(chance):
    """A million values: the share has a standard deviation of at most 0.0005; of each of four lanes, twice that."""
    dropped = draw_kept((10, 100, 1000), round(chance * LANES)).flatten() == 0
    assert dropped.float().mean() == pytest.approx(chance, abs=0.0025)
    for lane in range(4):
        assert dropped[lane::4].float().mean() == pytest.approx(chance, abs=0.005)
    assert (dropped[1:] & dropped[:-1]).float().mean() == pytest.approx(chance**2, abs=0.0025)


def test_the_global_seed_decides_what_is_dropped():
    torch.manual_seed(3)
    first = draw_kept((4, 5, 3), 6554)
    torch.manual_seed(3)
    assert torch.equal(first, draw_kept((4, 5, 3), 6554))
    assert not torch.equal(first, draw_kept((4, 5, 3), 6554))


def test_a_bit_a_value_is_kept_for_the_way_back():
    kept = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 0, 1]], dtype=torch.uint8)
    assert packed(kept).tolist() == [0b10110001, 0b01000000]
    assert torch.equal(unpacked(packed(kept), (2, 5)), kept)


def test_every_row_of_a_batch_is_dropped_from_by_itself():
    row = torch.ones(1, 50, 40)
    for drop in (dropout, relu_dropout):
        first, second = drop(row.expand(2, -1, -1), 0.5)
        assert not torch.equal(first, second)


KEPT = torch.tensor([[1, 0, 1], [1, 1, 0]], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("drop", "expected", "expected_gradient"),
    [
        (dropout, [[2, 0, 6], [-8, 10, 0]], [[2, 0, 2], [2, 2, 0]]),
        (relu_dropout, [[2, 0, 6], [0, 10, 0]], [[2, 0, 2], [0, 2, 0]]),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients(monkeypatch, drop, expected, expected_gradient, dtype):
    """Half of the values dropped, the others doubled; relu takes the -4 as well."""
    rows = iter(KEPT)
    monkeypatch.setattr(module, "draw_kept", lambda shape, dropped: KEPT if len(shape) == 2 else next(rows))
    tensor = torch.tensor([[1.0, 2, 3], [-4, 5, -6]], dtype=dtype, requires_grad=True)
    result = drop(tensor, 0.5)
    assert result.dtype == dtype
    assert result.tolist() == expected
    result.sum().backward()
    assert tensor.grad.tolist() == expected_gradient


def test_nothing_is_dropped_by_chance_zero_or_in_evaluation():
    tensor = torch.tensor([[1.0, -2]])
    assert torch.equal(dropout(tensor, 0.0), tensor)
    assert relu_dropout(tensor, 0.0).tolist() == [[1, 0]]
    assert torch.equal(Dropout(0.5).eval()(tensor), tensor)
    assert isinstance(Dropout(0.5), nn.Dropout)


def test_torch_compile_gets_what_it_can_fuse():
    compiled = torch.compile(lambda tensor: relu_dropout(tensor, 0.5), fullgraph=True, backend="eager")
    assert set(compiled(torch.ones(20, 10)).unique().tolist()) == {0, 2}
