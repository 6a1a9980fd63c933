"""Fine-tuned classifiers behind the interface of a pre-trained model: images -> scores and their explanation.

A classifier averages the patches of its last grid, so a logit is the sum of the patches' contributions and a bias: its
class activation map, exact, is shown as the patches in favour of the finding and those against it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mavl.backbones import PatchGrid
from mavl.checkpoint import finetuned
from mavl.checkpoint.finetuned import Finetuned
from mavl.checkpoint.folder import CheckpointError
from mavl.data.images.grey import equalize_histogram
from mavl.data.images.transforms import Transform, eval_transform
from mavl.model.classifier import normalize_positive
from mavl.model.explain import Explanation
from mavl.predict.predictor import TOP, Prediction, Predictor, Request
from mavl.text.embeddings import TextEmbeddings
from mavl.text.synonyms import resolve

FOR, AGAINST = "patches for it", "patches against it"
"""The shares of a classifier's decision, beside the bias."""

NO_TEXT = TextEmbeddings((), (), torch.empty(0, 0, 0), torch.empty(0, 0), {})


class ClassifierPredictor(Predictor):
    """A classifier with its own findings; the scores are `supervised`, there is no contrastive head."""

    books_complete = True

    def __init__(self, source: str, classifier: Finetuned, device: str):
        self.source, self.kind, self.device = source, classifier.kind, torch.device(device)
        self.model, self.findings = classifier.model.to(self.device).eval(), classifier.findings
        self.transform = _transform(classifier)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The findings that it was trained on."""
        return self.findings

    def request(self, findings: Sequence[str] | str | None = None, explained: int | None = None) -> Request:
        """As of a pre-trained model, but of the vocabulary only."""
        if isinstance(findings, str):
            findings = [findings]
        meant: dict[str, str] = {}
        for name in findings or self.vocabulary:
            meant.setdefault(resolve(name, self.vocabulary), name)
        if explained is None:
            explained = len(meant) if findings else TOP
        return Request(tuple(meant.values()), tuple(meant), NO_TEXT, max(0, explained))

    @torch.no_grad()
    def _answer(self, batch: list, request: Request) -> list[Prediction]:
        pixels = torch.stack([item.pixels for item in batch]).to(self.device)
        columns = [self.vocabulary.index(name) for name in request.findings]
        logits, maps = self.model.evidence(pixels)
        logits, biases = logits[:, columns].float().cpu(), self.model.head.bias[columns].float().cpu()
        patch_grid, predictions = self.model.patch_grid(tuple(pixels.shape[-2:])), []
        for row, item in enumerate(batch):
            top = logits[row].argsort(descending=True)[: request.explained].tolist() if maps is not None else []
            explained = {
                name: explain_patches(name, logit.item(), bias.item(), maps[row, columns[i]].float().cpu(), patch_grid)
                for i, name, logit, bias in ((i, request.findings[i], logits[row, i], biases[i]) for i in top)
            }
            scores = logits[row].sigmoid().numpy()
            predictions.append(
                Prediction(item.name, item.picture, request.findings, request.asked, scores, None, explained)
            )
        return predictions


def explain_patches(finding: str, logit: float, bias: float, patches: Tensor, patch_grid: PatchGrid) -> Explanation:
    """Contributions [h, w] of the patches to the logit -> Explanation with share and map of those FOR and AGAINST it.

    The shares and the bias sum to the logit.
    """
    maps, in_favour = (
        torch.stack([normalize_positive(patches), normalize_positive(-patches)]),
        patches.clamp(min=0).sum(),
    )
    return Explanation(
        finding=finding,
        aspects=(FOR, AGAINST),
        sentences=(None, None),
        shares=torch.stack([in_favour, logit - bias - in_favour]),
        bias=bias,
        heatmap=maps[0],
        aspect_heatmaps=maps,
        cosine=None,
        healthy_cosine=None,
        patch_grid=patch_grid,
    )


PREDICTORS: dict[str, type[Predictor]] = {"classifier": ClassifierPredictor}
"""Predictors by the kinds of mavl.checkpoint.finetuned.KINDS."""


def load(source: str, device: str) -> Predictor:
    """A fine-tuned model folder, released .pth or hub id -> the Predictor of its kind."""
    model = finetuned.load(source)
    if model.kind not in PREDICTORS:
        raise CheckpointError(
            f"{source}: a fine-tuned {model.kind}; predictions are made by {' and '.join(PREDICTORS)}s"
        )
    return PREDICTORS[model.kind](source, model, device)


def _transform(model: Finetuned) -> Transform:
    """How an image becomes its input."""
    plain = eval_transform(model.model.preprocessing)
    if not model.equalize:
        return plain
    return lambda picture: plain(Image.fromarray(equalize_histogram(np.asarray(picture))))
