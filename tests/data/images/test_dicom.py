"""DICOM as grey: bit depths, windows, transfer syntaxes, and what is wrong with broken ones."""

import numpy as np
import pydicom
import pytest
from pydicom.pixels import get_decoder
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
)

from mavl.data.images.read import ImageError, check_image, read_image
from tests.support.films import GREY, pixels_of, save_dicom


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
    ids=lambda uid: uid.name,
)
def test_dicom_of_8_bits_comes_unchanged(tmp_path, syntax):
    dim = GREY // 2  # neither 0..255 nor stretched to it
    path = save_dicom(tmp_path / "x.png", dim, syntax=syntax)
    np.testing.assert_array_equal(pixels_of(path), dim)
    assert check_image(path, "decode") is None


def test_dicom_inversion_of_monochrome1(tmp_path):
    path = save_dicom(tmp_path / "x", np.array([[0, 100, 200]], np.uint8), PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(pixels_of(path), [[255, 155, 55]])
    path = save_dicom(
        tmp_path / "x", np.array([[1000, 1001, 1004]], np.uint16), bits=12, PhotometricInterpretation="MONOCHROME1"
    )
    np.testing.assert_array_equal(pixels_of(path), [[255, 191, 0]])


def test_dicom_of_12_bits_goes_from_minimum_to_maximum(tmp_path):
    path = save_dicom(tmp_path / "x", np.array([[1000, 1001, 1004]], np.uint16), bits=12)
    np.testing.assert_array_equal(pixels_of(path), [[0, 64, 255]])  # 255 / 4 = 63.75


def test_dicom_of_signed_pixels(tmp_path):
    path = save_dicom(tmp_path / "x", np.array([[-100, 0, 100]], np.int16))
    np.testing.assert_array_equal(pixels_of(path), [[0, 128, 255]])
    path = save_dicom(tmp_path / "x", np.array([[-100, 100]], np.int8))
    np.testing.assert_array_equal(pixels_of(path), [[0, 255]])


def test_dicom_window_gives_black_and_white(tmp_path):
    stored = np.array([[0, 150, 200, 250, 4000]], np.uint16)
    # Centre 200.5 and width 101 are the values 150..250 (PS3.3 C.11.2.1.2): 200 is the middle, 127.5 of 255.
    path = save_dicom(tmp_path / "x", stored, bits=12, WindowCenter="200.5", WindowWidth="101")
    np.testing.assert_array_equal(pixels_of(path), [[0, 0, 128, 255, 255]])
    # A window wider than the pixels leaves them grey: 0..1000 is 0..255, and 150 is 38.25.
    path = save_dicom(tmp_path / "x", stored[:, :4], bits=12, WindowCenter="500.5", WindowWidth="1001")
    np.testing.assert_array_equal(pixels_of(path), [[0, 38, 51, 64]])


def test_dicom_window_counts_in_rescaled_values(tmp_path):
    stored = np.array([[0, 100, 200]], np.uint16)
    path = save_dicom(
        tmp_path / "x",
        stored,
        bits=12,
        RescaleSlope="2",
        RescaleIntercept="-100",  # values -100, 100, 300
        WindowCenter="100.5",
        WindowWidth="401",  # -100..300
        PhotometricInterpretation="MONOCHROME1",
    )
    np.testing.assert_array_equal(pixels_of(path), [[255, 127, 0]])


@pytest.mark.parametrize("width", ["0", "-5", "0.5"])
def test_dicom_window_without_width_is_none(tmp_path, width):
    stored = np.array([[1000, 1001, 1004]], np.uint16)
    path = save_dicom(tmp_path / "x", stored, bits=12, WindowCenter="500", WindowWidth=width)
    np.testing.assert_array_equal(pixels_of(path), [[0, 64, 255]])  # from minimum to maximum: 255 / 4 = 63.75


@pytest.mark.parametrize("shape", ["LOGARITHMIC", ""])
def test_dicom_window_of_unknown_shape_is_linear(tmp_path, shape):
    window = {"WindowCenter": "200.5", "WindowWidth": "101", "VOILUTFunction": shape}
    path = save_dicom(tmp_path / "x", np.array([[0, 200, 4000]], np.uint16), bits=12, **window)
    np.testing.assert_array_equal(pixels_of(path), [[0, 128, 255]])  # 150..250, in the middle of it 127.5


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=lambda uid: uid.name)
def test_dicom_padding_is_black_and_does_not_stretch(tmp_path, syntax):
    stored = np.array([[-2000, 1000, 1001, 1004]], np.int16)
    for photometric, expected in (("MONOCHROME2", [0, 0, 64, 255]), ("MONOCHROME1", [0, 255, 191, 0])):
        elements = {"PhotometricInterpretation": photometric, "syntax": syntax}
        path = save_dicom(tmp_path / "x", stored, PixelPaddingValue=-2000, **elements)
        np.testing.assert_array_equal(pixels_of(path), [expected])  # 1001: 255 / 4 = 63.75
    path = save_dicom(tmp_path / "x", stored, PixelPaddingValue=-2000, PixelPaddingRangeLimit=1000, syntax=syntax)
    np.testing.assert_array_equal(pixels_of(path), [[0, 0, 0, 255]])  # what is left is 1001..1004
    path = save_dicom(tmp_path / "x", stored[:, :1], PixelPaddingValue=-2000, syntax=syntax)
    np.testing.assert_array_equal(pixels_of(path), [[0]])


