"""Classifier: a whole backbone, average-pooled (a ViT: its class token), and a linear layer on it."""

from collections.abc import Sequence
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from mavl.backbones import Backbone, PatchGrid, Preprocessing, build_backbone
from mavl.backbones.adapters import set_mode
from mavl.backbones.protocol import patch_grid
from mavl.backbones.torchvision import RESNETS, ResNetBackbone


class WholeResNet(ResNetBackbone):
    """torchvision's ResNet with layer4: stride 32, C = 512 (ResNet-18) or 2048 (ResNet-50)."""

    def __init__(self, name: str, image_size: int = 224):
        super().__init__(name, image_size)
        whole = cast(torchvision.models.ResNet, torchvision.models.get_model(name, weights=None))
        self.layer4 = whole.layer4
        self.channels, self.stride = whole.fc.in_features, 32

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return [*super().blocks, *self.layer4]

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        return self.layer4(super().forward(images)[0]), None


class Classifier(nn.Module):
    """One logit for each class: images [B, 3, H, W], normalized -> logits [B, classes].

    Args:
        image_size: input side in pixels.
        layer4: whether a ResNet is whole, or ends where the backbone of a MAVL of its name ends.
        linear_probe: whether the backbone stays as it is, with its BatchNorm statistics.
    """

    def __init__(
        self,
        *,
        classes: int,
        backbone: str = "resnet50",
        image_size: int = 224,
        layer4: bool = True,
        linear_probe: bool = False,
    ):
        super().__init__()
        whole = layer4 and backbone in RESNETS and "@" not in backbone
        built = WholeResNet(backbone, image_size) if whole else build_backbone(backbone, image_size)
        self.backbone = cast(Backbone, built)
        self.head = nn.Linear(self.backbone.channels, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        if linear_probe:
            cast(nn.Module, self.backbone).requires_grad_(False)

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes this model's input."""
        return self.backbone.preprocessing

    def train(self, mode: bool = True) -> "Classifier":
        """Set the mode of all modules; a frozen backbone stays in evaluation mode (mavl.backbones.adapters)."""
        super().train(mode)
        set_mode(self.backbone, mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        grid, class_token = self.backbone(images)
        return self.head(grid.mean(dim=(2, 3)) if class_token is None else class_token)

    def evidence(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """images [B, 3, H, W] -> (logits [B, C], the contribution of each patch to them [B, C, h, w]).

        The contributions are the class activation map (Zhou et al. 2016), exact here: a map and the head's bias sum to
        the logit. None for a ViT, whose class token does not come from single patches.
        """
        grid, class_token = self.backbone(images)
        if class_token is not None:
            return self.head(class_token), None
        maps = torch.einsum("ck,bkhw->bchw", self.head.weight, grid) / grid[0, 0].numel()
        return self.head(grid.mean(dim=(2, 3))), maps

    def patch_grid(self, size: tuple[int, int]) -> PatchGrid:
        """Positions of the patches in images of this height and width."""
        return patch_grid(self.backbone, size)


def normalize_positive(contributions: Tensor) -> Tensor:
    """contributions [h, w] of patches -> their positive part [h, w], scaled to sum to 1; uniform where none is."""
    positive = contributions.clamp(min=0)
    total = positive.sum()
    return positive / total if total > 0 else torch.full_like(contributions, 1 / contributions.numel())
