"""Random operations: magnitudes worked by hand, Pillow and torchvision as references, the chance of each, batches."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mavl.data import phantom
from mavl.data.images import augment
from mavl.data.images.augment import FILL, OPERATIONS, apply_operations, draw_operations

CENTRE = 50  # of the pictures below, 101 × 101
CODES = {name: code for code, name in enumerate(OPERATIONS)}


def batch(*pictures) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures).astype(np.uint8))[:, None]


def dot(x: int = CENTRE, y: int = CENTRE) -> np.ndarray:
    """A white 3 × 3 dot on black, at these coordinates."""
    picture = np.zeros((101, 101))
    picture[y - 1 : y + 2, x - 1 : x + 2] = 255
    return picture


def apply(name: str, picture, sign: int = 1) -> np.ndarray:
    return OPERATIONS[name](batch(np.asarray(picture)), sign)[0, 0].numpy().astype(int)


def place(picture: np.ndarray) -> tuple[float, float]:
    """(x, y) of the dot: centre of mass of what is brighter than the grey fill."""
    pixels = np.where(picture <= FILL, 0, picture).astype(float)
    y, x = np.indices(pixels.shape)
    return (x * pixels).sum() / pixels.sum(), (y * pixels).sum() / pixels.sum()


@pytest.fixture(scope="module")
def films() -> list[np.ndarray]:
    """FinetuneSplits radiographs, not square, one of them dark, and noise."""
    drawn = [phantom.draw(0, number, 96).image[:70] for number in range(3)]
    return [*drawn, drawn[0] // 3 + 20, np.random.default_rng(0).integers(0, 256, (70, 96))]


def test_brightness_is_times_1_36():
    assert apply("brightness", [[0, 100, 150, 200]]).tolist() == [[0, 136, 204, 255]]


def test_autocontrast_stretches_to_the_full_range():
    assert apply("autocontrast", [[50, 100, 150]]).tolist() == [[0, 127, 255]]
    assert apply("autocontrast", [[50, 50]]).tolist() == [[50, 50]]


def test_equalize_spreads_equal_shares_evenly():
    assert np.unique(apply("equalize", np.repeat([10, 20, 30], 510).reshape(3, 510))).tolist() == [0, 128, 255]
    assert apply("equalize", [[50, 50]]).tolist() == [[50, 50]]


def test_sharpness_goes_away_from_the_smoothed_by_1_36():
    picture = np.zeros((7, 7))
    picture[3, 3] = 130  # smoothed by (1 1 1, 1 5 1, 1 1 1) / 13: 50 there and 10 around
    sharper = apply("sharpness", picture)
    assert sharper[3, 3] == pytest.approx(50 + 1.36 * 80, abs=1)
    assert sharper[3, 2] == 0  # 10 - 1.36 × 10 is below black


def test_identity_changes_nothing(films):
    assert np.array_equal(apply("identity", films[0]), films[0])


REFERENCES = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "brightness": lambda image: ImageEnhance.Brightness(image).enhance(1.36),
    "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(1.36),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_values_are_those_of_pillow_on_three_equal_channels(name, films):
    for picture in films:
        colour = np.asarray(REFERENCES[name](Image.fromarray(picture.astype(np.uint8)).convert("RGB")))
        for channel in range(3):
            assert np.array_equal(apply(name, picture), colour[..., channel])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["shear_x", "shear_y", "rotate"])
def test_places_are_those_of_torchvision_within_a_grey_value(name, sign, films):
    """On three equal channels. Pillow cuts the fraction of an interpolated value off; here it is rounded."""
    degrees = sign * math.degrees(math.atan(0.21))
    shear = {"shear_x": [degrees, 0.0], "shear_y": [0.0, degrees]}.get(name, [0.0, 0.0])
    angle = 21.0 * sign if name == "rotate" else 0.0
    for picture in films[:3]:
        image = Image.fromarray(picture).convert("RGB")
        bilinear = InterpolationMode.BILINEAR
        middle = [(side + 1) / 2 for side in image.size] if name == "rotate" else [0.5, 0.5]  # pixels' corners count
        colour = F.affine(image, angle, [0, 0], 1.0, shear, interpolation=bilinear, fill=[128] * 3, center=middle)
        off = np.abs(apply(name, picture, sign)[..., None] - np.asarray(colour).astype(int))
        assert (off <= 1).mean() > 0.97  # at the border torchvision does not blend with the fill


@pytest.mark.parametrize("sign", [1, -1])
def test_translation_is_by_seven_pixels_and_uncovers_grey(sign):
    for name, (x, y) in {"translate_x": (30 + 7 * sign, 20), "translate_y": (30, 20 + 7 * sign)}.items():
        moved = apply(name, dot(30, 20), sign)
        assert place(moved) == pytest.approx((x, y), abs=1e-6)
        strip = moved if name == "translate_x" else moved.T
        uncovered = strip[:, :7] if sign > 0 else strip[:, -7:]
        assert (uncovered == 128).all()
        assert (strip == 128).sum() == 7 * 101


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation_is_by_21_degrees_about_the_centre(sign):
    angle = math.radians(21 * sign)  # clockwise, y pointing down
    turned = apply("rotate", dot(CENTRE + 40, CENTRE), sign)
    fixed = turned.shape[0] / 2
    x, y = CENTRE + 40 - fixed, CENTRE - fixed
    expected = (
        fixed + x * math.cos(angle) - y * math.sin(angle),
        fixed + x * math.sin(angle) + y * math.cos(angle),
    )
    assert place(turned) == pytest.approx(expected, abs=0.1)
    assert turned[0, 0] == 128


@pytest.mark.parametrize(("name", "along"), [("shear_x", 0), ("shear_y", 1)])
def test_shear_moves_by_0_21_of_the_distance_from_the_first_row_or_column(name, along):
    away = (CENTRE, 80) if name == "shear_x" else (80, CENTRE)
    moves = [np.subtract(place(apply(name, dot(*away), sign)), away) for sign in (1, -1)]
    assert sorted(move[along] for move in moves) == pytest.approx([-16.8, 16.8], abs=0.2)  # 0.21 × 80
    assert [move[1 - along] for move in moves] == pytest.approx([0, 0], abs=0.1)
    first = np.random.default_rng(0).integers(0, 256, (40, 40))
    sheared = apply(name, first)
    assert np.array_equal(sheared[0] if name == "shear_x" else sheared[:, 0], first[0] if along == 0 else first[:, 0])


OPPOSITE = {"plus": -1, "minus": 1}  # the release's magnitude says where a pixel comes from


def test_operations_are_the_released_ones(shared):
    goldens = dict(np.load(shared("goldens/augment.npz")))
    film = goldens.pop("film")
    for key, expected in goldens.items():
        name, _, sign = key.rpartition("_") if key.endswith(tuple(OPPOSITE)) else (key, "", "plus")
        off = np.abs(apply(name, film, OPPOSITE[sign]) - expected.astype(int))
        assert off.max() <= (1 if name.startswith(("shear", "rotate")) else 0), key
        assert off.mean() < 0.01


def test_two_operations_are_drawn_evenly_each_applied_half_the_time():
    """Over 4000 images: bounds of four standard deviations. Code 0 is identity, or an operation that is not applied."""
    generator = np.random.default_rng(0)
    codes = np.stack([draw_operations(generator) for _ in range(4000)])
    assert codes.dtype == np.int8
    assert abs((codes == 0).sum() - 8000 * 0.55) < 4 * math.sqrt(8000 * 0.55 * 0.45)
    both = (codes != 0).sum(axis=1)
    expected = 4000 * np.array([0.55**2, 2 * 0.55 * 0.45, 0.45**2])
    assert np.abs(np.bincount(both) - expected).max() < 4 * math.sqrt(4000 / 4)
    for code in range(1, len(OPERATIONS)):
        for sign in (1, -1):
            assert abs((codes == sign * code).sum() - 200) < 4 * math.sqrt(8000 * 0.025)
    assert abs(np.corrcoef(codes.T)[0, 1]) < 4 / math.sqrt(4000)


def test_codes_are_applied_one_after_the_other(monkeypatch):
    first = batch([[1]])
    monkeypatch.setattr(augment, "OPERATIONS", {"none": None, "more": lambda x, sign: x * 10 + sign, "b": None})
    assert apply_operations(first, torch.tensor([[1, -1]], dtype=torch.int8)).item() == (10 + 1) * 10 - 1
    assert apply_operations(first, torch.tensor([[0, 1]], dtype=torch.int8)).item() == 11


def test_a_batch_is_augmented_like_its_images_one_by_one(films):
    pixels = batch(*[films[number % 5] for number in range(40)])
    generator = np.random.default_rng(1)
    codes = torch.from_numpy(np.stack([draw_operations(generator) for _ in range(40)]))
    assert len(codes.unique()) > 12
    untouched = pixels.clone()
    together = apply_operations(pixels, codes)
    assert torch.equal(pixels, untouched)
    assert together.dtype == torch.uint8
    for number in range(40):
        one = slice(number, number + 1)
        assert torch.equal(together[one], apply_operations(pixels[one], codes[one]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_differs_by_a_grey_value_here_and_there(films):
    pixels = batch(*[films[number % 5] for number in range(20)])
    for code in range(-9, 10):
        codes = torch.full((20, 2), code, dtype=torch.int8)
        here, there = apply_operations(pixels, codes), apply_operations(pixels.cuda(), codes).cpu()
        off = (here.int() - there.int()).abs()
        assert off.max() <= 1
        assert (off > 0).float().mean() < 0.01