def test_dicom_padding_is_black_beside_a_window_and_in_8_bits(tmp_path):
    window = {"WindowCenter": "200.5", "WindowWidth": "101", "PhotometricInterpretation": "MONOCHROME1"}
    path = save_dicom(tmp_path / "x", np.array([[0, 100, 250]], np.uint16), bits=12, PixelPaddingValue=0, **window)
    np.testing.assert_array_equal(pixels_of(path), [[0, 255, 0]])
    path = save_dicom(tmp_path / "x", np.array([[255, 100, 250]], np.uint8), PixelPaddingValue=255)
    np.testing.assert_array_equal(pixels_of(path), [[0, 100, 250]])


@pytest.mark.parametrize("name", ["JPEG2000Lossless", "HTJ2KLossless", "HTJ2K", "RLELossless", "JPEGLSLossless"])
def test_dicom_decoders_of_requirements_are_at_hand(name):
    plugins = get_decoder(getattr(pydicom.uid, name)).available_plugins
    assert ("pyjpegls" if name == "JPEGLSLossless" else "pylibjpeg") in plugins


def test_dicom_rescale_is_applied(tmp_path):
    stored = np.array([[0, 100, 200]], np.uint8)
    falling = save_dicom(tmp_path / "x", stored, RescaleSlope="-1", RescaleIntercept="200")
    np.testing.assert_array_equal(pixels_of(falling), [[255, 128, 0]])
    identity = save_dicom(tmp_path / "y", stored, RescaleSlope="1", RescaleIntercept="0")
    np.testing.assert_array_equal(pixels_of(identity), stored)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=lambda uid: uid.name)
def test_dicom_without_preamble_needs_its_extension(tmp_path, syntax):
    path = save_dicom(tmp_path / "x.dcm", GREY, syntax=syntax, bare=True)
    assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(pixels_of(path), GREY)
    assert check_image(path, "header") is None
    renamed = path.rename(tmp_path / "x.png")
    with pytest.raises(ImageError, match="no PNG"):
        read_image(renamed)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfFrames": 2, "pixels": np.zeros((2, 4, 4), np.uint8)}, "with 2 frames"),
        ({"PhotometricInterpretation": "RGB"}, "RGB pixels"),
        ({"drop": ("PixelData",)}, "without pixel data"),
        ({"drop": ("Rows",)}, "no attribute 'Rows'"),
        ({"Rows": 60}, "16 bytes of pixel data; 60 x 4 pixels need 240"),
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535"),
        ({"syntax": JPEGLosslessSV1}, "JPEG Lossless, Non-Hierarchical, First-Order Prediction"),
        (
            {"syntax": pydicom.uid.JPEGLossless},
            "(1.2.840.10008.1.2.4.57); try `pip install python-gdcm`, or",
        ),
        ({"syntax": pydicom.uid.MPEG2MPML}, "MPEG2 Main Profile"),
    ],
)
def test_dicom_that_is_no_radiograph_is_refused_by_name(tmp_path, elements, reason):
    path = tmp_path / "study.dcm"
    save_dicom(path, elements.pop("pixels", np.zeros((4, 4), np.uint8)), **elements)
    assert reason in check_image(path, "header")
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_real_dicom(shared):
    folder = shared("data/dicom")
    radiograph = folder / "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"
    plain = pixels_of(radiograph)
    np.testing.assert_array_equal(plain, pydicom.dcmread(radiograph).pixel_array)
    np.testing.assert_array_equal(pixels_of(folder / "Fake_MONOHR1.dcm"), 255 - plain)
    even = pixels_of(radiograph, equalize=True)
    # The share of pixels up to any grey value is that value's share of 255, to within the fullest grey value.
    fullest = np.bincount(plain.ravel()).max() / plain.size
    shares = np.bincount(even.ravel(), minlength=256).cumsum() / even.size
    assert np.abs(shares - (np.arange(256) + 1) / 256).max() < fullest + 0.01


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, DeflatedExplicitVRLittleEndian])
def test_truncated_dicom_is_found_by_its_header(tmp_path, syntax):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    whole = save_dicom(tmp_path / "whole.dcm", noise, syntax=syntax).read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in [140, 200, len(whole) // 2, len(whole) - 100, len(whole) - 10, len(whole) - 2]:
        cut.write_bytes(whole[:length])
        assert check_image(cut, "header"), f"{length} of {len(whole)} bytes"
        with pytest.raises(ImageError):
            read_image(cut)


def test_truncated_real_dicom_is_found_by_its_header(shared, tmp_path):
    whole = (shared("data/dicom") / "Fake_MONOHR1.dcm").read_bytes()
    cut = tmp_path / "cut.dcm"
    for length in [100, 300, 1000, 60_000, len(whole) - 9, len(whole) - 1]:
        cut.write_bytes(whole[:length])
        assert check_image(cut, "header"), f"{length} of {len(whole)} bytes"
