"""Masks from image files: opacity, compression, soft borders, palettes, regions by number."""

import numpy as np
import pytest
from PIL import Image

from mavl.data.images.read import ImageError, read_mask
from tests.support.films import GREY, save_dicom

REGION = np.zeros((20, 30), bool)
REGION[4:9, 7:21] = True


def mask_of(path, image, **options):
    image.save(path, **options)
    return read_mask(path)


def bands(*values):
    """An image of bands, each by the region: (value inside, value outside)."""
    return Image.fromarray(np.stack([np.where(REGION, *each) for each in values], axis=-1).astype(np.uint8))


def test_shared_masks_in_the_alpha_channel(shared):
    for number in range(6):
        image = Image.open(shared(f"cases/mask_in_alpha/masks/a{number}.png"))
        opaque = np.asarray(image.convert("RGBA"))[..., 3] > 127
        found = read_mask(shared(f"cases/mask_in_alpha/masks/a{number}.png"))
        np.testing.assert_array_equal(found, opaque)
        assert 0.05 < found.mean() < 0.1


@pytest.mark.parametrize(
    "image",
    [
        bands((255, 255), (255, 255), (255, 255), (255, 0)),  # white, transparent outside
        bands((255, 255), (255, 0)),
        bands((0, 0), (0, 0), (0, 0), (255, 0)),  # black ink on nothing
        bands((200, 200), (40, 40), (9, 9), (200, 100)),  # half of the range of the opacity
        bands((255, 0), (255, 0), (255, 0), (255, 0)),
        bands((255, 0), (255, 0), (255, 0), (255, 255)),  # all opaque
        bands((255, 0), (0, 0), (0, 0)),  # red, of which the luma is 76
        bands((0, 0), (0, 0), (255, 0)),  # blue: 29
        Image.fromarray(REGION),
        Image.fromarray(REGION.astype(np.uint8)),  # 0 and 1
        Image.fromarray(REGION * np.uint8(100)),
        Image.fromarray(REGION.astype(np.uint16)),
        Image.fromarray(REGION * np.uint16(40_000)),
        Image.fromarray(REGION * np.int32(40_000)),
    ],
)
def test_one_region_in_many_kinds_of_images(tmp_path, image):
    path = tmp_path / ("mask.tif" if image.mode == "I" else "mask.png")
    np.testing.assert_array_equal(mask_of(path, image), REGION)


def test_floats_count_from_half_of_their_largest(tmp_path):
    soft = Image.fromarray(np.array([[0, 0.2, 0.45, 0.5, 0.9]], np.float32))
    assert mask_of(tmp_path / "x.tif", soft).tolist() == [[False, False, False, True, True]]
    with pytest.raises(ImageError, match="not finite"):
        mask_of(tmp_path / "x.tif", Image.fromarray(np.array([[0, np.nan]], np.float32)))


def test_soft_borders_count_from_half_of_the_range(tmp_path):
    soft = Image.fromarray(np.array([[0, 60, 127, 128, 200, 255]], np.uint8))
    assert mask_of(tmp_path / "x.png", soft).tolist() == [[False] * 3 + [True] * 3]
    faint = Image.fromarray(np.array([[0, 40, 50, 51, 100]], np.uint8))
    assert mask_of(tmp_path / "x.png", faint).tolist() == [[False] * 3 + [True] * 2]


def test_regions_by_number_are_united(tmp_path):
    numbers = Image.fromarray(np.array([[0, 1, 2, 15]], np.uint8))
    assert mask_of(tmp_path / "x.png", numbers).tolist() == [[False, True, True, True]]
    soft = Image.fromarray(np.array([[0, 1, 2, 64]], np.uint8))
    assert mask_of(tmp_path / "x.png", soft).tolist() == [[False, False, False, True]]


@pytest.mark.parametrize(("dtype", "number"), [(np.uint8, 20), (np.uint8, 63), (np.uint16, 150), (np.uint16, 1023)])
def test_many_regions_by_number_count_all(tmp_path, dtype, number):
    numbers = np.arange(number + 1, dtype=dtype).repeat(40).reshape(40, -1)
    np.testing.assert_array_equal(mask_of(tmp_path / "x.png", Image.fromarray(numbers)), numbers > 0)


def test_of_1024_values_on_they_are_shades(tmp_path):
    shades = np.arange(1025, dtype=np.uint16).reshape(1, -1).repeat(20, axis=0)
    np.testing.assert_array_equal(mask_of(tmp_path / "x.png", Image.fromarray(shades)), shades > 512)


def test_regions_by_number_on_every_pixel_are_refused(tmp_path):
    with pytest.raises(ImageError, match="a mask of which no pixel is dark"):
        mask_of(tmp_path / "x.png", Image.fromarray(np.arange(1, 151, dtype=np.uint16).reshape(10, 15)))


def test_a_soft_mask_of_16_bits_keeps_half_of_its_range(tmp_path):
    for soft in (np.arange(256, dtype=np.uint16), np.arange(0, 65536, 257).astype(np.uint16)):
        assert mask_of(tmp_path / "x.png", Image.fromarray(soft.reshape(16, 16))).sum() == 128


