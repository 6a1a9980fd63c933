"""Prompts of findings for models that compare an image with sentences (CLIP and its like).

The prompts of a finding are sentences for it and sentences against it; the vector of several is the mean of their unit
vectors, as a unit vector (Radford et al. 2021).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mavl.config.evaluation import PromptKind
from mavl.text.books import Books
from mavl.vocab import DESCRIPTION

TEMPLATES = "{}", "a chest X-ray with {}", "there is {}", "findings suggesting {}", "{} is seen", "evidence of {}"


@dataclass(frozen=True)
class Prompts:
    """Sentences for a finding, and against it."""

    present: tuple[str, ...]
    absent: tuple[str, ...]


def prompts_of(finding: str, kind: PromptKind, books: Books) -> Prompts:
    """The prompts of a finding; BookError where the books lack what they need."""
    if kind == "pairs":
        return Prompts((finding,), (f"no {finding}",))
    if kind == "templates":
        return Prompts(*(tuple(each.format(name) for each in TEMPLATES) for name in (finding, f"no {finding}")))
    books.require([finding, "normal"])
    aspects = [DESCRIPTION] if kind == "descriptions" else list(books.sentences[finding])
    sides = (tuple(books.sentences[name][aspect] for aspect in aspects) for name in (finding, "normal"))
    return Prompts(*sides)


def encode_prompts(prompts: Sequence[Prompts], encode: Callable[[list[str]], Tensor]) -> tuple[Tensor, Tensor]:
    """encode: sentences -> vectors [n, D]. Unit vectors [F, D] of the findings, and of their absence."""
    sides = []
    for side in ("present", "absent"):
        means = [F.normalize(encode(list(getattr(each, side))).float(), dim=-1).mean(dim=0) for each in prompts]
        sides.append(F.normalize(torch.stack(means), dim=-1))
    return sides[0], sides[1]


def presence(images: Tensor, present: Tensor, absent: Tensor, scale: float) -> Tensor:
    """Unit vectors [B, D], [F, D], [F, D] -> [B, F]: the softmax of both sides' cosines times scale, first entry."""
    return ((images @ present.T - images @ absent.T) * scale).sigmoid()
