"""Pre-trained weights of an image encoder: from a file, or those of its library from the network."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
import torchvision
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mavl.backbones.protocol import Backbone, BackboneError


def load_pretrained(backbone: Backbone, name: str, source: str | Path) -> tuple[list[str], list[str]]:
    """Load pre-trained weights into a backbone; returns (names loaded, names of the source not used).

    source: `imagenet` (the library's weights, from the hub) or a file of a state dict with the library's names. The
    names not used are the classifier's and the like. BackboneError when a parameter of the backbone is missing in the
    source or has another shape.
    """
    target = backbone.weights
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
    loaded = [key for key in wanted if key in state]
    target.load_state_dict({key: state[key] for key in loaded}, strict=False)
    return loaded, [key for key in state if key not in wanted]


def _downloaded(name: str) -> Mapping[str, Tensor]:
    try:
        return _imagenet_state(name)
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"imagenet: the weights of {name} are neither on this machine nor available from the network ({error}); "
            "give a file of them in place of imagenet"
        ) from error


def _imagenet_state(name: str) -> Mapping[str, Tensor]:
    library, _, inner = name.partition("@")[0].rpartition(":")
    if library == "timm":
        import timm

        return timm.create_model(inner, pretrained=True, num_classes=0).state_dict()
    weights = torchvision.models.get_model_weights(inner)
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
