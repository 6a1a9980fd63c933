"""Reading one radiograph as grey, and finding the broken ones among many."""

import subprocess
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageOps

from mavl.data.checks import check_images
from mavl.data.images.read import ImageError, ImageFile, check_image, grey_picture, read_image
from tests.support.films import GREY, pixels_of, save_dicom

# Pillow's formats -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_grey_comes_unchanged_whatever_the_name_says(tmp_path, kind):
    path = tmp_path / "image.jpg"
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(GREY).save(path, kind, **options)
    np.testing.assert_array_equal(pixels_of(path), GREY)
    assert check_image(path, "decode") is None


def test_jpeg_is_read_by_content(tmp_path):
    path = tmp_path / "flat.png"
    Image.new("L", (16, 16), 77).save(path, "JPEG")
    assert (pixels_of(path) == 77).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_every_grey_in_colour_keeps_its_value(tmp_path, mode):
    Image.fromarray(GREY).convert(mode).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "x.png"), GREY)


def test_colour_becomes_luma(tmp_path):
    Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)).save(tmp_path / "x.png")
    # ITU-R 601: 0.299, 0.587 and 0.114 of 255
    np.testing.assert_array_equal(pixels_of(tmp_path / "x.png"), [[76, 150, 29]])


def test_cmyk_becomes_grey(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 55)).save(tmp_path / "x.tif")
    assert (pixels_of(tmp_path / "x.tif") == 200).all()


def test_what_is_transparent_is_black(tmp_path):
    Image.fromarray(np.array([[[200, 255], [200, 0], [200, 51]]], np.uint8), "LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "la.png"), [[200, 0, 40]])

    grey = Image.fromarray(np.array([[10, 20]], np.uint8))
    grey.save(tmp_path / "l.png", transparency=20)
    np.testing.assert_array_equal(pixels_of(tmp_path / "l.png"), [[10, 0]])

    palette = grey.convert("P")
    palette.save(tmp_path / "p.png", transparency=bytes([255] * 10 + [0]))
    np.testing.assert_array_equal(pixels_of(tmp_path / "p.png"), [[0, 20]])


def test_one_bit_becomes_black_and_white(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "x.png")
    np.testing.assert_array_equal(pixels_of(tmp_path / "x.png"), [[255, 0]])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("x.png", "<u2"), ("x.tif", "<u2"), ("x.tif", ">u2"), ("x.tif", "<i4"), ("x.tif", "<f4")],
)
def test_deep_pixels_are_scaled_by_the_images_maximum(tmp_path, name, dtype):
    deep = Image.fromarray(np.array([[0, 1000, 2000, 4000]], dtype))
    assert deep.mode in ("I;16", "I;16B", "I", "F")
    deep.save(tmp_path / name)
    # 255 · 1000 / 4000 = 63.75, 255 · 2000 / 4000 = 127.5, both cut
    np.testing.assert_array_equal(pixels_of(tmp_path / name), [[0, 63, 127, 255]])


