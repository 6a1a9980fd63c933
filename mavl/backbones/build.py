"""Backbones: image -> grid of patch features, and the class token where there is one.

Every backbone is called with images [B, 3, H, W] and returns (grid [B, C, h, w], class token [B, C] or None);
`channels` is C, `stride` the pixels of one grid cell, and `first` the pixel that the first one is centred on: a padded
convolution's is 0, a patch's is its middle. Learned positions are interpolated when the input is not the size they were
learned at.
"""

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from mavl.vocab import unknown_name

RESNETS = ("resnet18", "resnet50", "resnet18@layer2", "resnet50@layer2")
VITS = ("vit_b_16", "vit_l_16")
TIMM_PREFIX = "timm:"


@dataclass(frozen=True)
class PatchGrid:
    """Where a grid's patches look: patch i, down or across, is centred on pixel `first` + i · `stride` of the input.

    size: the input's height and width in pixels.
    """

    first: float
    stride: int
    size: tuple[int, int]


class BackboneError(ValueError):
    """A backbone that does not exist, or weights that are not its own."""


def interpolate_positions(positions: Tensor, size: tuple[int, int]) -> Tensor:
    """positions [1 + n·n, C], the first for the pooling or class token -> [1 + h·w, C] for a grid of `size` (h, w)."""
    side = math.isqrt(positions.shape[0] - 1)
    if size == (side, side):
        return positions
    token, grid = positions[:1], positions[1:]
    grid = grid.unflatten(0, (side, side)).movedim(-1, 0)[None]
    grid = F.interpolate(grid, size, mode="bicubic", align_corners=False, antialias=True)
    return torch.cat([token, grid[0].flatten(1).T])


class ResNetBackbone(nn.Module):
    """torchvision's ResNet up to layer3: stride 16, C = 256 (ResNet-18) or 1024 (ResNet-50).

    `NAME@layer2` stops a layer earlier: stride 8, half the channels, and patches that have seen less around them.
    """

    has_class_token = False
    first = 0.0

    def __init__(self, name: str):
        super().__init__()
        name, _, last = name.partition("@")
        resnet = torchvision.models.get_model(name, weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3 = None if last == "layer2" else resnet.layer3
        following = resnet.layer3 if self.layer3 is None else resnet.layer4
        self.channels, self.stride = following[0].conv1.in_channels, 8 if self.layer3 is None else 16

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        grid = self.layer2(self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images))))))
        return grid if self.layer3 is None else self.layer3(grid), None


class ViTBackbone(nn.Module):
    """torchvision's ViT after its final norm: the patch tokens as a grid, and the class token."""

    has_class_token = True

    def __init__(self, name: str):
        super().__init__()
        self.vit = torchvision.models.get_model(name, weights=None)
        self.vit.heads = nn.Identity()
        self.channels, self.stride = self.vit.hidden_dim, self.vit.patch_size
        self.first = (self.stride - 1) / 2

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.vit.conv_proj(images)
        size = patches.shape[-2:]
        tokens = torch.cat([self.vit.class_token.expand(len(images), -1, -1), patches.flatten(2).mT], dim=1)
        encoder = self.vit.encoder
        tokens = tokens + interpolate_positions(encoder.pos_embedding[0], tuple(size))
        tokens = encoder.ln(encoder.layers(encoder.dropout(tokens)))
        return tokens[:, 1:].mT.unflatten(-1, size), tokens[:, 0]


class TimmBackbone(nn.Module):
    """A timm ViT after its final norm, `timm:NAME`, or `timm:NAME@K`: what its block K puts out, counted from 0.

    The output of a block is taken as it is, without the final norm, as in the release; the blocks behind it are cut
    off. NAME may carry a timm tag (`vit_base_patch16_224.dino`). A ViT without a class token gives the mean of its
    patch tokens in its place.
    """

    has_class_token = True

    def __init__(self, name: str):
        super().__init__()
        import timm

        name, _, block = name.removeprefix(TIMM_PREFIX).partition("@")
        if not timm.is_model(name):
            raise BackboneError(unknown_name("timm model", name, timm.list_models()))
        try:
            self.vit = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except TypeError as error:
            raise BackboneError(f"timm's {name} is not a ViT that takes images of any size ({error})") from error
        depth = len(self.vit.blocks)
        if block and not (block.isdigit() and int(block) < depth):
            raise BackboneError(f"timm's {name} has blocks 0 to {depth - 1}, not {block}")
        self.block = int(block) if block else depth - 1
        self.vit.prune_intermediate_layers([self.block], prune_norm=bool(block), prune_head=True)
        self.channels, self.stride = self.vit.embed_dim, self.vit.patch_embed.patch_size[0]
        self.first = (self.stride - 1) / 2

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        [tokens] = self.vit.forward_intermediates(
            images, indices=[self.block], return_prefix_tokens=True, norm=True, intermediates_only=True
        )
        grid, prefix = tokens if self.vit.num_prefix_tokens else (tokens, None)
        return grid, grid.mean(dim=(2, 3)) if self.vit.cls_token is None else prefix[:, 0]


def build_backbone(name: str) -> nn.Module:
    """resnet18 or resnet50, also @layer2; vit_b_16, vit_l_16; timm:NAME[@BLOCK]; weights as drawn by their library."""
    if name in RESNETS:
        return ResNetBackbone(name)
    if name in VITS:
        return ViTBackbone(name)
    if name.startswith(TIMM_PREFIX):
        return TimmBackbone(name)
    raise BackboneError(unknown_name("backbone", name, [*RESNETS, *VITS, TIMM_PREFIX + "NAME"]))


def load_pretrained(backbone: nn.Module, name: str, source: str | Path) -> tuple[list[str], list[str]]:
    """Put pre-trained weights into a backbone: `imagenet` (from the hub) or a file of its library's state dict.

    Returns (names taken, names of the source left out, such as the classifier). BackboneError when a parameter of the
    backbone is not in the source or has another shape: nothing stays at its random start unnoticed.
    """
    target = backbone if isinstance(backbone, ResNetBackbone) else backbone.vit
    state = _downloaded(name) if str(source) == "imagenet" else _read_state(Path(source))
    wanted = target.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    if missing or shapes:
        raise BackboneError(
            f"{source}: not weights of {name}: missing {missing[:5]} ({len(missing)} in all), other shapes {shapes[:5]}"
        )
    taken = [key for key in wanted if key in state]
    target.load_state_dict({key: state[key] for key in taken}, strict=False)
    return taken, [key for key in state if key not in wanted]


def _downloaded(name: str) -> Mapping[str, Tensor]:
    try:
        return _imagenet_state(name)
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"imagenet: the weights of {name} are neither on this machine nor to be had from the network ({error}); "
            "give a file of them in place of imagenet"
        ) from error


def _imagenet_state(name: str) -> Mapping[str, Tensor]:
    if name.startswith(TIMM_PREFIX):
        import timm

        timm_name = name.removeprefix(TIMM_PREFIX).partition("@")[0]
        return timm.create_model(timm_name, pretrained=True, num_classes=0).state_dict()
    weights = torchvision.models.get_model_weights(name.partition("@")[0])
    return weights["IMAGENET1K_V1"].get_state_dict(progress=True, check_hash=True)


def _read_state(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise BackboneError(f"{path}: weights that cannot be read ({error})") from error
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackboneError(f"{path}: holds no state dict")
    return {key.removeprefix("module."): value for key, value in state.items()}
