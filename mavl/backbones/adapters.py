"""LoRA adapters in a backbone (Hu et al. 2021): W + alpha / rank · B · A in its linear layers, with W frozen."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from mavl.backbones.protocol import Backbone, BackboneError

LORA = "lora_"
"""In the names of an adapter's modules and parameters, as peft gives them."""
BASE, A, B = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


def add_adapters(backbone: Backbone, rank: int, alpha: float, dropout: float = 0.0, targets: str | None = None) -> int:
    """Add adapters to linear layers of a backbone, freeze all else in it, and return the number of these layers.

    Weights must be loaded before, since the parameters of an adapted layer have other names.

    Args:
        backbone: changed in place; its first output stays the same, since B begins with zeros.
        rank: rows of A.
        alpha: the adapter counts alpha / rank times.
        dropout: of the adapter's input in training.
        targets: regular expression of the whole name, in `backbone.weights`, of the layers; by default the linear
            layers of the attention in its blocks, or all of its blocks where none belongs to attention.
    """
    from peft import LoraConfig, inject_adapter_in_model

    names = _chosen(backbone, targets)
    pattern = "|".join(map(re.escape, names))  # peft takes a list of names as endings, a text as the whole name
    scale: Any = alpha  # peft states it as a whole number, and takes any
    config = LoraConfig(r=rank, lora_alpha=scale, lora_dropout=dropout, target_modules=pattern)
    inject_adapter_in_model(config, backbone.weights)
    return len(names)


def _chosen(backbone: Backbone, targets: str | None) -> list[str]:
    """The names of the layers to adapt; BackboneError where there are none, or one that is not linear."""
    network = backbone.weights
    if targets is not None:
        names = [name for name, _ in network.named_modules() if re.fullmatch(targets, name)]
        if other := [name for name in names if not isinstance(network.get_submodule(name), nn.Linear)]:
            kind = type(network.get_submodule(other[0])).__name__
            raise BackboneError(f"train.lora.targets: {other[0]} is of the type {kind}; LoRA adapts linear layers")
        if not names:
            linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
            some = f"such as {', '.join(linear[:3])}" if linear else "of which it has none"
            raise BackboneError(f"train.lora.targets: {targets!r} is the name of no linear layer, {some}")
        return names
    linear = list(_linear_layers(backbone))
    if not linear:
        raise BackboneError("train.lora: the backbone has no linear layers to adapt: use a ViT, or train.freeze")
    return [name for name in linear if "attn" in name or "attention" in name] or linear


def _linear_layers(backbone: Backbone) -> Iterator[str]:
    """The names of the linear layers of the blocks; those of torch's attention, which reads weights alone, are not."""
    network, blocks = backbone.weights, set(backbone.blocks)
    inside = {module for block in blocks for module in block.modules()}
    fused = {each for module in inside if isinstance(module, nn.MultiheadAttention) for each in module.modules()}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and module in inside and module not in fused:
            yield name


def merge_adapters(state: Mapping[str, Tensor], rank: int, alpha: float) -> dict[str, Tensor]:
    """The state dict of a network with adapters -> that of the plain network: W + alpha / rank · B · A.

    BackboneError for an adapter whose matrices do not fit its layer.
    """
    merged = {name.replace(BASE, "."): value for name, value in state.items() if LORA not in name}
    for name, first in state.items():
        if not name.endswith(A):
            continue
        layer = name.removesuffix(A)
        weight, second = merged.get(f"{layer}.weight"), state.get(f"{layer}{B}")
        if weight is None or second is None or (len(second), first.shape[-1], first.shape[0]) != _sizes(weight, second):
            raise BackboneError(f"the adapter of {layer} does not fit its layer, or is not whole")
        merged[f"{layer}.weight"] = weight + alpha / rank * (second @ first)
    return merged


def _sizes(weight: Tensor, second: Tensor) -> tuple[int, int, int]:
    """Outputs and inputs of a layer, and the columns of B."""
    return weight.shape[0], weight.shape[-1], second.shape[-1]


def set_mode(backbone: Any, training: bool) -> None:
    """Put a backbone into training or evaluation mode; one whose own weights are all frozen stays in evaluation mode.

    So BatchNorm keeps its statistics, and no random augmentation inside the network, as of DINOv3's positions, changes
    frozen features. Adapters are always in the mode that is given.
    """
    own = (parameter for name, parameter in backbone.named_parameters() if LORA not in name)
    backbone.train(training and any(parameter.requires_grad for parameter in own))
    for name, module in backbone.named_modules():
        if LORA in name:
            module.train(training)
