"""U-Net on a ResNet: images [B, 3, H, W] -> logits of one mask [B, 1, H, W] (as MedKLIP's, ICCV 2023).

The backbone, up to layer3, is the encoder. A bridge follows, then four up blocks, each of which doubles the side and
takes the encoder's features of that side as second input:

    image ─> stem ─> layer1 ─> layer2 ─> layer3 ─> bridge ─> up 0 ─> up 1 ─> up 2 ─> up 3 ─> classifier
      │       │        │         └───────────────────────────┘       │       │       │
      │       │        └─────────────────────────────────────────────┘       │       │
      │       └──────────────────────────────────────────────────────────────┘       │
      └──────────────────────────────────────────────────────────────────────────────┘
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.backbones import BackboneError, Preprocessing
from mavl.backbones.adapters import set_mode
from mavl.backbones.torchvision import ResNetBackbone
from mavl.vocab import unknown_name

BACKBONES = ("resnet18", "resnet50")
THRESHOLD = 0.5
"""A pixel with a greater probability belongs to the mask."""
DROPOUT = 0.2
STEM_CHANNELS, IMAGE_CHANNELS = 64, 3


class ConvBlock(nn.Module):
    """3×3 convolution, BatchNorm, ReLU."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(features)))


class Bridge(nn.Module):
    """Two blocks that keep side and channels."""

    def __init__(self, channels: int):
        super().__init__()
        self.bridge = nn.Sequential(ConvBlock(channels, channels), ConvBlock(channels, channels))

    def forward(self, features: Tensor) -> Tensor:
        return self.bridge(features)


class UpBlock(nn.Module):
    """features [B, C, h, w], skipped [B, S, 2h, 2w] -> [B, O, 2h, 2w]."""

    def __init__(self, channels: int, skipped_channels: int, out_channels: int):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(channels, out_channels, kernel_size=2, stride=2)
        self.conv_block_1 = ConvBlock(out_channels + skipped_channels, out_channels)
        self.conv_block_2 = ConvBlock(out_channels, out_channels)

    def forward(self, features: Tensor, skipped: Tensor) -> Tensor:
        joined = torch.cat([self.upsample(features), skipped], dim=1)
        return self.conv_block_2(self.conv_block_1(joined))


class UNet(nn.Module):
    """Parameter names are those of the release, and torchvision's in the backbone.

    With C the channels of the backbone's grid (ResNet-50 1024, ResNet-18 256) the up blocks have C/2, C/4, C/8, C/16.
    """

    def __init__(self, backbone: str = "resnet50", image_size: int = 224):
        super().__init__()
        if backbone not in BACKBONES:
            raise BackboneError(f"a U-Net needs a ResNet up to layer3: {unknown_name('backbone', backbone, BACKBONES)}")
        self.backbone = ResNetBackbone(backbone, image_size)
        channels = self.backbone.channels
        self.bridge = Bridge(channels)
        skipped = (channels // 2, channels // 4, STEM_CHANNELS, IMAGE_CHANNELS)
        self.up_blocks = nn.ModuleList(
            UpBlock(channels >> level, beside, channels >> level + 1) for level, beside in enumerate(skipped)
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.seg_classifier = nn.Conv1d(channels >> len(skipped), 1, kernel_size=1)

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes this model's input."""
        return self.backbone.preprocessing

    def train(self, mode: bool = True) -> "UNet":
        """Set the mode of all modules; a frozen backbone stays in evaluation mode (mavl.backbones.adapters)."""
        super().train(mode)
        set_mode(self.backbone, mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """A side that is no multiple of the stride is padded with its last pixels, and the logits are cropped again."""
        height, width = images.shape[-2:]
        right, below = -width % self.backbone.stride, -height % self.backbone.stride
        images = F.pad(images, (0, right, 0, below), mode="replicate")
        encoder: Any = self.backbone  # a ResNet, whose modules torchvision does not type
        stem = encoder.relu(encoder.bn1(encoder.conv1(images)))
        layer1 = encoder.layer1(encoder.maxpool(stem))
        layer2 = encoder.layer2(layer1)
        features = self.bridge(encoder.layer3(layer2))
        for block, skipped in zip(self.up_blocks, (layer2, layer1, stem, images), strict=True):
            features = block(features, skipped)
        logits = self.seg_classifier(self.dropout(features).flatten(2))
        return logits.unflatten(2, images.shape[-2:])[..., :height, :width]


@torch.no_grad()
def mask_probability(unet: UNet, pixels: Tensor, size: tuple[int, int]) -> np.ndarray:
    """pixels [3, S, S], normalized -> probability float32 [H, W] that a pixel belongs to the mask, in this size."""
    device = next(unet.parameters()).device
    probability = unet(pixels[None].to(device)).float().sigmoid()
    return F.interpolate(probability, size, mode="bilinear", align_corners=False)[0, 0].cpu().numpy()
