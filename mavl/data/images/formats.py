"""What image files hold beside the pixels: the way up, the end of a JPEG, the mark of an image store."""

import re
from typing import BinaryIO

from PIL import ExifTags, Image, ImageOps

STORED = b"mavl image store"
"""The comment in each JPEG of `prepare_data.py store`. A mask that has it was changed by the compression."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What no compressed data holds: there 0xFF is followed by 0 or by a restart marker."""


def is_upright(image: Image.Image) -> bool:
    """Whether the pixels are in the order in which they are shown; True where the EXIF data are broken."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation) not in range(2, 9)
    except Exception:  # SyntaxError, struct.error, …: the pixels are good all the same
        return True


def upright(image: Image.Image) -> Image.Image:
    return image if is_upright(image) else ImageOps.exif_transpose(image)


def has_jpeg_end(file: BinaryIO) -> bool:
    """Whether a JPEG has its end marker outside of its segments, one of which may hold a thumbnail with its own."""
    file.seek(0)
    content, position = file.read(), 2
    while found := _JPEG_MARKER.search(content, position):
        if found[0] == b"\xff\xd9":
            return True
        position = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    return False
