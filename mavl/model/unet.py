"""U-Net on a ResNet: images [B, 3, H, W] -> logits of one mask [B, 1, H, W]. SPEC §12.

The backbone is the encoder, up to layer3; a bridge works on its grid, and four up blocks double the side until the
image's own is reached, each with the encoder's features of that side beside it:

    image ─> stem ─> layer1 ─> layer2 ─> layer3 ─> bridge ─> up 0 ─> up 1 ─> up 2 ─> up 3 ─> classifier
      │       │        │         └───────────────────────────┘       │       │       │
      │       │        └─────────────────────────────────────────────┘       │       │
      │       └──────────────────────────────────────────────────────────────┘       │
      └──────────────────────────────────────────────────────────────────────────────┘
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.backbones.build import build_backbone
from mavl.checkpoint.released import check_state, convert_names
from mavl.vocab import unknown_name

BACKBONES = ("resnet18", "resnet50")
DROPOUT = 0.2
STEM_CHANNELS, IMAGE_CHANNELS = 64, 3


class UNetError(ValueError):
    """A backbone without the features that a U-Net needs."""


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
    """Parameter names are the release's, but for the backbone's, which are torchvision's (`from_released`).

    With C the channels of the backbone's grid (ResNet-50 1024, ResNet-18 256) the up blocks have C/2, C/4, C/8, C/16.
    """

    def __init__(self, backbone: str = "resnet50"):
        super().__init__()
        if backbone not in BACKBONES:
            raise UNetError(f"a U-Net needs a ResNet up to layer3: {unknown_name('backbone', backbone, BACKBONES)}")
        self.backbone = build_backbone(backbone)
        channels = self.backbone.channels
        self.bridge = Bridge(channels)
        skipped = (channels // 2, channels // 4, STEM_CHANNELS, IMAGE_CHANNELS)
        self.up_blocks = nn.ModuleList(
            UpBlock(channels >> level, beside, channels >> level + 1) for level, beside in enumerate(skipped)
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.seg_classifier = nn.Conv1d(channels >> len(skipped), 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """A side that is no multiple of the stride is padded with its last pixels, and the logits cut to it again."""
        height, width = images.shape[-2:]
        right, below = -width % self.backbone.stride, -height % self.backbone.stride
        images = F.pad(images, (0, right, 0, below), mode="replicate")
        encoder = self.backbone
        stem = encoder.relu(encoder.bn1(encoder.conv1(images)))
        layer1 = encoder.layer1(encoder.maxpool(stem))
        layer2 = encoder.layer2(layer1)
        features = self.bridge(encoder.layer3(layer2))
        for block, skipped in zip(self.up_blocks, (layer2, layer1, stem, images), strict=True):
            features = block(features, skipped)
        logits = self.seg_classifier(self.dropout(features).flatten(2))
        return logits.unflatten(2, images.shape[-2:])[..., :height, :width]


def from_released(state: Mapping[str, Tensor], source: str) -> tuple[dict, dict[str, Tensor]]:
    """The parameters of a released fine-tuned U-Net -> (keyword arguments of UNet, its state dict).

    ReleasedFileError (mavl.checkpoint.released) that names what is missing, unexpected or misshapen.
    """
    converted = dict(zip(convert_names(state), state.values(), strict=True))
    deep = "backbone.layer1.0.conv3.weight" in converted
    arguments = {"backbone": "resnet50" if deep else "resnet18"}
    with torch.device("meta"):  # names and shapes alone
        expected = UNet(**arguments).state_dict()
    check_state(converted, expected, source)
    return arguments, converted
