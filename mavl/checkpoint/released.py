"""Released checkpoints of MAVL and MedKLIP, pre-trained and fine-tuned: their parameters under this project's names.

The shapes of the parameters give the arguments of the network, the checkpoint's config gives what shapes cannot.
Loading is strict: a file that does not fit is refused with the names that are missing, unexpected or misshapen.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mavl.backbones.weights import not_a_model
from mavl.config.released import backbone_name
from mavl.model.classifier import Classifier
from mavl.model.mavl import INITIAL_TEMPERATURE, MAVL
from mavl.model.unet import UNet
from mavl.vocab import ASPECTS, DESCRIPTION

MAVL_KIND = "mavl"
NETWORKS: dict[str, type[nn.Module]] = {MAVL_KIND: MAVL, "classifier": Classifier, "segmenter": UNet}
"""{kind of model: class of its network}"""

Renamed = tuple[tuple[str, str | Callable[[re.Match], str]], ...]

BACKBONE: Renamed = (
    (r"^module\.", ""),
    (r"^(res_features|resnet)\.", "backbone."),
    (r"^(conv1|bn1|layer\d|\d)\.", r"backbone.\1."),  # torchvision's own names
    (r"^backbone\.0\.", "backbone.conv1."),
    (r"^backbone\.1\.", "backbone.bn1."),
    (r"^backbone\.([4-7])\.", lambda match: f"backbone.layer{int(match[1]) - 3}."),
)
VIT_NAMES = "class_token|conv_proj|encoder|cls_token|reg_token|pos_embed|patch_embed|norm_pre|blocks|norm"
RENAMED: dict[str, Renamed] = {
    MAVL_KIND: (
        (rf"^backbone\.({VIT_NAMES})\b", r"backbone.vit.\1"),
        (r"^disease_embedding_layer\.", "query_projection."),
        (r"^res_l1\.([01])\.", r"grid_projection.\1."),
        (r"^res_l1\.(weight|bias)$", r"grid_projection.0.\1"),
        (r"^res_l2\.", "grid_projection.2."),
        (r"\.multihead_attn\.", ".cross_attn."),
        (r"^(location_emb|cl_fc)\.", "location_head."),
        (r"^classifier\.", "presence_head."),
        (r"^global_l\.", "pool."),
        (r"^temp$", "logit_scale"),
    ),
    "classifier": ((r"^(out|res_out|fc|classifier)\.", "head."),),
    "segmenter": (),
}
"""{kind: (pattern, replacement) of parameter names, applied after those of BACKBONE}"""


class CheckpointError(ValueError):
    """A source that holds no usable model; the message names it and what is wrong."""


def read_checkpoint(path: Path) -> tuple[Mapping[str, Tensor], dict]:
    """The parameters and the config of a released .pth, unpickled without execution of its code."""
    if what := not_a_model(path):
        raise CheckpointError(f"{path}: {what}")
    numpy_scalars = [np.dtype, np.dtypes.Float64DType, np.dtypes.Int64DType, np.float64().__reduce__()[0]]
    try:
        with torch.serialization.safe_globals(numpy_scalars):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # for foreign files torch raises UnpicklingError, RuntimeError, EOFError, KeyError…
        reason = "damaged, of another program, or with code in it"  # torch's own text advises to run that code
        raise CheckpointError(f"{path}: not a checkpoint that can be read safely ({reason})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint's dictionary")
    state, config = content.get("model", content), content.get("config") or {}
    if not isinstance(state, Mapping) or not state or not all(map(_is_parameter, state.items())):
        held = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise CheckpointError(f"{path}: no parameters under 'model'; it holds {held}")
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: 'config' holds a {type(config).__name__}, not the settings of a training")
    return state, config


def _is_parameter(item: tuple[Any, Any]) -> bool:
    name, value = item
    return isinstance(name, str) and isinstance(value, Tensor) and value.layout == torch.strided


def released_kind(names: Iterable[str]) -> str:
    """The kind of model, one of NETWORKS, that a released file with these parameters holds."""
    modules = {name.removeprefix("module.").partition(".")[0] for name in names}
    if "seg_classifier" in modules:
        return "segmenter"
    heads = {"out", "res_out", "fc", "classifier"}
    return "classifier" if modules & heads and "disease_embedding_layer" not in modules else MAVL_KIND


def convert_names(names: Iterable[str], kind: str = MAVL_KIND) -> list[str]:
    """Released parameter names of a kind of model -> this project's, one for one."""
    converted = []
    for name in names:
        for pattern, replacement in BACKBONE + RENAMED[kind]:
            name = re.sub(pattern, replacement, name)
        converted.append(name)
    return converted


