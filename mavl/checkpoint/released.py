"""Released checkpoints of MAVL and MedKLIP, translated: parameter names, and the model that the shapes tell of.

Strict both ways: a file that is not one of them is refused by the names that are missing, unexpected or misshapen.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mavl.config.released import backbone_name
from mavl.model.mavl import INITIAL_TEMPERATURE, MAVL
from mavl.vocab import ASPECTS, DESCRIPTION

VIT_NAMES = "class_token|conv_proj|encoder|cls_token|reg_token|pos_embed|patch_embed|norm_pre|blocks|norm"
RENAMED = (
    (r"^module\.", ""),
    (r"^res_features\.", "backbone."),
    (r"^backbone\.0\.", "backbone.conv1."),
    (r"^backbone\.1\.", "backbone.bn1."),
    (r"^backbone\.4\.", "backbone.layer1."),
    (r"^backbone\.5\.", "backbone.layer2."),
    (r"^backbone\.6\.", "backbone.layer3."),
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
)


class ReleasedFileError(ValueError):
    """A file that is not a released checkpoint or config; the message names what is missing or unexpected."""


def read_checkpoint(path: Path) -> tuple[Mapping[str, Tensor], dict]:
    """The parameters and the config of a released .pth, unpickled without running anything in it."""
    numpy_scalars = [np.dtype, np.dtypes.Float64DType, np.dtypes.Int64DType, np._core.multiarray.scalar]
    try:
        with torch.serialization.safe_globals(numpy_scalars):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # for foreign files torch raises UnpicklingError, RuntimeError, EOFError, KeyError…
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ReleasedFileError(f"{path}: not a checkpoint that can be read safely ({reason[:160]})") from error
    if not isinstance(content, dict):
        raise ReleasedFileError(f"{path}: holds a {type(content).__name__}, not a checkpoint's dictionary")
    state = content.get("model", content)
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        held = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise ReleasedFileError(f"{path}: no parameters under 'model'; it holds {held}")
    return state, content.get("config") or {}


def convert_names(names: Iterable[str]) -> list[str]:
    """Released parameter names -> this project's, one for one."""
    converted = []
    for name in names:
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        converted.append(name)
    return converted


def convert(state: Mapping[str, Tensor], config: Mapping, source: str) -> tuple[dict, dict[str, Tensor]]:
    """Released parameters and config -> (keyword arguments of MAVL, its state dict); ReleasedFileError if no match."""
    renamed = dict(zip(convert_names(state), state.values(), strict=True))
    # a ViT may carry its ImageNet classifier, which no forward pass of the release used
    converted = {name: value for name, value in renamed.items() if not re.match(r"backbone\.heads?\.", name)}
    _require(converted, {"query_projection.weight": 2, "presence_head.weight": 2, "location_head.weight": None}, source)
    if converted["location_head.weight"].ndim == 2:
        converted = _linear_to_convolution(converted)
    arguments = _arguments(converted, config, source)
    if arguments["contrastive"] and "logit_scale" not in converted:
        # only the training loss reads it, so a file made for testing may lack it
        converted["logit_scale"] = torch.full((len(arguments["aspects"]),), INITIAL_TEMPERATURE).log().neg()
    with torch.device("meta"):  # names and shapes alone
        expected = MAVL(**arguments).state_dict()
    check_state(converted, expected, source)
    return arguments, converted


def _linear_to_convolution(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """MedKLIP's linear layers as the 1×1 convolutions they equal; its ReLU as a PReLU of slope 0."""
    state = dict(state)
    for name in ("grid_projection.0.weight", "grid_projection.2.weight"):
        if name in state:
            state[name] = state[name][:, :, None, None]
    state["grid_projection.1.weight"] = torch.zeros(1)
    state["location_head.weight"] = state["location_head.weight"][:, :, None]
    return state


def _arguments(state: Mapping[str, Tensor], config: Mapping, source: str) -> dict:
    """What the shapes say; the config where they are silent (heads, dropout, a timm model's name, how many layers)."""
    width, text_width = state["query_projection.weight"].shape
    aspects = state["presence_head.weight"].shape[1] // width
    if aspects not in (1, len(ASPECTS)):
        raise ReleasedFileError(f"{source}: classifier of {aspects} aspects a finding; known are 1 and {len(ASPECTS)}")
    layers = {match[1] for name in state if (match := re.match(r"decoder\.layers\.(\d+)\.", name))}
    feedforward = next((v.shape[0] for n, v in state.items() if n.endswith("linear1.weight")), 1024)
    return {
        "backbone": _backbone(state, config, source),
        "aspects": list(ASPECTS if aspects > 1 else (DESCRIPTION,)),
        "text_width": text_width,
        "width": width,
        "layers": int(config.get("N", max(1, len(layers)))),
        "heads": int(config.get("H", 4)),
        "feedforward": feedforward,
        "feature_dropout": float(config.get("dropout", 0.1)),
        "self_attention": any(".self_attn." in name for name in state),
        "contrastive": _is_contrastive(state),
    }


def _is_contrastive(state: Mapping[str, Tensor]) -> bool:
    return "logit_scale" in state or any(name.startswith("pool.") for name in state)


def _backbone(state: Mapping[str, Tensor], config: Mapping, source: str) -> str:
    if "backbone.vit.conv_proj.weight" in state:
        return {768: "vit_b_16", 1024: "vit_l_16"}.get(state["backbone.vit.conv_proj.weight"].shape[0], "vit_b_16")
    if "backbone.vit.patch_embed.proj.weight" in state:
        if "base_model" not in config:
            raise ReleasedFileError(f"{source}: a timm ViT, but no config with its base_model to say which")
        return backbone_name(config["base_model"], None if "backbone.vit.norm.weight" in state else _last_block(state))
    if "backbone.conv1.weight" in state:
        return "resnet50" if "backbone.layer1.0.conv3.weight" in state else "resnet18"
    raise ReleasedFileError(f"{source}: no known backbone; parameters begin {', '.join(list(state)[:4])}")


def _last_block(state: Mapping[str, Tensor]) -> int:
    """Of a timm ViT, which the release cuts off behind the block whose output it reads."""
    return max(int(match[1]) for name in state if (match := re.match(r"backbone\.vit\.blocks\.(\d+)\.", name)))


def _require(converted: Mapping[str, Tensor], dimensions: dict[str, int | None], source: str) -> None:
    """The parameters that the arguments are read off, by name, with their number of dimensions."""
    if missing := [name for name in dimensions if name not in converted]:
        raise ReleasedFileError(
            f"{source}: not a released MAVL or MedKLIP checkpoint: missing {', '.join(missing)};"
            f" it has {len(converted)} parameters, from {next(iter(converted))}"
        )
    for name, ndim in dimensions.items():
        if ndim is not None and converted[name].ndim != ndim:
            raise ReleasedFileError(f"{source}: {name} has shape {tuple(converted[name].shape)}, no matrix")


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """ReleasedFileError that names what is missing, unexpected and misshapen in a state dict."""
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(state[name].shape)} for {tuple(expected[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    problems = (("missing", missing), ("unexpected", unexpected), ("misshapen", shapes))
    lines = [
        f"{what} {', '.join(names[:6])}{' …' * (len(names) > 6)} ({len(names)})" for what, names in problems if names
    ]
    if lines:
        raise ReleasedFileError(f"{source}: does not fit the model: {'; '.join(lines)}")
