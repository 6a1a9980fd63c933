"""Released fine-tuned checkpoints, translated: what kind of network a .pth holds, and a classifier's parameter names.

The release's classifier is `nn.Sequential` of torchvision's ResNet without its last layer (`backbone`; MedKLIP's is
`res_features`) and a linear layer `out` (MedKLIP: `res_out`); torchvision's own names, with `fc` or `classifier`, are
understood too. A U-Net has the release's names but for its backbone.
"""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from mavl.checkpoint.folder import MAVL_KIND
from mavl.checkpoint.released import ReleasedFileError, check_state, convert_names
from mavl.model.classifier import Classifier
from mavl.model.unet import UNet

TRUNK = "|".join(("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"))
RENAMED = (
    (r"^module\.", ""),
    (r"^(backbone|res_features|resnet)\.", ""),
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^([4-7])\.", lambda match: f"layer{int(match[1]) - 3}."),
    (rf"^({TRUNK})\.", r"backbone.\1."),
    (r"^(out|res_out|fc|classifier)\.", "head."),
)


def released_kind(names: Iterable[str]) -> str:
    """The kind of network that a released file with these parameters holds: MAVL_KIND, "classifier" or "segmenter"."""
    converted = set(_convert(names))
    if any(re.match(r"(module\.)?seg_classifier\.", name) for name in converted):
        return "segmenter"
    queries = any("disease_embedding_layer" in name for name in converted)
    return "classifier" if "head.weight" in converted and not queries else MAVL_KIND


def convert_classifier(state: Mapping[str, Tensor], source: str) -> tuple[dict, dict[str, Tensor]]:
    """Released parameters -> (keyword arguments of Classifier, its state dict).

    ReleasedFileError that names what is missing, unexpected or misshapen.
    """
    converted = dict(zip(_convert(state), state.values(), strict=True))
    if "backbone.conv1.weight" not in converted or "head.weight" not in converted:
        begin = ", ".join(list(state)[:4])
        raise ReleasedFileError(f"{source}: no fine-tuned ResNet classifier; its parameters begin {begin}")
    arguments = {
        "backbone": "resnet50" if "backbone.layer1.0.conv3.weight" in converted else "resnet18",
        "classes": len(converted["head.weight"]),
    }
    with torch.device("meta"):  # names and shapes alone
        expected = Classifier(**arguments).state_dict()
    check_state(converted, expected, source)
    return arguments, converted


def convert_segmenter(state: Mapping[str, Tensor], source: str) -> tuple[dict, dict[str, Tensor]]:
    """The parameters of a released fine-tuned U-Net -> (keyword arguments of UNet, its state dict).

    ReleasedFileError that names what is missing, unexpected or misshapen.
    """
    converted = dict(zip(convert_names(state), state.values(), strict=True))
    deep = "backbone.layer1.0.conv3.weight" in converted
    arguments = {"backbone": "resnet50" if deep else "resnet18"}
    with torch.device("meta"):  # names and shapes alone
        expected = UNet(**arguments).state_dict()
    check_state(converted, expected, source)
    return arguments, converted


def _convert(names: Iterable[str]) -> list[str]:
    converted = []
    for name in names:
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        converted.append(name)
    return converted
