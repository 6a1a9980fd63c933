"""Output -> scores by finding name."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mavl.model.mavl import MAVLOutput
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import HEALTHY, healthy


class HeadError(ValueError):
    """A head that this model does not have."""


HEADS = ("supervised", "contrastive")


def presence_probability(presence_logits: Tensor) -> Tensor:
    """presence_logits [B, F, 2] -> probability that each finding is present [B, F]."""
    return presence_logits.float().softmax(dim=-1)[..., 1]


def contrastive_probability(cosine: Tensor, healthy: Sequence[int]) -> Tensor:
    """cosine [B, A, F], positions of the healthy findings -> probability [B, F].

    For each aspect and healthy finding, the softmax over (healthy, finding), second entry; then the mean over both.
    """
    cosine = cosine.float()
    against = torch.stack([cosine - cosine[:, :, [position]] for position in healthy])
    return against.sigmoid().mean(dim=(0, 2))


def scores(output: MAVLOutput, embeddings: TextEmbeddings, findings: Sequence[str], head: str = "supervised") -> Tensor:
    """Probabilities [B, len(findings)] of these findings by one of HEADS.

    UnknownFindingError for a finding not in the embeddings; HeadError for a head that the model does not have.
    """
    columns = embeddings.index(findings)
    if head == "supervised":
        return presence_probability(output.presence_logits)[:, columns]
    if head != "contrastive":
        raise HeadError(f"head is {head!r}; known: {', '.join(HEADS)}")
    if output.cosine is None:
        raise HeadError("this model has no contrastive head (MedKLIP has none); use head: supervised")
    if not (compared := healthy(embeddings.findings)):
        raise HeadError(f"the contrastive head compares with {' and '.join(HEALTHY)}, and there is text of neither")
    return contrastive_probability(output.cosine, embeddings.index(compared))[:, columns]
