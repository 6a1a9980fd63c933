"""Many texts in one array of bytes."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Self

import numpy as np

BLOCK = 1 << 16
"""Texts that are read at once."""


class Texts(Sequence[str]):
    """Texts of file names, in one array of bytes instead of an object each.

    content: uint8, each text with a line feed behind it; starts: int64 [n + 1] of the texts in it, and its length.
    """

    def __init__(self, content: np.ndarray, starts: np.ndarray):
        self.content, self.starts = content, starts

    @classmethod
    def pack(cls, texts: Iterable[str]) -> Self:
        content, starts = bytearray(), array("q", [0])
        for text in texts:
            content += _encode(text) + b"\n"
            starts.append(len(content))
        return cls(np.frombuffer(content, np.uint8), np.frombuffer(starts, np.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index = index % len(self)
        return _decode(self.content[self.starts[index] : self.starts[index + 1] - 1].tobytes())

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), BLOCK):
            starts = self.starts[first : first + BLOCK + 1].tolist()
            block = self.content[starts[0] : starts[-1]].tobytes()
            for start, end in pairwise(starts):
                yield _decode(block[start - starts[0] : end - starts[0] - 1])


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a pair of surrogates, which JSON allows and no file name has
        return text.encode("utf-8", "surrogatepass")


def _decode(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
