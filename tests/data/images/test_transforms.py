"""Transforms: values worked by hand on plain images, and crops that originals, reduced originals and arrays share."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from mavl.backbones import Preprocessing
from mavl.data import phantom
from mavl.data.images.augment import apply_operations
from mavl.data.images.read import ImageFile
from mavl.data.images.transforms import (
    TrainTransform,
    Transform,
    augment_and_normalize,
    crop,
    draw_crop,
    eval_transform,
    normalize,
    resize_bicubic,
)

BLACK = (-2.117904, -2.035714, -1.804444)  # (0 - mean) / std of each channel
WHITE = (2.248908, 2.428571, 2.640000)


def grey(array) -> Image.Image:
    return Image.fromarray(np.asarray(array, dtype=np.uint8))


def noise(width: int = 90, height: int = 70) -> Image.Image:
    return grey(np.random.default_rng(0).integers(0, 256, (height, width)))


def model_input(transform: Transform, image: Image.Image, seed: int = 0) -> torch.Tensor:
    """float [3, S, S] of one item."""
    item = transform.item(image, np.random.default_rng(seed))
    return augment_and_normalize({name: value[None] for name, value in item.items()}, transform.preprocessing)["image"][
        0
    ]


@pytest.mark.parametrize(("value", "expected"), [(0, BLACK), (255, WHITE)])
@pytest.mark.parametrize("size", [224, 64])
def test_a_plain_image_by_hand(value, expected, size):
    image = grey(np.full((50, 80), value))
    for transform in (eval_transform(Preprocessing(size)), TrainTransform(Preprocessing(size), augment=False)):
        tensor = model_input(transform, image)
        assert (tensor.shape, tensor.dtype) == ((3, size, size), torch.float32)
        torch.testing.assert_close(tensor, torch.tensor(expected)[:, None, None].expand(3, size, size))


def test_every_training_image_stays_within_black_and_white():
    transform = TrainTransform(Preprocessing(32))
    for seed in range(30):
        tensor = model_input(transform, noise(), seed)
        assert tensor.shape == (3, 32, 32)
        for channel, low, high in zip(tensor, BLACK, WHITE, strict=True):
            assert low - 1e-5 <= channel.min()
            assert channel.max() <= high + 1e-5


def test_testing_squeezes_the_whole_image_without_cropping():
    """The four corners of a wide image are the four corners of the square."""
    picture = np.zeros((40, 160))
    picture[:20, :80], picture[:20, 80:], picture[20:, :80] = 255, 170, 85
    channel = eval_transform(Preprocessing(32))(grey(picture))[0]
    corners = channel[[0, 0, -1, -1], [0, -1, 0, -1]]
    expected = BLACK[0] + (WHITE[0] - BLACK[0]) * torch.tensor([1, 2 / 3, 1 / 3, 0])
    torch.testing.assert_close(corners, expected, rtol=0, atol=1e-4)
    assert channel[0, 15] > channel[0, 16]  # the middle of the one is the middle of the other


def test_interpolation_is_chosen_by_name():
    bilinear, bicubic = (
        eval_transform(Preprocessing(32))(noise()),
        eval_transform(Preprocessing(32), "bicubic")(noise()),
    )
    assert torch.equal(eval_transform(Preprocessing(32), "bilinear")(noise()), bilinear)
    expected = np.asarray(noise().resize((32, 32), Image.Resampling.BICUBIC)) / 255
    torch.testing.assert_close(bicubic[0], torch.tensor(expected * (WHITE[0] - BLACK[0]) + BLACK[0]).float())
    assert not torch.equal(bilinear, bicubic)


def test_normalised_bytes_are_what_torchvision_makes_of_three_channels():
    image = eval_transform(Preprocessing(32)).pixels(noise())
    assert (image.shape, image.dtype) == ((1, 32, 32), torch.uint8)
    stock = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    assert torch.equal(normalize(image, Preprocessing()), stock(image.expand(3, -1, -1)))
    assert torch.equal(eval_transform(Preprocessing(32))(noise()), normalize(image, Preprocessing()))
    assert torch.equal(normalize(torch.stack([image, image]), Preprocessing())[1], normalize(image, Preprocessing()))


def test_the_crop_takes_a_fifth_to_the_whole_and_flips_half_of_the_time():
    """One ramp along x and one along y tell, for one seed, what part of the image was taken."""
    ramp = np.tile(np.linspace(0, 255, 200), (200, 1))
    transform = TrainTransform(Preprocessing(64), augment=False)
    areas, flips = [], 0
    for seed in range(200):
        spans = []
        for picture in (ramp, ramp.T):
            channel = (model_input(transform, grey(picture), seed)[0] - BLACK[0]) / (WHITE[0] - BLACK[0])
            spans.append((channel.max() - channel.min()).item())
            if picture is ramp:
                flips += int(channel[0, 0] > channel[0, -1])
        areas.append(spans[0] * spans[1])
    assert 0.17 < min(areas) < 0.25
    assert 0.93 < max(areas) <= 1
    assert np.mean(areas) == pytest.approx(0.54, abs=0.06)  # not 0.6: what does not fit is drawn again
    assert abs(flips - 100) < 4 * math.sqrt(200 / 4)


def test_a_seed_decides_and_another_differs():
    transform = TrainTransform(Preprocessing(32))
    drawn = [model_input(transform, noise(), seed) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_a_crop_has_the_area_and_the_shape_that_were_drawn():
    """Against 2000 of torchvision's own RandomResizedCrop: means and spreads of area, shape and place."""
    generator, (width, height) = np.random.default_rng(0), (2544, 3056)
    stock = v2.RandomResizedCrop(224, scale=(0.2, 1.0))
    torch.manual_seed(0)
    drawn = {"own": [], "stock": []}
    for _ in range(2000):
        drawn["own"].append(draw_crop((width, height), 0.2, generator))
        made = stock.make_params([Image.new("1", (width, height))])
        drawn["stock"].append((made["left"], made["top"], made["width"], made["height"]))
    figures = {}
    for name, boxes in drawn.items():
        left, top, w, h = np.array(boxes).T
        assert ((left >= 0) & (top >= 0) & (left + w <= width) & (top + h <= height)).all()
        room = np.maximum(np.stack([width - w, height - h]), 1)
        place = np.stack([left, top]) / room
        figures[name] = np.stack([w * h / (width * height), np.log(w / h), *place])
    bound = 4 * figures["stock"].std(axis=1) * math.sqrt(2 / 2000)
    assert (np.abs(figures["own"].mean(axis=1) - figures["stock"].mean(axis=1)) < bound).all()
    assert figures["own"].std(axis=1) == pytest.approx(figures["stock"].std(axis=1), rel=0.08)


