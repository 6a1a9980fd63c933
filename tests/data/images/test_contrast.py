"""No film loses its contrast without a word: wrong windows, tables, bits and signs in DICOM, deep PNG and TIFF."""

import struct
import zlib

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from mavl.data.images.read import ImageError, check_image, read_image
from tests.support.films import pixels_of, save_dicom

FILM = np.hypot(*np.mgrid[-40:40, -30:30])
FILM = np.rint(FILM / FILM.max() * 4000).astype(np.uint16)
"""A smooth film of 12 bits, 0..4000."""

GREY = np.rint(FILM * 255.0 / 4000).astype(np.uint8)


def film(path, pixels=FILM, bits=12, **elements):
    return save_dicom(path / "x.dcm", pixels, bits=bits, **elements)


def same(path, expected=GREY):
    assert check_image(path, "header") is None
    np.testing.assert_array_equal(pixels_of(path), expected)


@pytest.mark.parametrize("case", ["dicom_bits_stored_10/bits10", "dicom_rescale_empty/empty"])
@pytest.mark.parametrize("other", ["dicom_window_outside/above", "dicom_window_outside/below"])
def test_shared_cases_show_the_film(shared, case, other):
    good = pixels_of(shared("cases/dicom_window_outside/good.dcm"))
    for name in (case, other):
        same(shared(f"cases/{name}.dcm"), good if "bits" not in name else pixels_of(shared(f"cases/{name}.dcm")))
    bits = pixels_of(shared("cases/dicom_bits_stored_10/bits10.dcm")).astype(float)
    assert np.corrcoef(bits.ravel(), good.ravel())[0, 1] > 0.999


def test_the_header_check_passes_only_what_is_decoded(shared):
    path = shared("cases/header_passes_decode_fails/rescale_empty.dcm")
    assert check_image(path, "header") is check_image(path, "decode") is None


@pytest.mark.parametrize(
    ("centre", "width", "shape"),
    [
        (-5000, 100, "LINEAR"),
        (60000, 100, "LINEAR"),
        (60000, 100, "LINEAR_EXACT"),
        (60000, 100, "SIGMOID"),
        (2000, 1, "LINEAR"),  # black and white
        (2000, 1, "LINEAR_EXACT"),
        (32768, 65536, "LINEAR"),  # 4000 / 65536 of the grey levels
        ("", "", "LINEAR"),
        ("nan", "100", "LINEAR"),
    ],
)
def test_a_window_without_contrast_gives_way_to_the_range_of_the_film(tmp_path, centre, width, shape):
    path = film(tmp_path, WindowCenter=None, WindowWidth=None, VOILUTFunction=shape)
    dataset = pydicom.dcmread(path)
    for keyword, value in (("WindowCenter", centre), ("WindowWidth", width)):
        dataset[keyword]._value = str(value)
    dataset.save_as(path)
    same(path)


def test_a_window_of_a_tenth_of_the_values_counts(tmp_path):
    stored = np.arange(0, 2000, 10, dtype=np.uint16).reshape(10, 20)
    found = pixels_of(save_dicom(tmp_path / "x", stored, bits=12, WindowCenter=1000.5, WindowWidth=201))  # 900..1100
    assert found[stored <= 900].max() == 0
    assert found[stored >= 1100].min() == 255
    assert found[stored == 1000].tolist() == [128]  # 127.5, to even


@pytest.mark.parametrize("shape", ["SIGMOID", "LINEAR_EXACT"])
def test_windows_of_other_shapes(tmp_path, shape):
    stored = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)
    elements = {"WindowCenter": 2000, "WindowWidth": 4000, "VOILUTFunction": shape}
    expected = {"LINEAR_EXACT": [0, 64, 128, 191, 255], "SIGMOID": [30, 69, 128, 186, 225]}  # 255 / (1 + e**±2, ±1)
    assert pixels_of(save_dicom(tmp_path / "x", stored, bits=12, **elements)).tolist() == [expected[shape]]


@pytest.mark.parametrize(("slope", "intercept"), [("0", "0"), ("0", "-1024"), (None, "5"), (None, None), ("nan", "0")])
def test_a_slope_that_is_none_changes_nothing(tmp_path, slope, intercept):
    path = film(tmp_path, RescaleSlope=None, RescaleIntercept=None)
    dataset = pydicom.dcmread(path)
    for keyword, value in (("RescaleSlope", slope), ("RescaleIntercept", intercept)):
        dataset[keyword]._value = value
    dataset.save_as(path)
    same(path)


