"""Initial weights of a network to fine-tune: a whole backbone from ImageNet, over it that of a pre-trained MAVL.

Every tensor is listed: as taken, as left out of the source, or as kept by the network with its former values.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from torch import nn

from mavl.backbones.protocol import Backbone
from mavl.backbones.weights import LIBRARY, load_pretrained
from mavl.checkpoint.folder import find, load
from mavl.checkpoint.released import CheckpointError, check_state
from mavl.config.settings import InitSettings

PREFIX = "backbone."


@dataclass(frozen=True)
class Transfer:
    """The names of tensors that the network took from one source, that were left in it, and that the network kept.

    backbone: the name of the source's backbone.
    """

    source: str
    backbone: str
    taken: list[str]
    left: list[str]
    kept: list[str]

    def __str__(self) -> str:
        kept = f"; {parts(self.kept)} not in it" if self.kept else ""
        left = f"left out {parts(self.left)}" if self.left else "nothing left out"
        return f"{self.source}: {len(self.taken)} tensors taken ({parts(self.taken)}), {left}{kept}"


def check_sources(init: InitSettings) -> None:
    """CheckpointError for a source that does not exist; to be called before data are read or a folder is made."""
    if init.backbone not in (*LIBRARY, "none") and not Path(init.backbone).exists():
        fix = "set it to a file, pretrained, imagenet or none"
        raise CheckpointError(f"init.backbone: {init.backbone}: no such file; {fix}")
    if init.checkpoint:
        try:
            find(init.checkpoint)
        except CheckpointError as error:
            raise CheckpointError(
                f"init.checkpoint: {error}; name another by --checkpoint (./download.sh --only checkpoints fetches the "
                "released ones), or start without one by --override init.checkpoint=null"
            ) from error


def initialise(backbone: Backbone, name: str, init: InitSettings, accelerator: Accelerator) -> list[Transfer]:
    """Load the weights that the settings name into the backbone called `name`; print and return what was taken.

    First `init.backbone` ("none" for random weights), then `init.checkpoint` over it. Errors:
    BackboneError and CheckpointError, which name the source.
    """
    transfers = []
    if init.backbone != "none":
        with accelerator.local_main_process_first():  # one download a node
            taken, left = load_pretrained(backbone, name, init.backbone)
        transfers.append(Transfer(init.backbone, name, taken, left, []))
    if init.checkpoint is not None:
        with accelerator.local_main_process_first():
            transfers.append(transfer_backbone(cast(nn.Module, backbone), init.checkpoint))
    for transfer in transfers:
        accelerator.print(transfer)
    if not transfers:
        accelerator.print("backbone: the weights it is built with, random in every library (init.backbone none)")
    return transfers


def transfer_backbone(backbone: nn.Module, source: str | Path) -> Transfer:
    """Load the backbone of a MAVL or MedKLIP (a model folder, released .pth or hub id) into this one.

    Of a ResNet these are the stem and layers 1 to 3; a whole ResNet keeps its layer4. CheckpointError unless every
    tensor of the source's backbone has its place and shape here.
    """
    loaded = load(source)
    pretrained, name = loaded.model.state_dict(), loaded.about["model"].get("backbone", "resnet50")
    given = {key.removeprefix(PREFIX): value for key, value in pretrained.items() if key.startswith(PREFIX)}
    own = backbone.state_dict()
    try:
        check_state(given, {key: value for key, value in own.items() if key in given}, f"the backbone of {source}")
    except CheckpointError as error:
        raise CheckpointError(f"{error}; set model.backbone to the checkpoint's, {name}") from error
    backbone.load_state_dict(given, strict=False)
    left = [key for key in pretrained if not key.startswith(PREFIX)]
    return Transfer(str(source), name, list(given), left, [key for key in own if key not in given])


def parts(names: Iterable[str]) -> str:
    """The modules that tensors belong to: conv1, bn1, layer1, …"""
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
