"""torchvision's ResNets and ViTs as image encoders."""

from collections.abc import Sequence
from typing import cast

import torch
import torchvision
from torch import Tensor, nn

from mavl.backbones.preprocessing import Preprocessing
from mavl.backbones.protocol import interpolate_positions

RESNETS = ("resnet18", "resnet50", "resnet18@layer2", "resnet50@layer2")
VITS = ("vit_b_16", "vit_l_16")


class ResNetBackbone(nn.Module):
    """torchvision's ResNet up to layer3: stride 16, C = 256 (ResNet-18) or 1024 (ResNet-50).

    `NAME@layer2` ends one layer earlier: stride 8, half the channels, a smaller receptive field.
    """

    has_class_token = False
    offset = 0.0

    def __init__(self, name: str, image_size: int = 224):
        super().__init__()
        self.preprocessing = Preprocessing(image_size)
        name, _, last = name.partition("@")
        resnet = cast(torchvision.models.ResNet, torchvision.models.get_model(name, weights=None))
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3 = None if last == "layer2" else resnet.layer3
        width = resnet.fc.in_features
        self.channels, self.stride = (width // 4, 8) if self.layer3 is None else (width // 2, 16)

    @property
    def weights(self) -> nn.Module:
        return self

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return [block for layer in (self.layer1, self.layer2, self.layer3 or ()) for block in layer]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        grid = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images))))))
        return grid if self.layer3 is None else self.layer3(grid), None


class ViTBackbone(nn.Module):
    """torchvision's ViT after its final norm: the patch tokens as a grid, and the class token."""

    has_class_token = True

    def __init__(self, name: str, image_size: int = 224):
        super().__init__()
        self.preprocessing = Preprocessing(image_size)
        self.vit = cast(torchvision.models.VisionTransformer, torchvision.models.get_model(name, weights=None))
        self.vit.heads = nn.Sequential()
        self.channels, self.stride = self.vit.hidden_dim, self.vit.patch_size
        self.offset = (self.stride - 1) / 2

    @property
    def weights(self) -> nn.Module:
        return self.vit

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.vit.encoder.layers)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        patches = self.vit.conv_proj(images)
        size = patches.shape[-2:]
        tokens = torch.cat([self.vit.class_token.expand(images.shape[0], -1, -1), patches.flatten(2).mT], dim=1)
        encoder = self.vit.encoder
        tokens = tokens + interpolate_positions(encoder.pos_embedding[0], tuple(size))
        tokens = encoder.ln(encoder.layers(encoder.dropout(tokens)))
        return tokens[:, 1:].mT.unflatten(-1, size), tokens[:, 0]