@pytest.mark.parametrize("missing", ["RescaleSlope", "RescaleIntercept"])
def test_a_slope_and_an_intercept_count_alone(tmp_path, missing):
    rescale = {"RescaleSlope": "-1", "RescaleIntercept": "4000"}
    rescale.pop(missing)
    found = pixels_of(film(tmp_path, **rescale)).astype(int)
    assert np.abs(found - (255 - GREY.astype(int) if missing == "RescaleIntercept" else GREY)).max() <= 1


def lut(keyword, entries, first=0, depth=16, descriptor=None):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US" if first >= 0 else "SS", descriptor or [len(entries), first, depth])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return {keyword: pydicom.Sequence([item])}


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("depth", [12, 16])
def test_a_table_of_values_counts(tmp_path, keyword, depth):
    stored = np.array([[10, 11, 12, 13, 90]], np.uint16)
    table = lut(keyword, [0, 400, 100, 1000], first=10, depth=depth)
    path = save_dicom(tmp_path / "x", stored, bits=12, **table)  # 90 takes the last value
    same(path, [[0, 102, 26, 255, 255]])


def test_a_window_goes_before_a_table_unless_it_is_outside(tmp_path):
    stored = np.array([[10, 11, 12, 13]], np.uint16)
    table = lut("VOILUTSequence", [0, 400, 100, 1000], first=10)
    window = {"WindowCenter": "12", "WindowWidth": "4"}  # 10..13
    same(save_dicom(tmp_path / "x", stored, bits=12, **table, **window), [[0, 85, 170, 255]])
    window["WindowCenter"] = "500"
    same(save_dicom(tmp_path / "x", stored, bits=12, **table, **window), [[0, 102, 26, 255]])


@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_that_is_cut_short_is_refused_by_the_header_check_too(tmp_path, keyword):
    path = film(tmp_path, **lut(keyword, [0, 400], descriptor=[4096, 0, 16]))
    assert f"{keyword} has" in check_image(path, "header")
    with pytest.raises(ImageError, match=keyword):
        read_image(path)


@pytest.mark.parametrize("keyword", ["PixelRepresentation", "BitsStored", "BitsAllocated", "Columns"])
@pytest.mark.parametrize("value", [None, 7, 0])
def test_header_and_decoding_agree_on_odd_elements(tmp_path, keyword, value):
    path = film(tmp_path, **{keyword: value}) if value is not None else film(tmp_path, drop=(keyword,))
    assert (check_image(path, "header") is None) == (check_image(path, "decode") is None)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("bits", [8, 10, 11])
def test_bits_above_bits_stored_belong_to_the_film(tmp_path, bits, syntax):
    dataset = pydicom.dcmread(film(tmp_path, syntax=syntax))
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.save_as(tmp_path / "x.dcm")
    same(tmp_path / "x.dcm")


def test_bits_above_bits_stored_may_be_stray_or_an_overlay(tmp_path):
    stray = FILM.copy()
    stray[0, 0] += 1 << 12  # one pixel of 4800
    same(film(tmp_path, stray))
    marked = FILM | np.where(FILM % 3 == 0, 1 << 15, 0).astype(np.uint16)
    same(film(tmp_path, marked))  # the bit makes neighbours jump: it is no part of the film
    path = film(tmp_path, FILM)
    dataset = pydicom.dcmread(path)
    dataset.BitsStored, dataset.HighBit = 11, 10
    dataset.add_new((0x6000, 0x0102), "US", 11)
    dataset.save_as(path)
    assert (np.diff(pixels_of(path)[40].astype(int)) < -100).any()  # its 11 bits, cut as the header says