def test_deep_black_and_negative_pixels(tmp_path):
    Image.fromarray(np.zeros((2, 2), np.uint16)).save(tmp_path / "black.png")
    assert not pixels_of(tmp_path / "black.png").any()
    Image.fromarray(np.array([[-5.0, -3.0, 3.0]], np.float32)).save(tmp_path / "negative.tif")
    assert pixels_of(tmp_path / "negative.tif").tolist() == [[0, 63, 255]]  # 255 · 2 / 8 = 63.75, cut
    Image.fromarray(np.array([[1.0, np.nan]], np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(ImageError, match="not finite"):
        read_image(tmp_path / "nan.tif")


def test_exif_orientation_is_followed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    Image.fromarray(np.array([[10, 20, 30]], np.uint8)).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(pixels_of(tmp_path / "x.png"), [[10], [20], [30]])


def test_an_opened_image_is_what_its_file_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "x.png"
    Image.fromarray(np.array([[10, 20, 30]], np.uint8)).save(path, exif=exif)
    assert np.array_equal(grey_picture(Image.open(path), "x.png"), read_image(path))
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ImageError, match=r"^cut\.png: "):
        grey_picture(Image.open(path), "cut.png")


@pytest.mark.parametrize("name", ["x.png", "x.jpg"])
def test_broken_exif_does_no_harm(tmp_path, name):
    Image.new("L", (8, 8), 77).save(tmp_path / name, exif=b"Exif\x00\x00junk that is no TIFF")
    assert (pixels_of(tmp_path / name) == 77).all()
    assert ImageFile(tmp_path / name).size == (8, 8)
    assert check_image(tmp_path / name, "decode") is None


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(10))
def test_all_orientations_are_those_of_pillow(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path, options = tmp_path / "x", {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(GREY[:5]).save(path, kind, exif=exif, **options)
    with path.open("rb") as file:  # Pillow 12.3 mistakes height for width in a turned TIFF that it opens by name
        expected = ImageOps.exif_transpose(Image.open(file)).convert("L")
    np.testing.assert_array_equal(pixels_of(path), expected)


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG"])
def test_several_images_in_one_file_are_refused(tmp_path, kind):
    first, *others = (Image.new("L", (8, 8), value) for value in (10, 20, 30))
    first.save(tmp_path / "x", kind, save_all=True, append_images=others)
    for reason in (check_image(tmp_path / "x", "header"), check_image(tmp_path / "x", "decode")):
        assert reason == f"{kind} with 3 images; expected one"


def test_equalize_is_the_interpolated_cumulative_histogram(tmp_path):
    Image.fromarray(np.array([[0, 0, 85, 255]], np.uint8)).save(tmp_path / "x.png")
    # 256 bins of 255/256 over 0..255. 0 lies before the first centre: the share of the first bin, 1/2. 85 lies in
    # bin 85, 5/6 of the way from the centre of bin 84 (share 1/2) to that of bin 85 (3/4): 17/24. 255 lies after the
    # last: 1. Times 255, cut: 127.5, 180.6, 255.
    np.testing.assert_array_equal(pixels_of(tmp_path / "x.png", equalize=True), [[127, 127, 180, 255]])


# Broken files ---------------------------------------------------------------------------------------------------------


def test_broken_files_are_named_on_one_line(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "text.dcm").write_text("<!DOCTYPE html>\n" + "x" * 400)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gif.png").write_bytes(b"GIF89a" + bytes(100))
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere")
    expected = {
        "missing.png": "no such file",
        "broken.png": "no such file",
        "empty.png": "empty (0 bytes)",
        "folder.png": "a folder",
        "text.png": "begins with b'version https://git-lfs.",
        "text.dcm": "neither an image nor DICOM",
        "gif.png": "no PNG, JPEG, BMP, TIFF, WEBP or DICOM",
    }
    for name, reason in expected.items():
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
        assert reason in check_image(tmp_path / name, "header")


def test_forbidden_files_are_named(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(13, "Permission denied", str(path))

    Image.fromarray(GREY).save(tmp_path / "x.png")
    monkeypatch.setattr("io.open", refuse)  # a test may run as root, whom no mode keeps out
    with pytest.raises(ImageError, match=r"x\.png: permission denied$"):
        read_image(tmp_path / "x.png")


WARNING_FREE = """
import sys
from PIL import Image
from mavl.data.checks import check_images
Image.MAX_IMAGE_PIXELS = 200
print(*check_images(sys.argv[1:], "decode", workers=4, progress=False).values(), sep="\\n")
"""


def test_no_warning_leaks(tmp_path):
    path = save_dicom(tmp_path / "x.dcm", GREY, PixelData=bytes(400), NumberOfFrames="1")  # 256 are needed
    with pytest.warns(UserWarning, match="144 bytes of excess padding"):
        pydicom.dcmread(path).pixel_array  # noqa: B018, decodes
    truncated = tmp_path / "y.dcm"
    truncated.write_bytes(path.read_bytes()[:-200])
    Image.fromarray(GREY).save(tmp_path / "large.png")
    files = [path, truncated, tmp_path / "large.png"] * 20
    command = [sys.executable, "-W", "always", "-c", WARNING_FREE, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["truncated: 200 of 400 bytes of pixel data"] * 20


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_truncated_images_are_found_by_the_header(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    path = tmp_path / "x"
    Image.fromarray(noise).save(path, kind)
    whole = path.read_bytes()
    assert check_image(path, "header") is None
    for length in [1, 10, 40, 500, len(whole) // 2, len(whole) - 200, len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert check_image(path, "header"), f"{length} of {len(whole)} bytes"


def test_real_jpegs_truncated_anywhere_are_found_by_the_header(shared, tmp_path):
    cut = tmp_path / "cut.jpg"
    for path in sorted(shared("data/nih/images").iterdir())[:2]:
        assert check_image(path, "header") is None
        whole = path.read_bytes()
        lengths = [*range(1, len(whole), 997), 2, 20, 600, len(whole) - 2, len(whole) - 1]
        for length in lengths:
            cut.write_bytes(whole[:length])
            assert check_image(cut, "header"), f"{length} of {len(whole)} bytes of {path.name}"


def test_padding_after_a_jpeg_is_no_damage(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(GREY).save(path)
    whole = path.read_bytes()
    for trailer in (bytes(300), b"\x00\x01 a vendor's footer" * 100):
        path.write_bytes(whole + trailer)
        assert check_image(path, "header") is None
        assert check_image(path, "decode") is None


@pytest.mark.parametrize("progressive", [False, True])
def test_the_end_of_a_thumbnail_is_not_that_of_its_jpeg(tmp_path, progressive):
    noise, path = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8), tmp_path / "x.jpg"
    Image.fromarray(noise).save(path, exif=b"Exif\x00\x00\xff\xd8 thumbnail \xff\xd9", progressive=progressive)
    whole = path.read_bytes()
    path.write_bytes(whole + 600 * b"x")
    assert check_image(path, "header") is None
    for length in range(30, len(whole) - 1, 7):
        path.write_bytes(whole[:length] + 600 * b"x")
        assert check_image(path, "header"), f"{length} of {len(whole)} bytes"


def test_a_flipped_byte_in_a_png_is_found_by_the_header(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(GREY).save(path)
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    assert check_image(path, "header")
    assert check_image(path, "exists") is None


def test_many_are_checked_by_position(tmp_path, capsys):
    good, empty = tmp_path / "good.png", tmp_path / "empty.png"
    Image.fromarray(GREY).save(good)
    empty.touch()
    paths = [good] * 300
    paths[7], paths[150], paths[299] = empty, tmp_path / "gone.png", tmp_path
    expected = {7: "empty (0 bytes)", 150: "no such file", 299: "a folder, not an image"}
    for level in ("exists", "header", "decode"):
        found = check_images(paths, level, workers=3, progress=False)
        assert found == expected
        assert list(found) == sorted(found)
    assert check_images([], "header", workers=2, progress=False) == {}
    assert capsys.readouterr().err == ""
    check_images(paths, "exists", workers=0, progress=True)
    assert "300/300" in capsys.readouterr().err


# Pictures that are decoded later --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "deep.png", "colour.jpg", "turned.jpg", "x.dcm"])
@pytest.mark.parametrize("equalize", [False, True])
def test_a_picture_in_full_is_the_image(tmp_path, name, equalize):
    path, grey = tmp_path / name, np.random.default_rng(0).integers(0, 200, (40, 60), dtype=np.uint8)
    if name == "x.dcm":
        save_dicom(path, grey)
    elif name == "deep.png":
        Image.fromarray(grey.astype(np.uint16) * 100).save(path)
    elif name == "colour.jpg":
        Image.merge("RGB", [Image.fromarray(np.roll(grey, shift)) for shift in (0, 1, 2)]).save(path)
    elif name == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6  # a quarter turn
        Image.fromarray(grey).save(path, exif=exif)
    else:
        Image.fromarray(grey).save(path)
    picture, image = ImageFile(path, equalize=equalize), read_image(path, equalize=equalize)
    assert picture.size == image.size == ((40, 60) if name == "turned.jpg" else (60, 40))
    assert np.array_equal(picture.pixels(), image)
    if name in ("x.jpg", "colour.jpg") and not equalize:
        assert picture.pixels(4.5).shape == (10, 15)
        blocks = np.asarray(image).astype(float).reshape(10, 4, 15, 4).mean(axis=(1, 3))
        assert np.abs(picture.pixels(4) - blocks).mean() < 3
    else:
        assert np.array_equal(picture.pixels(4), image)


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    path = tmp_path / "x.jpg"
    with pytest.raises(ImageError, match=r"x.jpg: no such file"):
        ImageFile(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ImageError, match=r"x.jpg: cannot be decoded: .*truncated"):
        ImageFile(path).pixels(2)
