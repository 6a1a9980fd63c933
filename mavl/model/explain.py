"""Output -> the contribution of each aspect to a decision.

The presence head is one linear layer on the concatenated aspect features, so its logit difference (present minus
absent) is a sum of one dot product per aspect and a bias: the shares are exact. The contrastive head is explained by
its cosines, of which there is one per aspect.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mavl.backbones import PatchGrid
from mavl.model.heatmaps import DEFAULT_MAP, MapOptions, aspect_maps, heatmaps
from mavl.model.mavl import MAVL, MAVLOutput
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import healthy


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """The parts of the score of one finding in one image.

    sentences: the text of each aspect, None where no book with it was found.
    shares [A] and bias: logits; they sum to `logit_difference`, present minus absent, above 0 in favour of presence.
    heatmap [h, w], of the grounding aspects together, and aspect_heatmaps [A, h, w]: attention mass, each map sums to 1
    (None without attention); patch_grid: positions of their patches.
    cosine [A]: of the image with the finding's aspects, in -1..1; healthy_cosine: the same of each healthy finding.
    Both are None without a contrastive head or without healthy findings in the embeddings.
    """

    finding: str
    aspects: tuple[str, ...]
    sentences: tuple[str | None, ...]
    shares: Tensor
    bias: float
    heatmap: Tensor | None
    aspect_heatmaps: Tensor | None
    patch_grid: PatchGrid
    cosine: Tensor | None
    healthy_cosine: dict[str, Tensor] | None

    def __repr__(self) -> str:
        score = f"{100 * self.probability:.1f} %, logit {self.logit_difference:+.2f}"
        return f"Explanation({self.finding!r}: {score}, {len(self.aspects)} shares)"

    @property
    def logit_difference(self) -> float:
        return self.shares.sum().item() + self.bias

    @property
    def probability(self) -> float:
        """Of presence, by the supervised head."""
        return torch.tensor(self.logit_difference).sigmoid().item()


def presence_shares(head: nn.Linear, aspect_features: Tensor) -> tuple[Tensor, Tensor]:
    """Presence head [A·D -> 2] and aspect_features [B, F, A, D] -> shares [B, F, A] and bias [], both in logits.

    shares.sum(-1) + bias is the difference of the presence logits, present minus absent.
    """
    toward_presence = (head.weight[1] - head.weight[0]).float().unflatten(0, aspect_features.shape[-2:])
    return (aspect_features.float() * toward_presence).sum(-1), (head.bias[1] - head.bias[0]).float()


def explain(
    model: MAVL,
    embeddings: TextEmbeddings,
    output: MAVLOutput,
    finding: str,
    image: int = 0,
    sentences: Mapping[str, str] | None = None,
    options: MapOptions = DEFAULT_MAP,
) -> Explanation:
    """The explanation of a finding's score in one image of the batch that gave `output`.

    Args:
        image: position in the batch.
        sentences: {aspect: sentence} of the finding, from a book.
        options: of the heatmap.

    Raises UnknownFindingError for a finding that the embeddings lack.
    """
    [row] = embeddings.index([finding])
    shares, bias = presence_shares(model.presence_head, output.aspect_features[image : image + 1, row : row + 1])
    cosine = healthy_cosine = heatmap = each = None
    if output.cosine is not None and (compared := healthy(embeddings.findings)):
        of_image = output.cosine[image].float().cpu()
        cosine = of_image[:, row]
        columns = zip(compared, embeddings.index(compared), strict=True)
        healthy_cosine = {name: of_image[:, column] for name, column in columns}
    if output.attention is not None:
        heatmap = heatmaps(output, embeddings, [finding], options)[image, 0].cpu()
        each = aspect_maps(output, embeddings, [finding], embeddings.aspects)[image, 0].cpu()
    return Explanation(
        finding=finding,
        aspects=embeddings.aspects,
        sentences=tuple((sentences or {}).get(aspect) for aspect in embeddings.aspects),
        shares=shares[0, 0].cpu(),
        bias=bias.item(),
        heatmap=heatmap,
        aspect_heatmaps=each,
        patch_grid=output.patch_grid,
        cosine=cosine,
        healthy_cosine=healthy_cosine,
    )
