"""Image encoders, one file for each library that they come from, and the weights of those libraries.

`build_backbone(name)` builds any of them; `mavl.backbones.protocol.Backbone` states what each one offers.
"""

from collections.abc import Callable

from mavl.backbones import timm, torchvision, transformers
from mavl.backbones.preprocessing import Preprocessing
from mavl.backbones.protocol import Backbone, BackboneError, PatchGrid
from mavl.vocab import unknown_name

__all__ = ["LIBRARIES", "Backbone", "BackboneError", "PatchGrid", "Preprocessing", "build_backbone"]

LIBRARIES: dict[str, Callable[[str, int], Backbone]] = {"timm": timm.build, "hf": transformers.TransformersBackbone}
"""{prefix of a name, as in timm:NAME: function (name without the prefix, image size) -> backbone}.

Names without a prefix are torchvision's.
"""


def build_backbone(name: str, image_size: int = 224) -> Backbone:
    """The image encoder of this name, with the random weights of its library.

    name: resnet18 or resnet50, also with @layer2; vit_b_16, vit_l_16; timm:NAME[@LEVEL]; hf:NAME_OR_FOLDER.
    image_size: side in pixels to which its preprocessing resizes. BackboneError for an unknown name.
    """
    library, colon, inner = name.partition(":")
    if colon and library in LIBRARIES:
        return LIBRARIES[library](inner, image_size)
    if name in torchvision.RESNETS:
        return torchvision.ResNetBackbone(name, image_size)
    if name in torchvision.VITS:
        return torchvision.ViTBackbone(name, image_size)
    known = [*torchvision.RESNETS, *torchvision.VITS, *(f"{prefix}:NAME" for prefix in LIBRARIES)]
    raise BackboneError(unknown_name("backbone", name, known))
