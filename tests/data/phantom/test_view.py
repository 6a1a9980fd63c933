"""Body coordinates, curves and strokes of phantoms, by hand."""

import numpy as np
import pytest

from mavl.data.phantom.view import Curve, Pose, Strokes, View


def test_pixels_and_body_coordinates_are_inverse():
    view = View(Pose(angle=0.2, scale=1.3, shift_x=0.1, shift_y=-0.2), 40)
    body = np.stack([view.x, view.y], axis=-1)
    columns, rows = np.meshgrid(np.arange(40), np.arange(40))
    np.testing.assert_allclose(view.to_pixels(body), np.stack([columns, rows], axis=-1), atol=1e-4)


def test_a_curve_passes_through_its_knots():
    curve = Curve([-1.0, 0.0, 1.0], [0.0, 0.5, -0.5], smoothing=0.004)
    np.testing.assert_allclose(
        curve(np.array([-5.0, -1.0, -0.5, 0.5, 1.0, 9.0])), [0, 0, 0.25, 0, -0.5, -0.5], atol=0.01
    )


@pytest.mark.parametrize("size", [32, 64, 256])
def test_a_stroke_weighs_the_same_at_every_size(size):
    view = View(Pose(), size)
    line = view.strokes(Strokes.single([(-0.5, 0.0), (0.5, 0.0)], width=0.02))
    assert line.sum() * view.pixel**2 == pytest.approx(0.02, rel=0.3)  # length 1 by width 0.02
