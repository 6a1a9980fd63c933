"""What image files hold beside the pixels: further pages, the way up, the end of a JPEG."""

import re
from typing import BinaryIO

from PIL import Image

ORIENTATION = 0x0112
"""The EXIF tag that says how an image is to be turned: by TURNS; anything else is upright."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

STORED = b"mavl image store"
"""The comment in each JPEG of `prepare_data.py store`. A mask that has it was changed by the compression."""

_SUBFILE = 0x00FE
"""The TIFF tag whose bits mark a page as another's smaller copy (1) or transparency mask (4)."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What no compressed data holds: there 0xFF is followed by 0 or by a restart marker."""


def count_pages(image: Image.Image) -> int:
    """How many images a file holds. What a camera puts beside its JPEG (Pillow's MPO) is taken for no image."""
    if image.format != "TIFF":
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    pages = 0
    try:
        for page in range(image.n_frames):
            image.seek(page)
            pages += not image.tag_v2.get(_SUBFILE, 0) & 5
    except Exception:  # SyntaxError, struct.error, …: the last page points to another where there is none
        pass
    image.seek(0)
    return pages


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What brings an image upright, None if it is."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # SyntaxError, struct.error, …: broken EXIF data says nothing, but the pixels are good
        return None


def has_jpeg_end(file: BinaryIO) -> bool:
    """Whether the end marker stands anywhere between the segments, which may hold another: a thumbnail's."""
    file.seek(0)
    content, position = file.read(), 2
    while found := _JPEG_MARKER.search(content, position):
        if found[0] == b"\xff\xd9":
            return True
        position = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    return False
