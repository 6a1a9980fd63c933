"""Changes of films: each does what it says, to the pixels that it says, and leaves the size."""

import numpy as np
import pytest
from PIL import Image

from mavl.backbones import Preprocessing
from mavl.data.images.perturb import PERTURBATIONS, PerturbedTransform, mark, mirror, rotate, window
from mavl.data.images.transforms import eval_transform

RAMP = np.tile(np.arange(100, dtype=np.uint8), (100, 1))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_size_and_type_stay_and_something_changes(name):
    changed = PERTURBATIONS[name](RAMP)
    assert (changed.shape, changed.dtype) == (RAMP.shape, RAMP.dtype)
    assert (changed != RAMP).any()


def test_the_window_cuts_five_percent_at_each_end():
    changed = window(RAMP)
    assert (changed[0, :5] == 0).all()
    assert (changed[0, -5:] == 255).all()
    assert (np.diff(changed[0].astype(int)) >= 0).all()
    assert window(np.full((4, 4), 7, np.uint8)).tolist() == [[0] * 4] * 4


def test_the_mirror_is_its_own_inverse_and_the_marker_is_a_white_l():
    assert (mirror(RAMP)[:, 0] == 99).all()
    assert (mirror(mirror(RAMP)) == RAMP).all()
    changed = mark(RAMP)
    assert changed[10, 6] == changed[16, 12] == 255
    assert changed[8, 12] == 12  # inside of the L
    assert (changed[30:] == RAMP[30:]).all()


def test_a_turn_moves_the_corner_and_keeps_the_middle():
    changed = rotate(np.full((101, 101), 200, np.uint8))
    assert changed[50, 50] == 200
    assert changed[0, 0] == 0


def test_the_transform_changes_what_an_evaluation_would_see():
    preprocessing, film = Preprocessing(50), Image.fromarray(RAMP)
    plain = eval_transform(preprocessing).pixels(film)
    assert PerturbedTransform(preprocessing, "flip").pixels(film).equal(plain.flip(-1))
