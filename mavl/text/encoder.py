"""Text encoders by name. BERT is the only implementation so far."""

import inspect
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

    name: a hub id or a folder, also with the prefix of a kind. tokenisation: keyword arguments of its class, from a
    config or a model folder; those that the class does not take are left out.
    """
    kind, colon, inner = name.partition(":")
    if not colon or kind not in KINDS:
        kind, inner = "bert", name
    accepted = inspect.signature(KINDS[kind]).parameters
    return KINDS[kind](inner, **{key: value for key, value in tokenisation.items() if key in accepted})
