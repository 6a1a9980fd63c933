"""Classifier: a whole backbone, average-pooled (a ViT: its class token), and a linear layer on it. SPEC §12."""

import torch
import torchvision
from torch import Tensor, nn

from mavl.backbones.build import RESNETS, PatchGrid, ResNetBackbone, build_backbone


class WholeResNet(ResNetBackbone):
    """torchvision's ResNet with layer4: stride 32, C = 512 (ResNet-18) or 2048 (ResNet-50)."""

    def __init__(self, name: str):
        super().__init__(name)
        whole = torchvision.models.get_model(name, weights=None)
        self.layer4, self.channels, self.stride = whole.layer4, whole.fc.in_features, 32

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        grid, _ = super().forward(images)
        return self.layer4(grid), None


class Classifier(nn.Module):
    """One logit a class: images [B, 3, H, W] normalised -> logits [B, classes].

    layer4: whether a ResNet is whole, or ends where the backbone of a MAVL of its name ends. A pre-trained MAVL gives a
    ResNet its stem and the layers it has itself, 1 to 3 or (`@layer2`) 1 and 2; the layers behind stay at their start.
    linear_probe: the backbone gets no gradient, and its BatchNorm statistics stay as they are.
    """

    def __init__(
        self,
        *,
        classes: int,
        backbone: str = "resnet50",
        layer4: bool = True,
        linear_probe: bool = False,
    ):
        super().__init__()
        self.linear_probe = linear_probe
        whole = layer4 and backbone in RESNETS and "@" not in backbone
        self.backbone = WholeResNet(backbone) if whole else build_backbone(backbone)
        self.head = nn.Linear(self.backbone.channels, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.backbone.requires_grad_(not linear_probe)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        if self.linear_probe:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        grid, class_token = self.backbone(images)
        return self.head(grid.mean(dim=(2, 3)) if class_token is None else class_token)

    def evidence(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """images [B, 3, H, W] -> (logits [B, C], what each patch adds to them [B, C, h, w]).

        The class activation map (Zhou et al. 2016), exact here: a map and the head's bias sum to the logit. None for a
        ViT, whose class token does not come from single patches.
        """
        grid, class_token = self.backbone(images)
        if class_token is not None:
            return self.head(class_token), None
        maps = torch.einsum("ck,bkhw->bchw", self.head.weight, grid) / grid[0, 0].numel()
        return self.head(grid.mean(dim=(2, 3))), maps

    def patch_grid(self, size: tuple[int, int]) -> PatchGrid:
        """Where the patches look in images of this height and width."""
        return PatchGrid(self.backbone.first, self.backbone.stride, size)


def spread(patches: Tensor) -> Tensor:
    """patches [h, w], what each adds -> how the positive ones are spread [h, w], which sums to 1; even without any."""
    positive = patches.clamp(min=0)
    total = positive.sum()
    return positive / total if total > 0 else torch.full_like(patches, 1 / patches.numel())
