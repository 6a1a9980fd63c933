"""Where a heatmap lies over its picture, and what its colours mean."""

import numpy as np
import pytest
import torch
from PIL import Image

from mavl.report.overlay import MIN_SCALE, blend, colour_scale, overlay

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8))
GREY = np.asarray(PICTURE.convert("RGB"))


def peak(row: int, column: int, mass: float = 0.5, size: tuple[int, int] = (4, 4)) -> torch.Tensor:
    """A map with `mass` in one patch and the rest spread evenly."""
    heatmap = torch.full(size, (1 - mass) / (size[0] * size[1] - 1))
    heatmap[row, column] = mass
    return heatmap


def test_an_even_spread_leaves_the_picture_as_it_is():
    assert np.array_equal(np.asarray(blend(PICTURE, torch.full((4, 4), 1 / 16))), GREY)


def test_colour_lies_where_attention_is_above_even():
    changed = (np.asarray(blend(PICTURE, peak(0, 3))) != GREY).any(axis=2)
    assert changed[0, 89]  # the corner patch's centre is on the corner pixel
    assert not changed[:, :45].any()
    assert not changed[40:].any()


def test_the_scale_ends_at_the_maximum_but_not_below_its_least():
    assert colour_scale(peak(1, 1, mass=0.5)) == pytest.approx(8.0)  # half of the mass in one of 16 patches
    assert colour_scale(peak(1, 1, mass=0.07)) == MIN_SCALE


def test_maps_that_are_no_shares_are_taken_as_such():
    assert colour_scale(10 * peak(1, 1)) == pytest.approx(8.0)


@pytest.mark.parametrize("size", [(90, 60), (20, 700), (1, 1), (1500, 1200)])
def test_the_picture_keeps_its_resolution_under_a_line_and_beside_a_bar(size):
    picture = Image.new("L", size, 77)
    drawn = overlay(
        picture, torch.full((2, 2), 0.25), "a finding with a name that is longer than the picture", "12.3 %"
    )
    assert drawn.mode == "RGB"
    assert drawn.width > size[0]
    assert drawn.height > size[1]
    pixels = (np.asarray(drawn) == 77).all(axis=2)
    assert pixels.sum() >= size[0] * size[1]
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if size != (1, 1):  # letters may hold such a grey too
        assert rows[-1] - rows[0] + 1 >= size[1]
        assert columns[-1] - columns[0] + 1 >= size[0]
