"""Text encoders by name. BERT is the only implementation so far."""

from collections.abc import Callable
from typing import Any

from mavl.text.bert import BertEncoder
from mavl.text.protocol import TextEncoder

KINDS: dict[str, Callable[..., TextEncoder]] = {"bert": BertEncoder}
"""{prefix of a name, as in bert:NAME: class of the encoder}. Names without a prefix are BERTs."""


def load_text_encoder(name: str, **tokenisation: Any) -> TextEncoder:
    """The text encoder in a folder or on the hub; files are read when it is first used.

    name: a hub id or a folder, also with the prefix of a kind. tokenisation: keyword arguments of its class, as a model
    folder stores them.
    """
    kind, colon, inner = name.partition(":")
    if colon and kind in KINDS:
        return KINDS[kind](inner, **tokenisation)
    return BertEncoder(name, **tokenisation)
