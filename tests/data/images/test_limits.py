"""Limits of images and masks: sides, pixels, bytes after decompression; and errors that stay one line."""

import contextlib
import struct
import zlib

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from torch.utils.data import DataLoader, Dataset

from mavl.data.images import dicom, grey
from mavl.data.images.grey import MAX_ASPECT, MAX_PIXELS, MAX_SIDE, check_size
from mavl.data.images.read import ImageError, check_image, grey_picture, read_image, read_mask
from tests.support.films import GREY, save_dicom


def png(path, width, height):
    """A PNG of black pixels in a few kilobytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    deflate = zlib.compressobj(9)
    rows = b"".join(deflate.compress(bytes((width + 1) * 1000)) for _ in range(height // 1000))
    rows += deflate.compress(bytes((width + 1) * (height % 1000))) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_the_largest_sizes_are_allowed():
    root = int(MAX_PIXELS**0.5)
    for width, height in ((1, 1), (1, MAX_ASPECT), (MAX_SIDE, MAX_SIDE // MAX_ASPECT), (root, root)):
        check_size(width, height)
        check_size(height, width)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (MAX_SIDE + 1, 3000),
        (MAX_ASPECT + 1, 1),
        (int(MAX_PIXELS**0.5) + 1, int(MAX_PIXELS**0.5) + 1),
        (1, 4_000_000),
        (0, 5),
    ],
)
def test_larger_ones_are_refused_by_their_header_and_as_masks(tmp_path, width, height):
    for one, other in ((width, height), (height, width)):
        with pytest.raises(ImageError, match=f"{one} x {other} pixels exceed the limits"):
            check_size(one, other)
    if width and width * height < 10**7:
        path = png(tmp_path / "x.png", width, height)
        for read in (read_image, read_mask):
            with pytest.raises(ImageError, match=r"x\.png: .* exceed the limits"):
                read(path)
        assert "exceed the limits" in check_image(path, "header")
        with pytest.raises(ImageError, match="exceed the limits"):
            grey_picture(Image.open(path), "x")


def test_dicom_of_too_many_pixels_is_refused(tmp_path):
    path = save_dicom(tmp_path / "x.dcm", GREY, Rows=30000, Columns=30000)
    assert "30000 x 30000 pixels exceed the limits" in check_image(path, "header")


@pytest.mark.parametrize("bare", [False, True])
def test_a_deflated_bomb_is_refused_before_it_is_inflated(tmp_path, monkeypatch, bare):
    monkeypatch.setattr(dicom, "MAX_BYTES", 1 << 22)
    path = save_dicom(tmp_path / "x.dcm", np.zeros((1000, 1000), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    assert check_image(path, "header") is None
    bomb = save_dicom(tmp_path / "x.dcm", np.zeros((2000, 2000), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    if bare:
        bomb.write_bytes(bomb.read_bytes()[132:])
    inflated = []
    real = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *args, **options: inflated.append(1) or real(*args, **options))
    assert check_image(bomb, "header") == "deflated DICOM of more than 4,194,304 bytes"
    assert not inflated


def test_a_file_of_too_many_bytes_is_not_read(tmp_path):
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(grey.MAX_BYTES + 1)  # sparse
    assert check_image(tmp_path / "x.png", "exists") == "536,870,913 bytes exceed the limit of 536,870,912"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_damaged_file_is_told_by_its_own_kind(tmp_path, kind):
    path = tmp_path / "x.jpg"
    Image.fromarray(GREY).save(path, kind)
    content = bytearray(path.read_bytes())
    content[14:40] = bytes(26)
    path.write_bytes(content[:60])
    for reason in (check_image(path, "header"), check_image(path, "decode")):
        assert f"no {kind}" not in reason
        assert "begins with" not in reason


def test_a_jpeg_with_broken_tables_is_found_by_its_header(tmp_path):
    path = tmp_path / "x.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    whole = path.read_bytes()
    table = whole.index(b"\xff\xc4")
    path.write_bytes(whole[: table + 5] + b"\xff" * 10 + whole[table + 15 :])  # impossible lengths of Huffman codes
    assert check_image(path, "header") == check_image(path, "decode")
    assert "broken data stream" in check_image(path, "header")


def test_pixels_of_a_png_that_cannot_be_inflated_are_found_by_its_header(tmp_path):
    path = png(tmp_path / "x.png", 100, 100)
    content = path.read_bytes()
    start = content.index(b"IDAT")
    length = struct.unpack(">I", content[start - 4 : start])[0]
    data = bytearray(content[start + 4 : start + 4 + length])
    data[5:15] = b"\xff" * 10
    chunk = b"IDAT" + bytes(data)
    path.write_bytes(content[:start] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[start + 8 + length :])
    assert check_image(path, "header") is not None  # though its checksum is right
    assert check_image(path, "decode") is not None


class Films(Dataset):
    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.from_numpy(np.array(read_image(self.path)))


def test_an_error_in_a_worker_of_a_loader_is_one_line(tmp_path):
    (tmp_path / "x.png").write_bytes(b"GIF89a")
    with pytest.raises(ImageError) as caught:
        next(iter(DataLoader(Films(tmp_path / "x.png"), num_workers=1)))
    formats = "PNG, JPEG, BMP, TIFF, WEBP or DICOM"
    assert str(caught.value) == f"{tmp_path / 'x.png'}: no {formats}; it begins with b'GIF89a'"


def test_broken_rle_data_is_an_image_error(tmp_path):
    """The decoder panics where a run leads past the end of the image, which is no Exception."""
    path = save_dicom(tmp_path / "x.dcm", np.repeat(GREY, 4, axis=1), syntax=RLELossless)
    content = bytearray(path.read_bytes())
    start = content.rindex(b"\xfe\xff\x00\xe0") + 8 + 64
    reasons = set()
    for position in range(start, start + 40):
        path.write_bytes(content[:position] + b"\x7f" + content[position + 1 :])
        reasons.add(check_image(path, "header") is None)
        with contextlib.suppress(ImageError):
            read_image(path)
    assert False in reasons
