"""Text encoders by name. BERT is the only implementation so far."""

from typing import Any

from mavl.text.bert import BertEncoder
from mavl.text.protocol import TextEncoder


def load_text_encoder(name: str, **tokenisation: Any) -> TextEncoder:
    """The text encoder in a folder or on the hub; files are read when it is first used.

    tokenisation: keyword arguments of its class, as a model folder stores them.
    """
    return BertEncoder(name, **tokenisation)
