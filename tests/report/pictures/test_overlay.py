"""Where a heatmap lies over its picture, and what its colours mean."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from mavl.report.pictures.overlay import LONGEST, STRONGEST, blend, overlay, reduced

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


def colour(mass: float, probability: float = 1.0, factor: float = 1.0) -> np.ndarray:
    """The colour over black at the centre of a patch with this mass, of 16."""
    black = Image.new("L", (41, 41))
    return np.asarray(blend(black, factor * peak(0, 0, mass=mass), probability=probability))[0, 0].astype(int)


def test_one_scale_for_all_maps():
    """A patch at 8 times the even share has the last colour, whatever the rest of the map is; double of it no other."""
    last = np.array(colormaps["plasma"](255)[:3]) * 255 * 0.6
    assert STRONGEST == 8
    np.testing.assert_allclose(colour(0.5), last, atol=2)
    np.testing.assert_array_equal(colour(1.0), colour(0.5))
    np.testing.assert_array_equal(colour(0.5, factor=10), colour(0.5))  # maps that do not sum to 1 are taken as shares
    two = np.array(colormaps["plasma"](85)[:3]) * 255 * 0.6 * np.sqrt(1 / 3)
    np.testing.assert_allclose(colour(2 / 16), two, atol=2)  # one of three doublings
    np.testing.assert_array_equal(colour(1 / 16), 0)


def test_the_colour_is_faint_where_the_probability_is_low():
    full = colour(0.5)
    np.testing.assert_allclose(colour(0.5, probability=0.5), full / 2, atol=1.5)
    np.testing.assert_allclose(colour(0.5, probability=0.956), full * 0.956, atol=1.5)
    np.testing.assert_allclose(colour(0.5, probability=0.025), full / 10, atol=1.5)
    np.testing.assert_array_equal(colour(0.5, probability=0.0), colour(0.5, probability=0.1))


@pytest.mark.parametrize(("size", "expected"), [((100, 400), (75, 300)), ((1, 4000), (1, 300)), ((300, 20), (300, 20))])
def test_reduced_pictures(size, expected):
    assert reduced(Image.new("L", size), 300).size == expected


def test_overlays_of_strips_and_of_large_films_are_bounded():
    for size in ((1, 100_000), (100_000, 1), (5000, 4000)):
        drawn = overlay(Image.new("L", size), torch.full((2, 2), 0.25), "long", "12.3 %")
        assert max(drawn.size) <= LONGEST + 600


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


def test_the_labels_of_the_bar_are_evenly_spaced_from_its_bottom_to_its_top():
    """1x, 2x, 4x and 8x, as the colours are those of a logarithm."""
    drawn = overlay(Image.new("L", (400, 800)), torch.full((2, 2), 0.25), "mass", "12.3 %")
    pixels = np.asarray(drawn).astype(int)
    frame = (pixels == (165, 170, 175)).all(axis=2)  # of the bar, beside the picture and above the last line of text
    rows, columns = np.nonzero(frame[:-25] & (np.arange(drawn.width) > 400))
    top, bottom, right = rows.min(), rows.max(), columns.max()
    np.testing.assert_allclose(pixels[bottom - 1, right - 3], np.array(colormaps["plasma"](0)[:3]) * 255, atol=2)
    np.testing.assert_allclose(pixels[top + 1, right - 3], np.array(colormaps["plasma"](255)[:3]) * 255, atol=2)
    text = np.flatnonzero((pixels[top - 8 : bottom + 9, right + 1 :] > 100).all(axis=2).any(axis=1)) + top - 8
    labels = np.split(text, np.flatnonzero(np.diff(text) > 1) + 1)
    middles = [(label[0] + label[-1]) / 2 for label in labels]
    np.testing.assert_allclose(middles, np.linspace(top, bottom, 4), atol=3)
