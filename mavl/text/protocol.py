"""The interface of text encoders: sentences -> vectors."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor  # torch takes seconds, and the doctor does not need it


class TextEncoderError(ValueError):
    """A text encoder that cannot be loaded; the message names its place and how to get it."""


class TextEncoder(Protocol):
    """A frozen text encoder.

    name: hub id or folder. tokenisation: all settings besides the files that shape its vectors, for JSON: the keyword
    arguments of its class. fingerprint: SHA-256 of its files. Together they identify the vectors, which are cached by
    them.
    """

    name: str

    @property
    def tokenisation(self) -> dict[str, Any]: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, sentences: Sequence[str], device: str = "cpu") -> "Tensor":
        """sentences [n] -> vectors [n, T], float32 on the CPU."""
        ...