def convert(state: Mapping[str, Tensor], config: Mapping, source: str) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Released parameters and config -> (kind, keyword arguments of its network, state dict for `build`)."""
    kind = released_kind(state)
    weights = dict(zip(convert_names(state, kind), state.values(), strict=True))
    if kind == MAVL_KIND:
        arguments, weights = _convert_mavl(weights, config, source)
    else:
        arguments: dict[str, Any] = {"backbone": _resnet(weights)}
        if kind == "classifier" and "head.weight" in weights:
            arguments["classes"] = len(weights["head.weight"])
    return kind, arguments, weights


def build(kind: str, arguments: Mapping[str, Any], weights: Mapping[str, Tensor], source: str) -> nn.Module:
    """The network of this kind with these weights; CheckpointError where they do not fit."""
    try:
        with torch.device("meta"):  # without memory, until the weights have these sizes
            expected = NETWORKS[kind](**arguments).state_dict()
    except (TypeError, ValueError, RuntimeError) as error:  # such as a keyword that is no longer one of the network's
        raise CheckpointError(f"{source}: {error}") from error
    check_state(weights, expected, source)
    network = NETWORKS[kind](**arguments)
    network.load_state_dict(weights)
    return network


def non_finite(state: Mapping[str, Tensor]) -> str:
    """The first tensors that hold NaN or infinite values, by name; "" if none does."""
    return _first([name for name, value in state.items() if not value.isfinite().all()])


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """CheckpointError with the names that are missing, unexpected, misshapen or not finite in a state dict."""
    problems = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "misshapen": [
            f"{name} {tuple(state[name].shape)} for {tuple(value.shape)}"
            for name, value in expected.items()
            if name in state and state[name].shape != value.shape
        ],
    }
    if lines := [f"{what} {_first(names)}" for what, names in problems.items() if names]:
        raise CheckpointError(f"{source}: does not fit the model: {'; '.join(lines)}")
    if names := non_finite(state):
        raise CheckpointError(f"{source}: damaged, or of a training that failed: NaN or infinite values in {names}")


def _first(names: list[str]) -> str:
    return f"{', '.join(names[:6])}{' …' * (len(names) > 6)} ({len(names)})" if names else ""


def _convert_mavl(weights: dict[str, Tensor], config: Mapping, source: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    # a ViT may hold its ImageNet classifier, which no forward pass of the release used
    weights = {name: value for name, value in weights.items() if not re.match(r"backbone\.heads?\.", name)}
    needed = ("query_projection.weight", "presence_head.weight", "location_head.weight")
    if missing := [name for name in needed if name not in weights]:
        raise CheckpointError(
            f"{source}: not a released MAVL or MedKLIP checkpoint: missing {', '.join(missing)}; it has {len(weights)} "
            f"parameters, from {next(iter(weights))}"
        )
    if weights["location_head.weight"].ndim == 2:
        # MedKLIP's linear layers are 1 × 1 convolutions, its ReLU is a PReLU of slope 0
        for name in {"grid_projection.0.weight", "grid_projection.2.weight"} & weights.keys():
            weights[name] = weights[name][:, :, None, None]
        weights["grid_projection.1.weight"] = torch.zeros(1)
        weights["location_head.weight"] = weights["location_head.weight"][:, :, None]
    arguments = _mavl_arguments(weights, config, source)
    if arguments["contrastive"] and "logit_scale" not in weights:
        # only the training loss uses it, so a file made for testing may lack it
        weights["logit_scale"] = torch.full((len(arguments["aspects"]),), INITIAL_TEMPERATURE).log().neg()
    return arguments, weights


def _mavl_arguments(weights: Mapping[str, Tensor], config: Mapping, source: str) -> dict[str, Any]:
    width, text_width = weights["query_projection.weight"].shape[:2]
    aspects = weights["presence_head.weight"].shape[1] // width
    if aspects not in (1, len(ASPECTS)):
        raise CheckpointError(f"{source}: classifier of {aspects} aspects a finding; known are 1 and {len(ASPECTS)}")
    layers = {match[1] for name in weights if (match := re.match(r"decoder\.layers\.(\d+)\.", name))}
    return {
        "backbone": _mavl_backbone(weights, config, source),
        "aspects": list(ASPECTS if aspects > 1 else (DESCRIPTION,)),
        "text_width": text_width,
        "width": width,
        "layers": int(config.get("N", max(1, len(layers)))),
        "heads": int(config.get("H", 4)),
        "feedforward": next((len(value) for name, value in weights.items() if name.endswith("linear1.weight")), 1024),
        "feature_dropout": float(config.get("dropout", 0.1)),
        "self_attention": any(".self_attn." in name for name in weights),
        "contrastive": any(name == "logit_scale" or name.startswith("pool.") for name in weights),
    }


def _mavl_backbone(weights: Mapping[str, Tensor], config: Mapping, source: str) -> str:
    if "backbone.vit.conv_proj.weight" in weights:
        return "vit_l_16" if len(weights["backbone.vit.conv_proj.weight"]) == 1024 else "vit_b_16"
    if "backbone.vit.patch_embed.proj.weight" in weights:
        if "base_model" not in config:
            raise CheckpointError(f"{source}: a timm ViT, but no config with its base_model to say which")
        # the release cuts it off behind the block whose output it uses
        blocks = [int(match[1]) for name in weights if (match := re.match(r"backbone\.vit\.blocks\.(\d+)\.", name))]
        return backbone_name(config["base_model"], None if "backbone.vit.norm.weight" in weights else max(blocks))
    return _resnet(weights)


def _resnet(weights: Mapping[str, Tensor]) -> str:
    """By its blocks, of three convolutions in ResNet-50."""
    return "resnet50" if "backbone.layer1.0.conv3.weight" in weights else "resnet18"
