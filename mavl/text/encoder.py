"""Text encoders: sentences -> vectors, behind one small interface. BERT is the only implementation so far."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class TextEncoderError(ValueError):
    """A text encoder that cannot be loaded; the message says where it was expected and how to get it."""


class TextEncoder(Protocol):
    """A frozen text encoder.

    name: hub id or folder. tokenisation: all settings besides the files that shape its vectors, for JSON. fingerprint:
    SHA-256 of its files. Together they identify the vectors, which are cached by them.
    """

    name: str

    @property
    def tokenisation(self) -> dict[str, Any]: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, sentences: Sequence[str], device: str = "cpu") -> Tensor:
        """sentences [n] -> vectors [n, T], float32 on the CPU."""
        ...


def load_text_encoder(name: str, **tokenisation: Any) -> TextEncoder:
    """The text encoder in a folder or on the hub; files are read when it is first used.

    tokenisation: keyword arguments of its class, as a model folder stores them.
    """
    from mavl.text.bert import BertEncoder  # which needs the error above

    return BertEncoder(name, **tokenisation)
