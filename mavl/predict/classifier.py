"""Fine-tuned classifiers: images -> scores and their explanation.

A classifier averages the patches of its last grid, so a logit is the sum of the patches' contributions and a bias: its
class activation map, exact, is shown as the patches in favour of the finding and those against it.
"""

import torch
from torch import Tensor

from mavl.backbones import PatchGrid
from mavl.checkpoint.finetuned import Finetuned
from mavl.checkpoint.folder import CheckpointError
from mavl.model.classifier import Classifier, normalize_positive
from mavl.model.explain import Explanation
from mavl.predict.prediction import Answer, Request
from mavl.predict.predictor import Predictor
from mavl.provenance import training_images

FOR, AGAINST = "patches for it", "patches against it"
"""The shares of a classifier's decision, beside the bias."""


class ClassifierPredictor(Predictor):
    """A classifier with its own findings; the scores are `supervised`, there is no contrastive head."""

    unit = "evidence"

    def __init__(self, source: str, loaded: Finetuned, device: str):
        model = loaded.model
        if not isinstance(model, Classifier):
            raise CheckpointError(f"{source}: a fine-tuned {loaded.kind} gives no scores; predict.py writes its masks")
        self.source, self.kind, self.device = source, loaded.kind, torch.device(device)
        self.vocabulary = self.scored = loaded.findings
        self.trained_on = training_images(loaded.about)
        self.operating_points = loaded.about.get("operating_points")
        self.known, self.equalize, self.preprocessing = [loaded.findings], loaded.equalize, model.preprocessing
        self.model = model.to(self.device).eval()

    @torch.no_grad()
    def _answer(self, pixels: Tensor, request: Request) -> list[Answer]:
        columns = [self.vocabulary.index(name) for name in request.findings]
        logits, maps = self.model.evidence(pixels)
        logits, biases = logits[:, columns].float().cpu(), self.model.head.bias[columns].tolist()
        patch_grid, answers = self.model.patch_grid((pixels.shape[-2], pixels.shape[-1])), []
        for row, scores in enumerate(logits.sigmoid().numpy()):
            explained = {}
            for i, name in request.most_probable(scores):
                if maps is None:  # a vision transformer
                    break
                patches = maps[row, columns[i]].float().cpu()
                explained[name] = explain_patches(name, logits[row, i].item(), biases[i], patches, patch_grid)
            answers.append((scores, None, explained))
        return answers


def explain_patches(finding: str, logit: float, bias: float, patches: Tensor, patch_grid: PatchGrid) -> Explanation:
    """Contributions [h, w] of the patches to the logit -> Explanation with share and map of those FOR and AGAINST it.

    The shares and the bias sum to the logit.
    """
    maps, in_favour = torch.stack([normalize_positive(patches), normalize_positive(-patches)]), patches.clamp(min=0)
    return Explanation(
        finding=finding,
        aspects=(FOR, AGAINST),
        sentences=(None, None),
        shares=torch.stack([in_favour.sum(), logit - bias - in_favour.sum()]),
        bias=bias,
        heatmap=maps[0],
        aspect_heatmaps=maps,
        cosine=None,
        healthy_cosine=None,
        patch_grid=patch_grid,
    )
