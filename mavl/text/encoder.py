"""Text encoders by name. Those of transformers are the only implementation so far."""

import inspect
from collections.abc import Callable
from typing import Any

from mavl.text.encoders.transformers import TransformerEncoder
from mavl.text.protocol import TextEncoder

KINDS: dict[str, Callable[..., TextEncoder]] = {
    "hf": TransformerEncoder,  # pyright: ignore[reportAssignmentType], which takes no cached property for a property
    "bert": TransformerEncoder,  # pyright: ignore[reportAssignmentType]
}
"""{prefix of a name, as in hf:NAME: class of the encoder}. Names without a prefix are those of transformers."""


def load_text_encoder(name: str, **tokenisation: Any) -> TextEncoder:
    """The text encoder in a folder or on the hub; its first use reads the files.

    name: a hub id, a folder or "minilm", also with the prefix of a kind. tokenisation: keyword arguments of its class,
    from a config or a model folder; those that the class does not take are left out.
    """
    kind, inner = split_kind(name)
    accepted = inspect.signature(KINDS[kind]).parameters
    return KINDS[kind](inner, **{key: value for key, value in tokenisation.items() if key in accepted})


def split_kind(name: str) -> tuple[str, str]:
    """The kind of an encoder and its name without the prefix."""
    kind, colon, inner = name.partition(":")
    return (kind, inner) if colon and kind in KINDS else ("hf", name)
