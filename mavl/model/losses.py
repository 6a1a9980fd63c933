"""Losses: pure functions of an output and labels. Labels [B, F] hold 1 present, 0 absent; other values are ignored.

A loss of a batch without any entry to learn from is zero, not NaN, and part of the graph.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from mavl.model.mavl import MAVLOutput
from mavl.vocab import ABSENT, PRESENT

CONTRASTIVE_WEIGHT = 0.1
IGNORED = -100
DICE_SMOOTH = 1.0


@dataclass(frozen=True)
class Targets:
    """The targets of a pre-training batch.

    labels [B, F]. locations [B, F, 8]: indices of anatomies, the true one first. anatomy_vectors [51, T]: text
    embeddings of the anatomies. contrastive_weight, report_weight: factors of these losses. studies [B]: the study of
    each image, -1 where it has no report; with reports only. gather: of a tensor [B, …] those of all processes.
    """

    labels: Tensor
    locations: Tensor
    anatomy_vectors: Tensor
    contrastive_weight: float = CONTRASTIVE_WEIGHT
    report_weight: float = 0.0
    studies: Tensor | None = None
    gather: Callable[[Tensor], Tensor] = lambda own: own


def pretraining_losses(output: MAVLOutput, targets: Targets) -> dict[str, Tensor]:
    """The scalar of each of TERMS, weighted, and as "loss" their sum; with reports also "loss_report"."""
    terms = {name: term(output, targets) for name, term in TERMS.items()}
    if output.pairs is not None and targets.studies is not None:
        images, reports, studies = map(targets.gather, (output.pairs.images, output.pairs.reports, targets.studies))
        contrast = report_loss(images, reports, output.pairs.logit_scale, studies)
        terms["loss_report"] = targets.report_weight * contrast
    return {"loss": reduce(torch.add, terms.values()), **terms}


def _location(output: MAVLOutput, targets: Targets) -> Tensor:
    assert output.location_embedding is not None, "training computes all findings"
    return location_loss(output.location_embedding, targets.labels, targets.locations, targets.anatomy_vectors)


def _contrastive(output: MAVLOutput, targets: Targets) -> Tensor:
    """Zero for a model without a contrastive head."""
    if output.cosine is None or output.logit_scale is None:
        return output.presence_logits.new_zeros(())
    return targets.contrastive_weight * contrastive_loss(output.cosine, output.logit_scale, targets.labels)


TERMS: dict[str, Callable[[MAVLOutput, Targets], Tensor]] = {
    "loss_ce": lambda output, targets: presence_loss(output.presence_logits, targets.labels),
    "loss_cl": _location,
    "loss_global": _contrastive,
}
"""The terms of the pre-training objective under the names of the released log (MAVL, CVPR 2024)."""


def presence_loss(presence_logits: Tensor, labels: Tensor) -> Tensor:
    """presence_logits [B, F, 2], labels [B, F] -> mean cross-entropy over entries labelled 0 or 1."""
    known = (labels == PRESENT) | (labels == ABSENT)
    return _mean_cross_entropy(presence_logits, labels.long().masked_fill(~known, IGNORED))


def location_loss(location_embedding: Tensor, labels: Tensor, locations: Tensor, anatomy_vectors: Tensor) -> Tensor:
    """For entries labelled 1: cross-entropy over the scores of their candidate anatomies, of which the first is true.

    location_embedding [B, F, T], locations [B, F, K] (-1 for a missing candidate; an entry whose true one is missing is
    ignored), anatomy_vectors [51, T].
    """
    scores = (location_embedding.float() @ anatomy_vectors.T).gather(-1, locations.clamp(min=0))
    scores = scores.masked_fill(locations < 0, torch.finfo(scores.dtype).min)
    targets = torch.where((labels == PRESENT) & (locations[..., 0] >= 0), 0, IGNORED)
    return _mean_cross_entropy(scores, targets)


def contrastive_loss(cosine: Tensor, logit_scale: Tensor, labels: Tensor) -> Tensor:
    """Soft-target cross-entropy image→text plus text→image, each averaged over aspects.

    cosine [B, A, F], logit_scale [A], labels [B, F]. The target is 1 where a finding is present, else 0, and is not
    normalized: an image with three findings has a target of mass three.
    """
    logits = cosine.float() * logit_scale.float().exp()[:, None]
    targets = (labels == PRESENT).to(logits.dtype)[:, None]
    image_to_text = -(targets * logits.log_softmax(dim=2)).mean()
    text_to_image = -(targets * logits.log_softmax(dim=0)).mean()
    return image_to_text + text_to_image


def report_loss(images: Tensor, reports: Tensor, logit_scale: Tensor, studies: Tensor) -> Tensor:
    """Cross-entropy image→report plus report→image, halved (CLIP, Radford et al. 2021).

    images, reports [B, D]: unit vectors, row by row of one study. studies [B]: images of one study share its report, so
    each is a right answer of the other; pairs with -1 have no report and are left out.
    """
    known = studies >= 0
    logits = (images @ reports.T) * logit_scale.float().exp()
    same = (studies[:, None] == studies) & known & known[:, None]
    targets = same.float() / same.sum(dim=1, keepdim=True).clamp(min=1)
    logits = logits.masked_fill(~(known & known[:, None]), torch.finfo(logits.dtype).min)
    image_to_report = -(targets * logits.log_softmax(dim=1)).sum()
    report_to_image = -(targets * logits.log_softmax(dim=0)).sum()
    return (image_to_report + report_to_image) / 2 / known.sum().clamp(min=1)


def masked_bce_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """logits [B, C], labels [B, C] -> mean binary cross-entropy over entries labelled 0 or 1; 0 if none."""
    known = (labels == PRESENT) | (labels == ABSENT)
    each = F.binary_cross_entropy_with_logits(logits.float(), (labels == PRESENT).float(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def dice_bce_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """logits, masks [B, 1, H, W] (1 inside, 0 outside) -> Dice loss over all pixels of the batch at once + mean BCE."""
    logits, masks = logits.float(), masks.to(torch.float32)
    probability = logits.sigmoid()
    both, either = (probability * masks).sum(), probability.sum() + masks.sum()
    dice_loss = 1 - (2 * both + DICE_SMOOTH) / (either + DICE_SMOOTH)
    return dice_loss + F.binary_cross_entropy_with_logits(logits, masks)


def _mean_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    total = F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (targets != IGNORED).sum().clamp(min=1)
