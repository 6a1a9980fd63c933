"""Transforms: values worked by hand on plain images, and the magnitude and chance of every random operation."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from mavl.data import transforms
from mavl.data.transforms import OPERATIONS, RandomOperations, eval_transform, train_transform

BLACK = (-2.117904, -2.035714, -1.804444)  # (0 - mean) / std of each channel
WHITE = (2.248908, 2.428571, 2.640000)
CENTRE = 50  # of the pictures below, 101 × 101


def grey(array) -> Image.Image:
    return Image.fromarray(np.asarray(array, dtype=np.uint8))


def dot(x: int = CENTRE, y: int = CENTRE) -> Image.Image:
    """A white 3 × 3 dot on black, at these coordinates."""
    picture = np.zeros((101, 101))
    picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    return grey(picture)


def place(image: Image.Image) -> tuple[float, float]:
    """(x, y) of the dot: centre of mass of what is brighter than the grey fill."""
    pixels = np.asarray(image).astype(float)
    pixels[pixels <= transforms.FILL] = 0
    y, x = np.indices(pixels.shape)
    return (x * pixels).sum() / pixels.sum(), (y * pixels).sum() / pixels.sum()


def noise(width: int = 90, height: int = 70) -> Image.Image:
    return grey(np.random.default_rng(0).integers(0, 256, (height, width)))


def apply(name: str, array, sign: int = 1) -> np.ndarray:
    return np.asarray(OPERATIONS[name](grey(array), sign)).astype(int)


@pytest.mark.parametrize(("value", "expected"), [(0, BLACK), (255, WHITE)])
@pytest.mark.parametrize("size", [224, 64])
def test_a_plain_image_by_hand(value, expected, size):
    image = grey(np.full((50, 80), value))
    for transform in (eval_transform(size), train_transform(size, augment=False)):
        tensor = transform(image)
        assert (tensor.shape, tensor.dtype) == ((3, size, size), torch.float32)
        torch.testing.assert_close(tensor, torch.tensor(expected)[:, None, None].expand(3, size, size))


def test_every_training_image_stays_within_black_and_white():
    transform = train_transform(32)
    for seed in range(30):
        torch.manual_seed(seed)
        tensor = transform(noise())
        assert tensor.shape == (3, 32, 32)
        for channel, low, high in zip(tensor, BLACK, WHITE, strict=True):
            assert low - 1e-5 <= channel.min()
            assert channel.max() <= high + 1e-5


def test_testing_squeezes_the_whole_image_without_cropping():
    """The four corners of a wide image are the four corners of the square."""
    picture = np.zeros((40, 160))
    picture[:20, :80], picture[:20, 80:], picture[20:, :80] = 255, 170, 85
    channel = eval_transform(32)(grey(picture))[0]
    corners = channel[[0, 0, -1, -1], [0, -1, 0, -1]]
    expected = BLACK[0] + (WHITE[0] - BLACK[0]) * torch.tensor([1, 2 / 3, 1 / 3, 0])
    torch.testing.assert_close(corners, expected, rtol=0, atol=1e-4)
    assert channel[0, 15] > channel[0, 16]  # the middle of the one is the middle of the other


def test_interpolation_is_chosen_by_name():
    bilinear, bicubic = eval_transform(32)(noise()), eval_transform(32, "bicubic")(noise())
    assert torch.equal(eval_transform(32, "bilinear")(noise()), bilinear)
    expected = np.asarray(noise().resize((32, 32), Image.Resampling.BICUBIC)) / 255
    torch.testing.assert_close(bicubic[0], torch.tensor(expected * (WHITE[0] - BLACK[0]) + BLACK[0]).float())
    assert not torch.equal(bilinear, bicubic)


def test_brightness_is_times_1_36():
    assert apply("brightness", [[0, 100, 150, 200]]).tolist() == [[0, 136, 204, 255]]


def test_autocontrast_stretches_to_the_full_range():
    assert apply("autocontrast", [[50, 100, 150]]).tolist() == [[0, 127, 255]]


def test_equalize_spreads_equal_shares_evenly():
    assert np.unique(apply("equalize", np.repeat([10, 20, 30], 510).reshape(3, 510))).tolist() == [0, 128, 255]


def test_sharpness_goes_away_from_the_smoothed_by_1_36():
    picture = np.zeros((7, 7))
    picture[3, 3] = 130  # smoothed by (1 1 1, 1 5 1, 1 1 1) / 13: 50 there and 10 around
    sharper = apply("sharpness", picture)
    assert sharper[3, 3] == pytest.approx(50 + 1.36 * 80, abs=1)
    assert sharper[3, 2] == 0  # 10 - 1.36 × 10 is below black


def test_identity_changes_nothing():
    assert np.array_equal(apply("identity", noise()), np.asarray(noise()))


@pytest.mark.parametrize("sign", [1, -1])
def test_translation_is_by_seven_pixels_and_uncovers_grey(sign):
    for name, (x, y) in {"translate_x": (30 + 7 * sign, 20), "translate_y": (30, 20 + 7 * sign)}.items():
        moved = OPERATIONS[name](dot(30, 20), sign)
        assert place(moved) == pytest.approx((x, y), abs=1e-6)
        strip = np.asarray(moved) if name == "translate_x" else np.asarray(moved).T
        uncovered = strip[:, :7] if sign > 0 else strip[:, -7:]
        assert (uncovered == 128).all()
        assert (strip == 128).sum() == 7 * 101


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation_is_by_21_degrees_about_the_centre(sign):
    angle = math.radians(21 * sign)  # clockwise, y pointing down
    turned = OPERATIONS["rotate"](dot(CENTRE + 40, CENTRE), sign)
    expected = (CENTRE + 40 * math.cos(angle), CENTRE + 40 * math.sin(angle))
    assert place(turned) == pytest.approx(expected, abs=0.5)
    assert np.asarray(turned)[0, 0] == 128


@pytest.mark.parametrize(("name", "along"), [("shear_x", 0), ("shear_y", 1)])
def test_shear_moves_by_0_21_of_the_distance_along_one_axis(name, along):
    away = (CENTRE, CENTRE + 40) if name == "shear_x" else (CENTRE + 40, CENTRE)
    moves = [np.subtract(place(OPERATIONS[name](dot(*away), sign)), away) for sign in (1, -1)]
    assert sorted(move[along] for move in moves) == pytest.approx([-8.4, 8.4], abs=0.5)
    assert [move[1 - along] for move in moves] == pytest.approx([0, 0], abs=0.5)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [1, -1])
def test_an_operation_on_grey_equals_it_on_three_equal_channels(name, sign):
    image = noise()
    colour = np.asarray(OPERATIONS[name](image.convert("RGB"), sign))
    for channel in range(3):
        assert np.array_equal(colour[..., channel], np.asarray(OPERATIONS[name](image, sign)))


def test_a_grey_image_equals_its_rgb_copy_to_the_end():
    image = noise()
    torch.testing.assert_close(eval_transform(32)(image), eval_transform(32)(image.convert("RGB")), rtol=0, atol=0)
    for seed in range(5):
        torch.manual_seed(seed)
        one = train_transform(32)(image)
        torch.manual_seed(seed)
        torch.testing.assert_close(one, train_transform(32)(image.convert("RGB")), rtol=0, atol=0)


def test_two_operations_are_drawn_evenly_each_applied_half_the_time(monkeypatch):
    """Over 4000 images: bounds of four standard deviations."""
    calls = []

    def recorder(name):
        return lambda image, sign: calls.append((name, sign)) or image

    monkeypatch.setattr(transforms, "OPERATIONS", {name: recorder(name) for name in OPERATIONS})
    operations, applied = RandomOperations(), []
    torch.manual_seed(0)
    for _ in range(4000):
        calls.clear()
        operations(None)
        applied.append(list(calls))
    numbers = np.bincount([len(each) for each in applied])
    assert np.abs(numbers - np.array([1000, 2000, 1000])).max() < 4 * math.sqrt(4000 / 4)
    every = [call for each in applied for call in each]
    for name in OPERATIONS:
        assert abs(sum(called == name for called, _ in every) - 400) < 4 * math.sqrt(8000 * 0.05 * 0.95)
    assert abs(sum(sign for _, sign in every)) < 4 * math.sqrt(len(every))


def test_the_crop_takes_a_fifth_to_the_whole_and_flips_half_of_the_time():
    """One ramp along x and one along y tell, for one seed, what part of the image was taken."""
    ramp = np.tile(np.linspace(0, 255, 200), (200, 1))
    transform = train_transform(64, augment=False)
    areas, flips = [], 0
    for seed in range(200):
        spans = []
        for picture in (ramp, ramp.T):
            torch.manual_seed(seed)
            channel = (transform(grey(picture))[0] - BLACK[0]) / (WHITE[0] - BLACK[0])
            spans.append((channel.max() - channel.min()).item())
            if picture is ramp:
                flips += int(channel[0, 0] > channel[0, -1])
        areas.append(spans[0] * spans[1])
    assert 0.17 < min(areas) < 0.25
    assert 0.95 < max(areas) <= 1
    assert np.mean(areas) == pytest.approx(0.6, abs=0.06)
    assert abs(flips - 100) < 4 * math.sqrt(200 / 4)


def test_a_seed_decides_and_another_differs():
    transform = train_transform(32)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(transform(noise()))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_without_augmentation_only_crop_and_flip_remain():
    names = [type(step).__name__ for step in train_transform(32, augment=False).transforms]
    assert "RandomOperations" not in names
    assert "RandomOperations" in [type(step).__name__ for step in train_transform(32).transforms]
