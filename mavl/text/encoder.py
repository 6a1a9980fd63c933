"""Text encoders by name. BERT is the only implementation so far."""

from collections.abc import Callable
from typing import Any

from mavl.text.bert import BertEncoder
from mavl.text.protocol import TextEncoder

KINDS: dict[str, Callable[..., TextEncoder]] = {
    "bert": BertEncoder,  # pyright: ignore[reportAssignmentType], which takes no cached property for a property
}
"""{prefix of a name, as in bert:NAME: class of the encoder}. Names without a prefix are BERTs."""


def load_text_encoder(name: str, **tokenisation: Any) -> TextEncoder:
    """The text encoder in a folder or on the hub; its first use reads the files.

    name: a hub id or a folder, also with the prefix of a kind. tokenisation: keyword arguments of its class, as a model
    folder stores them.
    """
    kind, colon, inner = name.partition(":")
    return KINDS[kind](inner, **tokenisation) if colon and kind in KINDS else KINDS["bert"](name, **tokenisation)
