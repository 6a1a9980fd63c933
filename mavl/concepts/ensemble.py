"""Several answers to one question -> the one that most agrees with the others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mavl.concepts.book import Entry

if TYPE_CHECKING:  # torch takes seconds, and a single answer needs none
    from torch import Tensor

    from mavl.text.encoder import TextEncoder


def most_central(vectors: "Tensor") -> int:
    """Which of k answers, vectors [k, A, T], has the largest mean cosine, over aspects, with the others.

    The first of equal ones.
    """
    unit = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    agreement = (unit.unsqueeze(0) * unit.unsqueeze(1)).sum(dim=-1).mean(dim=-1)  # [k, k]
    scores = (agreement.sum(dim=0) - agreement.diagonal()).tolist()
    return scores.index(max(scores))


def choose(entries: Sequence[Entry], encoder: "TextEncoder") -> int:
    """The position of the most central of the entries, by the text embeddings of their sentences."""
    sentences = [sentence for entry in entries for sentence in (entry.description, *entry.aspects)]
    return most_central(encoder.encode(sentences).unflatten(0, (len(entries), -1)))