def test_a_wrong_sign_in_the_header_does_no_harm(tmp_path):
    signed = (FILM.astype(np.int32) - 1000).astype(np.int16)
    same(film(tmp_path, signed.view(np.uint16), bits=16))  # -1000 would be 64536
    same(film(tmp_path, (FILM * 16).view(np.int16), bits=16))  # 64000 would be -1536
    same(film(tmp_path, FILM.view(np.int16), bits=12))  # 12 bits of which the highest would be a sign
    same(film(tmp_path, signed, bits=12))  # a right one
    same(film(tmp_path, (signed - 1000) & 0xFFF, bits=12))  # -2000..2000, the sign not repeated in the bits above


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("by_header", [False, True])
def test_the_sign_of_the_codestream_counts(tmp_path, signed, by_header):
    pixels = (FILM.astype(np.int32) - 1000 * signed).astype(np.int16 if signed else np.uint16)
    dataset = pydicom.dcmread(film(tmp_path, pixels, bits=13))
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    dataset.PixelRepresentation = int(by_header)
    dataset.save_as(tmp_path / "x.dcm")
    same(tmp_path / "x.dcm")


CODERS = pytest.mark.parametrize(("syntax", "plugin"), [(JPEG2000Lossless, "pylibjpeg"), (JPEGLSLossless, "pyjpegls")])


def compressed(folder, syntax, plugin, **changed):
    """The film as a codestream beside elements that differ from it."""
    dataset = pydicom.dcmread(film(folder))
    dataset.compress(syntax, encoding_plugin=plugin)
    for name, value in changed.items():
        setattr(dataset, name, value)
    dataset.save_as(folder / "x.dcm")
    return folder / "x.dcm"


@CODERS
def test_the_depth_of_the_codestream_counts(tmp_path, syntax, plugin):
    same(compressed(tmp_path, syntax, plugin, BitsStored=10, HighBit=9))


@CODERS
def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(tmp_path, syntax, plugin):
    path = compressed(tmp_path, syntax, plugin, Rows=79)
    reason = "DICOM of 60 x 79 pixels, whose compressed image has 60 x 80"
    assert check_image(path, "header") == reason == check_image(path, "decode")


def test_padding_beyond_the_type_of_the_pixels(tmp_path):
    signed = np.array([[-2000, 1000, 1001, 1004]], np.int16)
    path = save_dicom(tmp_path / "x", signed)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 63536)  # the bits of -2000
    dataset.save_as(path)
    same(path, [[0, 0, 64, 255]])
    grey = np.array([[44, 100, 200, 250]], np.uint8)
    same(save_dicom(tmp_path / "x", grey, PixelPaddingValue=300), grey)  # 300 - 256 is 44


def test_a_bare_explicit_file_of_12_bits_is_little_endian(tmp_path):
    path = save_dicom(tmp_path / "x.dcm", np.array([[0, 1, 256, 1000]], np.uint16), bits=12, bare=True)
    same(path, [[0, 0, 65, 255]])


def test_a_corrupt_fragment_tag_is_named(tmp_path):
    path = save_dicom(tmp_path / "x.dcm", GREY, syntax=RLELossless)
    content = bytearray(path.read_bytes())
    second = content.rindex(b"\xfe\xff\x00\xe0")
    content[second : second + 2] = b"\x12\x34"
    path.write_bytes(content)
    assert check_image(path, "header") == f"DICOM whose compressed pixel data is broken at byte {second}"


# PNG and TIFF ---------------------------------------------------------------------------------------------------------


def test_16_bits_a_colour(shared):
    grey = pixels_of(shared("cases/png_rgb16_12bit/grey16_reference.png"))
    same(shared("cases/png_rgb16_12bit/rgb16.png"), grey)


def write_png16(path, pixels):
    height, width, bands = pixels.shape
    kind = {2: 4, 3: 2, 4: 6}[bands]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


@pytest.mark.parametrize("bands", [3, 4])
def test_16_bits_a_colour_with_and_without_opacity(tmp_path, bands):
    values = np.array([[0, 1000, 2000, 4000]])
    pixels = np.repeat(values[..., None], bands, axis=-1)
    if bands != 3:
        pixels[..., -1] = [65535, 65535, 0, 65535]
    expected = [[0, 63, 127 if bands == 3 else 0, 255]]
    same(write_png16(tmp_path / "x.png", pixels), expected)


def test_16_bits_with_opacity_are_refused_by_name(tmp_path):
    path = write_png16(tmp_path / "x.png", np.full((2, 2, 2), 1000))
    assert check_image(path, "header") == check_image(path, "decode")
    assert check_image(path, "header") == "PNG with opacity and 16 bits, which cannot be read: save it as 16-bit grey"


