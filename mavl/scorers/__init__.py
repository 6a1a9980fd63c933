"""Models as the evaluation uses them, by the `Scorer` protocol. A new kind is a file here and an entry in KINDS."""

from collections.abc import Callable

import torch

from mavl.scorers.any_of import AnyOf, expand
from mavl.scorers.clip import open_clip_like
from mavl.scorers.file import open_file
from mavl.scorers.mavl import open_mavl
from mavl.scorers.open_clip import open_open_clip
from mavl.scorers.protocol import ListedScorer, Scorer, ScorerError, ScorerOptions, TextScorer
from mavl.scorers.random import open_random
from mavl.scorers.xrv import open_xrv

__all__ = [
    "KINDS",
    "AnyOf",
    "ListedScorer",
    "Scorer",
    "ScorerError",
    "ScorerOptions",
    "TextScorer",
    "expand",
    "open_scorer",
]

KINDS: dict[str, Callable[[str, ScorerOptions, torch.device], Scorer]] = {
    "clip": open_clip_like,
    "file": open_file,
    "open_clip": open_open_clip,
    "random": open_random,
    "xrv": open_xrv,
}
"""{prefix of a model's name, as in random:0: function that opens it}. Names without a prefix are MAVL's."""


def open_scorer(name: str, options: ScorerOptions, device: torch.device | str = "cpu") -> Scorer:
    """The model of this name on a device: a kind and its argument, as in `random:0`, or a MAVL.

    A MAVL is a model folder, a released .pth or a hub id. Errors: ScorerError, and those of the kind.
    """
    kind, colon, argument = name.partition(":")
    if colon and kind in KINDS:
        return KINDS[kind](argument, options, torch.device(device))
    return open_mavl(name, options, torch.device(device))
