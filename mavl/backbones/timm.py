"""timm's networks as image encoders: ViTs, and those that give a feature map, convolutional or hierarchical."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mavl.backbones.preprocessing import Preprocessing
from mavl.backbones.protocol import BackboneError, check_side, check_sides
from mavl.vocab import unknown_name


def build(name: str, image_size: int = 224) -> "TimmViT | TimmFeatureMap":
    """The network NAME, or NAME@K, with random weights; K is a block of a ViT or a level of another network.

    NAME may have a timm tag (`vit_base_patch16_224.dino`). Mean, standard deviation and interpolation are those of
    timm's configuration of the model. BackboneError for an unknown name and for a network without a grid.
    """
    import timm

    name, _, level = name.partition("@")
    if not timm.is_model(name):
        raise BackboneError(unknown_name("timm model", name, timm.list_models()))

    def create() -> Any:
        try:
            return timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except TypeError:  # convolutional networks take images of any size without it
            return timm.create_model(name, pretrained=False, num_classes=0)

    network = create()
    if hasattr(getattr(network, "patch_embed", None), "dynamic_feat_size") and hasattr(network, "blocks"):
        return TimmViT(network, name, level, image_size)
    return TimmFeatureMap(network, create, name, level, image_size)


MERGING = (2, 0.5)
"""Factor and shift, as in `_note`, where patches are merged two by two by their place, without a layer that does it."""


class TimmViT(nn.Module):
    """A timm ViT after its final norm, or the output of its block `level`, counted from 0.

    The output of a block is without the final norm, as in the release; the blocks after it are removed. A ViT without a
    class token gives the mean of its patch tokens instead.
    """

    has_class_token = True

    def __init__(self, vit: Any, name: str, level: str, image_size: int):
        super().__init__()
        self.vit, depth = vit, len(vit.blocks)
        self.block = _level(name, level, depth, "blocks")
        self.vit.prune_intermediate_layers([self.block], prune_norm=bool(level), prune_head=True)
        self.channels, self.stride = self.vit.embed_dim, self.vit.patch_embed.feat_ratio()
        self.offset = (self.stride - 1) / 2
        self.preprocessing = _preprocessing(vit, image_size)
        check_side(image_size, self.stride, f"timm:{name}")

    @property
    def weights(self) -> nn.Module:
        return self.vit

    @property
    def blocks(self) -> Sequence[nn.Module]:
        return list(self.vit.blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        size = images.shape[-2:]
        check_sides((size[0], size[1]), self.stride)
        [tokens] = self.vit.forward_intermediates(
            images,
            indices=[self.block],
            return_prefix_tokens=True,
            norm=True,
            output_fmt="NLC",  # "NCHW" copies the grid
            intermediates_only=True,
        )
        patches, prefix = tokens if self.vit.num_prefix_tokens else (tokens, None)
        class_token = patches.mean(dim=1) if prefix is None or self.vit.cls_token is None else prefix[:, 0]
        return patches.mT.unflatten(-1, self.vit.patch_embed.dynamic_feat_size(size)), class_token


class TimmFeatureMap(nn.Module):
    """The feature map of a timm network (ConvNeXt, Swin, EfficientNet, …) before its pooling; there is no class token.

    Of a level, counted from 0 for the finest map, it is the map at the end of that level; those after it are removed.
    """

    has_class_token = False

    def __init__(self, network: Any, create: Callable[[], Any], name: str, level: str, image_size: int):
        super().__init__()
        if not hasattr(network, "forward_intermediates") or not hasattr(network, "feature_info"):
            raise BackboneError(f"timm's {name} gives no feature map")
        self.network, levels = network, [dict(info) for info in network.feature_info]
        index = _level(name, level, len(levels), "levels")
        self.level = index if level else None
        self.stages = [info["module"] for info in levels[: index + 1]]
        self.stride: int = levels[index]["reduction"]
        self.preprocessing = _preprocessing(network, image_size)
        check_side(image_size, self.stride, f"timm:{name}")
        try:
            # the surrounding code may be without gradients
            with torch.inference_mode(False), torch.enable_grad(), torch.device("meta"):
                self.channels, self.offset, unused = self._measure(create().eval())
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise BackboneError(f"timm's {name} gives no feature map of images of any size ({reason})") from error
        self._remove_head(network)
        for key, parameter in network.named_parameters():
            if key in unused:
                parameter.requires_grad_(False)  # of the head; processes would wait for its gradient

    @property
    def weights(self) -> nn.Module:
        return self.network

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of each stage; a stage that is no list of blocks is one."""
        stages: dict[nn.Module, None] = {}
        for name in self.stages:
            parent, _, _ = name.rpartition(".")
            container = self.network.get_submodule(parent) if parent else None
            siblings = container.children() if isinstance(container, nn.Sequential | nn.ModuleList) else ()
            stages |= dict.fromkeys(siblings or [self.network.get_submodule(name)])
        found = []
        for stage in stages:
            inner = getattr(stage, "blocks", stage)
            found += inner.children() if isinstance(inner, nn.Sequential | nn.ModuleList) else [stage]
        return [block for block in found if any(True for _ in block.parameters())]

    def forward(self, images: Tensor) -> tuple[Tensor, None]:
        size = images.shape[-2:]
        check_sides((size[0], size[1]), self.stride)
        return self._map(self.network, images), None

    def _map(self, network: Any, images: Tensor) -> Tensor:
        if self.level is None:
            grid = network.forward_features(images)
            return grid.movedim(-1, 1) if getattr(network, "output_fmt", "NCHW") == "NHWC" else grid
        options = {"indices": [self.level], "output_fmt": "NCHW", "intermediates_only": True}
        return network.forward_intermediates(images, **options)[0]

    def _remove_head(self, network: Any) -> None:
        if self.level is None:
            network.reset_classifier(0, "")
        else:
            network.prune_intermediate_layers([self.level], prune_norm=True, prune_head=True)

    def _measure(self, network: Any) -> tuple[int, float, set[str]]:
        """Channels and offset of the map, and the names of parameters without effect on it, of a copy without data."""
        self._remove_head(network)
        steps: dict[int, tuple[int, float]] = {}
        for name, module in network.named_modules():
            if "attn" not in name and hasattr(module, "kernel_size") and hasattr(module, "stride"):
                module.register_forward_hook(lambda module, inputs, output: _note(steps, module, inputs[0], output))
        side = 8 * self.stride
        grid = self._map(network, torch.empty(2, 3, side, side, device="meta"))
        if grid.ndim != 4 or grid.shape[-2:] != (8, 8):
            raise ValueError(f"{tuple(grid.shape)} for images of {side} pixels")
        offset, jump = 0.0, 1
        while jump < self.stride:
            factor, shift = steps.get(side // jump, MERGING)
            offset, jump = offset + shift * jump, jump * factor
        grid.sum().backward()
        return grid.shape[1], offset, {key for key, value in network.named_parameters() if value.grad is None}


def _note(steps: dict[int, tuple[int, float]], module: Any, images: Tensor, output: Tensor) -> None:
    """Add {side: (factor, shift)} of a layer that makes this side smaller: output i is centred on i · factor + shift.

    Of several the first one stays, which is that of the main path: a shortcut comes after it.
    """
    if images.ndim != 4 or output.ndim != 4 or images.shape[-1] == output.shape[-1]:
        return
    side, factor = images.shape[-1], images.shape[-1] // output.shape[-1]
    kernel, stride, padding = (_first(value) for value in (module.kernel_size, module.stride, module.padding))
    dilation = _first(getattr(module, "dilation", 1))
    reach = dilation * (kernel - 1) + 1
    if type(module).__name__.endswith("Same"):  # TensorFlow's padding, by the size of the input
        padding = max((output.shape[-1] - 1) * stride + reach - side, 0) // 2
    steps.setdefault(side, (factor, (reach - 1) / 2 - padding))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple | list) else value


def _level(name: str, level: str, number: int, what: str) -> int:
    """The number of a level, by default the last; BackboneError for one that the network does not have."""
    if level and not (level.isdigit() and int(level) < number):
        raise BackboneError(f"timm's {name} has {what} 0 to {number - 1}, not {level}")
    return int(level) if level else number - 1


def _preprocessing(network: Any, image_size: int) -> Preprocessing:
    known = network.pretrained_cfg
    return Preprocessing(image_size, known["mean"], known["std"], known["interpolation"])