def test_colours_of_16_bits_are_luma(tmp_path):
    pixels = np.zeros((1, 4, 3), int)
    pixels[0, :3], pixels[0, 3] = np.eye(3) * 1000, 1000
    same(write_png16(tmp_path / "x.png", pixels), [[76, 149, 29, 255]])  # 0.299, 0.587, 0.114 of 255, cut


def test_values_far_from_0_are_stretched(tmp_path):
    deep = np.array([[60000, 60100, 60200]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "x.png")
    same(tmp_path / "x.png", [[0, 127, 255]])
    Image.fromarray(np.array([[48000, 60000]], np.uint16)).save(tmp_path / "x.png")
    same(tmp_path / "x.png", [[204, 255]])  # 51 grey levels are contrast
    Image.fromarray(np.array([[22200, 25500]], np.uint16)).save(tmp_path / "x.png")
    same(tmp_path / "x.png", [[222, 255]])  # and 33
    Image.fromarray(np.array([[22300, 25500]], np.uint16)).save(tmp_path / "x.png")
    same(tmp_path / "x.png", [[0, 255]])  # 32 are not


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.uint16, "I;16")])
def test_tiff_in_which_0_is_white(tmp_path, dtype, mode):
    image = Image.fromarray(np.array([[0, 1000, 4000]], dtype))
    assert image.mode == mode
    image.save(tmp_path / "x.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "x.tif") as saved:
        assert saved.tag_v2[262] == 0
    same(tmp_path / "x.tif", [[255, 191, 0]])


def test_tiff_of_signed_16_bits(tmp_path):
    Image.fromarray(np.array([[-1000, 0, 3000]], np.int32)).save(tmp_path / "x.tif")
    same(tmp_path / "x.tif", [[0, 63, 255]])


@pytest.mark.parametrize(
    ("tag", "sample_format", "expected"), [(339, 2, [0, 170, 255]), (339, 1, [255, 0, 127]), (65000, 2, [255, 0, 127])]
)
def test_a_tiff_of_32_bits_is_unsigned_unless_it_says_signed(tmp_path, tag, sample_format, expected):
    """Bits 31, none, 30: -2³¹, 0, 2³⁰ with a sign, else 2³¹, 0, 2³⁰; 339 is SampleFormat, 65000 a tag of no meaning."""
    path = tmp_path / "x.tif"
    Image.fromarray(np.array([[-(2**31), 0, 2**30]], np.int32)).save(path)
    content, saved = path.read_bytes(), struct.pack("<HHIHH", 339, 3, 1, 2, 0)
    assert content.count(saved) == 1
    path.write_bytes(content.replace(saved, struct.pack("<HHIHH", tag, 3, 1, sample_format, 0)))
    same(path, [expected])


def test_a_transparent_value_of_16_bits_is_black(tmp_path):
    Image.fromarray(np.array([[500, 1000, 4000]], np.uint16)).save(tmp_path / "x.png", transparency=1000)
    same(tmp_path / "x.png", [[31, 0, 255]])


def test_signed_tiff_of_8_bits_keeps_its_order(tmp_path):
    pixels = np.array([[-128, -1, 0, 127]], np.int8)
    Image.fromarray(pixels.view(np.uint8)).save(tmp_path / "x.tif", tiffinfo={339: 2})
    assert pixels_of(tmp_path / "x.tif").tolist() == [[0, 127, 128, 255]]


def test_a_table_of_signed_pixels_may_store_its_first_value_unsigned(tmp_path):
    signed = (FILM.astype(np.int32) - 2048).astype(np.int16)
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        table = lut(keyword, np.arange(4096)[::-1], descriptor=[4096, 63488, 16])  # 63488 = -2048 + 65536
        found = pixels_of(film(tmp_path, signed, bits=16, **table)).astype(int)
        assert np.abs(found - (255 - GREY.astype(int))).max() <= 1


@pytest.mark.parametrize(
    "elements",
    [
        lut("ModalityLUTSequence", np.arange(4096), first=40_000),
        {"RescaleSlope": "1e-10", "RescaleIntercept": "1e10"},
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 3999},
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4000},
    ],
)
def test_elements_that_leave_no_film_give_way_to_the_stored_pixels(tmp_path, elements):
    same(film(tmp_path, **elements))