def test_pixels_to_ignore_beside_regions_lie_outside(tmp_path):
    values = np.array([[0, 1, 1, 20, 255, 0]], np.uint8)
    expected = [[False, True, True, True, False, False]]
    assert mask_of(tmp_path / "x.png", Image.fromarray(values)).tolist() == expected
    labels = Image.fromarray(values)
    labels.putpalette([0, 0, 0, 128, 0, 0] + 18 * [64, 0, 0] + [0, 64, 0] + 234 * [0, 0, 0] + [224, 224, 192])
    assert labels.mode == "P"
    assert mask_of(tmp_path / "x.png", labels).tolist() == expected


@pytest.mark.parametrize(
    ("values", "inside"),
    [
        ([0, 1, 1, 255], [0, 1, 1, 0]),  # one region
        ([0, 63, 255], [0, 1, 0]),
        ([0, 64, 255], [0, 0, 1]),  # shades, which 64 may be
        ([0, 1, 254], [0, 0, 1]),
        ([0, 255, 255], [0, 1, 1]),  # without a region 255 is white
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_255_is_beside_other_values(tmp_path, values, inside, dtype):
    image = Image.fromarray(np.array([values], dtype))
    assert mask_of(tmp_path / "x.png", image).tolist() == [[bool(value) for value in inside]]


@pytest.mark.parametrize(
    "pixels",
    [
        -REGION.astype(np.int32),
        REGION.astype(np.int32) * 5 - 1,
        REGION.astype(np.float32) * 4 - 5,
        -REGION.astype(np.int8),
    ],
)
def test_negative_masks_are_refused(tmp_path, pixels):
    image = Image.fromarray(pixels if pixels.dtype != np.int8 else pixels.view(np.uint8))
    with pytest.raises(ImageError, match="a mask with negative pixels, the least being -"):
        mask_of(tmp_path / "x.tif", image, tiffinfo={339: 2} if pixels.dtype == np.int8 else {})


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_compression_does_not_grow_a_mask(tmp_path, quality):
    inside = np.zeros((64, 64), bool)
    inside[13:41, 18:45] = True
    found = mask_of(tmp_path / "x.jpg", Image.fromarray(inside * np.uint8(255)), quality=quality)
    assert (found != inside).sum() <= 4
    assert not mask_of(tmp_path / "x.jpg", Image.new("L", (9, 9))).any()


def test_compression_that_left_no_region_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"JPEG mask whose brightest value is \d+ of 255: save it as PNG"):
        mask_of(tmp_path / "x.jpg", Image.fromarray(REGION * np.uint8(3)))
    with pytest.raises(ImageError, match="brightest value is 127 of 255"):
        mask_of(tmp_path / "x.jpg", Image.new("L", (8, 8), 127))
    assert mask_of(tmp_path / "x.jpg", Image.new("L", (8, 8), 128)).all()


def palette(colours):
    image = Image.frombytes("P", REGION.shape[::-1], REGION.astype(np.uint8).tobytes())
    image.putpalette([value for colour in colours for value in colour])
    return image


def test_palettes_count_by_their_colours(tmp_path):
    found = mask_of(tmp_path / "x.png", palette([(0, 0, 0), (128, 0, 0)]))
    np.testing.assert_array_equal(found, REGION)
    for colours in ([(255, 255, 255)] * 2, [(200, 200, 200), (255, 255, 255)]):
        with pytest.raises(ImageError, match="a mask of which no pixel is dark"):
            mask_of(tmp_path / "x.png", palette(colours))


def test_a_mask_of_two_light_values_is_refused_and_a_full_one_is_not(tmp_path):
    with pytest.raises(ImageError, match="no pixel is dark"):
        mask_of(tmp_path / "x.png", Image.fromarray(np.where(REGION, 255, 128).astype(np.uint8)))
    assert mask_of(tmp_path / "x.png", Image.new("L", (3, 3), 255)).all()
    assert not mask_of(tmp_path / "x.png", Image.new("RGBA", (3, 3))).any()


def test_masks_are_read_like_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    assert mask_of(tmp_path / "x.png", Image.fromarray(np.array([[0, 0, 9]], np.uint8)), exif=exif).tolist() == [
        [False],
        [False],
        [True],
    ]
    pages = [Image.new("L", (8, 8), value) for value in (0, 255)]
    with pytest.raises(ImageError, match="TIFF with 2 images"):
        mask_of(tmp_path / "x.tif", pages[0], save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="a DICOM file: save the mask as PNG"):
        read_mask(save_dicom(tmp_path / "x.dcm", GREY))
    (tmp_path / "x.png").write_text("GIF89a")
    with pytest.raises(ImageError, match=r"x\.png: no PNG"):
        read_mask(tmp_path / "x.png")
    with pytest.raises(ImageError, match="no such file"):
        read_mask(tmp_path / "y.png")