def test_crops_reach_every_border():
    """Of a small image every place is drawn, the last column and row too."""
    generator = np.random.default_rng(0)
    boxes = np.array([draw_crop((6, 5), 0.2, generator) for _ in range(400)])
    left, top, width, height = boxes.T
    assert (left.min(), top.min(), (left + width).max(), (top + height).max()) == (0, 0, 6, 5)
    narrow = boxes[width == 3]
    assert set(narrow[:, 0].tolist()) == {0, 1, 2, 3}
    assert set(boxes[height == 3][:, 1].tolist()) == {0, 1, 2}


def test_an_image_too_narrow_for_any_crop_gives_the_largest_in_its_middle():
    generator = np.random.default_rng(0)
    assert draw_crop((400, 12), 0.9, generator) == (192, 0, 16, 12)  # 12 × 4/3
    assert draw_crop((12, 400), 0.9, generator) == (0, 192, 12, 16)
    assert draw_crop((1, 1), 0.2, generator) == (0, 0, 1, 1)


@pytest.mark.parametrize("size", [64, 224, 30, 33])
@pytest.mark.parametrize(("height", "width"), [(301, 205), (97, 260), (40, 33)])
def test_resizing_is_pillows_antialiased_bicubic(size, height, width):
    """Against Pillow on floats, which rounds nothing, and on bytes."""
    drawn = Image.fromarray(phantom.draw(0, 1, 160).image // 2 + 60)  # no interpolated value is cut at 0 or 255
    film = drawn.resize((width + 3, height + 2), Image.Resampling.BICUBIC)
    pixels = np.asarray(film)[1:-1, 2:-1]  # a part, whose rows do not lie one behind the other
    resized = resize_bicubic(pixels, size).numpy().astype(float)
    exact = Image.fromarray(pixels.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC)
    assert np.abs(resized - np.asarray(exact).clip(0, 255)).max() < 2
    same = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC)).astype(float)
    assert np.abs(resized - same).mean() < 0.25


def test_resizing_keeps_a_flat_image_and_does_not_mix_in_what_lies_beside_it():
    pixels = np.full((90, 130), 200, np.uint8)
    pixels[:, 101:] = 0
    assert (resize_bicubic(pixels[:, :101], 32) == 200).all()


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Image.Image:
    """A JPEG of 1200 × 1000 pixels."""
    path = tmp_path_factory.mktemp("film") / "film.jpg"
    drawn = Image.fromarray(phantom.draw(0, 1, 256).image).resize((1200, 1000), Image.Resampling.BICUBIC)
    drawn.save(path, quality=95)
    return Image.open(path)


class TestReducedDecoding:
    def test_the_resolution_is_the_least_that_is_no_smaller(self, film):
        source = ImageFile(film.filename)
        assert source.size == (1200, 1000)
        shapes = {1: (1000, 1200), 1.9: (1000, 1200), 2: (500, 600), 7.9: (250, 300), 8: (125, 150), 100: (125, 150)}
        for shrink, shape in shapes.items():
            assert source.pixels(shrink).shape == shape
        assert np.array_equal(source.pixels(), np.asarray(film))

    def test_the_same_part_is_shown_as_of_the_whole_image(self, film):
        """From one resolution to the other at most half a pixel of the lower is between two edges."""
        generator, source = np.random.default_rng(0), ImageFile(film.filename)
        used = set()
        for _ in range(25):
            box = draw_crop(film.size, 0.2, generator)
            left, top, width, height = box
            used.add(min(width, height) // 64)
            whole, reduced = (crop(image, box, 64).numpy().astype(float) for image in (film, source))
            elsewhere = crop(film, ((left + 40) % (1201 - width), top, width, height), 64).numpy()
            assert np.abs(whole - reduced).mean() < 4
            assert np.abs(whole - reduced).mean() < np.abs(whole - elsewhere).mean() / 5
        assert min(used) < 8 <= max(used)  # so that at least two resolutions were there

    @pytest.mark.parametrize(("box", "decoded"), [((0, 0, 512, 256), 2), ((0, 0, 256, 512), 2), ((0, 0, 300, 255), 1)])
    def test_the_shorter_side_of_a_crop_decides(self, film, box, decoded):
        """A part of 1 : 2 is decoded so that neither side has fewer pixels than the result."""
        source, shrinks = ImageFile(film.filename), []

        class Spy:
            size = source.size

            def pixels(self, shrink):
                shrinks.append(shrink)
                return source.pixels(shrink)

        found, whole = crop(Spy(), box, 128), crop(film, box, 128)
        assert [source.pixels(shrink).shape[0] for shrink in shrinks] == [1000 // decoded]
        assert (found.float() - whole.float()).abs().mean() < 3

    def test_the_crop_is_drawn_before_anything_is_decoded(self, film):
        """Whatever is decoded, the same seed gives the same part and the same operations."""
        transform, full = TrainTransform(Preprocessing(64), 0.2), Image.fromarray(np.asarray(film))
        for seed in range(6):
            items = [transform.item(image, np.random.default_rng(seed)) for image in (full, ImageFile(film.filename))]
            a, b = (item["image"].float() for item in items)
            assert (a - b).abs().mean() < 6  # operations may make differences larger: equalising, sharpening


class TestOnDevice:
    def test_operations_left_to_the_device_give_the_same_image(self):
        here, there = TrainTransform(Preprocessing(32)), TrainTransform(Preprocessing(32), on_device=True)
        items = [
            [transform.item(noise(), np.random.default_rng(seed)) for seed in range(24)] for transform in (here, there)
        ]
        batch = {name: torch.stack([item[name] for item in items[1]]) for name in ("image", "operations")}
        assert not torch.equal(batch["image"], torch.stack([item["image"] for item in items[0]]))
        finished = augment_and_normalize(batch, Preprocessing(32))
        assert finished.keys() == {"image"}
        assert torch.equal(
            finished["image"], normalize(torch.stack([item["image"] for item in items[0]]), Preprocessing())
        )

    def test_without_operations_none_are_left(self):
        item = TrainTransform(Preprocessing(32), augment=False, on_device=True).item(noise(), np.random.default_rng(0))
        assert item.keys() == {"image"}

    def test_a_batch_of_finished_images_stays_as_it_is(self):
        batch = {"image": torch.rand(2, 3, 8, 8), "labels": torch.ones(2)}
        assert augment_and_normalize(dict(batch), Preprocessing(32))["image"] is batch["image"]


def test_augmentation_is_crop_and_flip_and_then_the_drawn_operations():
    full, plain = TrainTransform(Preprocessing(32)), TrainTransform(Preprocessing(32), augment=False)
    left = TrainTransform(Preprocessing(32), on_device=True)
    differ = 0
    for seed in range(20):
        shown = full.item(noise(), np.random.default_rng(seed))["image"]
        cropped = plain.item(noise(), np.random.default_rng(seed))["image"]
        codes = left.item(noise(), np.random.default_rng(seed))["operations"]
        assert torch.equal(shown, apply_operations(cropped[None], codes[None])[0])
        differ += not torch.equal(shown, cropped)
    assert 5 < differ < 20
