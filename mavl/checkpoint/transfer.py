"""Where a network that is fine-tuned gets its weights: a whole backbone from ImageNet, its part of a pre-trained MAVL.

Every tensor is accounted for: what was taken, what of the source was left, what of the network kept its former values.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from mavl.backbones.weights import load_pretrained
from mavl.checkpoint.folder import CheckpointError, find, load
from mavl.config.settings import InitSettings

STARTED_FROM = "started_from.json"


class InitError(ValueError):
    """A source that does not fit the network; the message names both and what to change."""


@dataclass(frozen=True)
class Transfer:
    """What one source gave. Names of tensors: `taken` and `kept` (not in the source) of the network, `left` of it.

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
    """InitError where the settings name what is not there: at once, before data are read or a folder is made."""
    if init.backbone not in ("imagenet", "none") and not Path(init.backbone).is_file():
        raise InitError(f"init.backbone: {init.backbone}: no such file; set it to a file, imagenet or none")
    if init.checkpoint:
        try:
            find(init.checkpoint)
        except CheckpointError as error:
            raise InitError(
                f"init.checkpoint: {error}; name another by --checkpoint (./download.sh --only checkpoints fetches the "
                "released ones), or start without any by --override init.checkpoint=null"
            ) from error


def initialise(backbone: nn.Module, name: str, init: InitSettings, accelerator: Accelerator) -> list[Transfer]:
    """Fill the backbone called `name` as the settings say, print and return what came from where.

    First `init.backbone` ("imagenet", a file, or "none": it stays random), then `init.checkpoint` over it. Errors:
    BackboneError, CheckpointError and InitError, each naming the source.
    """
    transfers = []
    if init.backbone != "none":
        with accelerator.local_main_process_first():  # one download a node
            taken, left = load_pretrained(backbone, name, init.backbone)
        transfers.append(Transfer(init.backbone, name, taken, left, []))
    if init.checkpoint is not None:
        with accelerator.local_main_process_first():
            transfers.append(transfer_backbone(backbone, init.checkpoint))
    for transfer in transfers:
        accelerator.print(transfer)
    if not transfers:
        accelerator.print("backbone: drawn at random (init.backbone none, no checkpoint)")
    return transfers


def transfer_backbone(backbone: nn.Module, source: str | Path) -> Transfer:
    """Put the backbone of a MAVL or MedKLIP (a model folder, released .pth or hub id) into this one.

    Of a ResNet these are the stem and layers 1 to 3, which may go into a whole ResNet, whose layer4 then keeps its
    values; of a ViT, all of it. InitError unless every tensor of the source's backbone has its place and shape here.
    """
    loaded = load(str(source))
    pretrained, name_of_source = loaded.model.state_dict(), loaded.about["model"].get("backbone", "resnet50")
    prefix = "backbone."
    given = {name.removeprefix(prefix): value for name, value in pretrained.items() if name.startswith(prefix)}
    own = backbone.state_dict()
    taken = [name for name in given if name in own]
    fix = f"set model.backbone to the checkpoint's, {name_of_source}"
    if not taken:
        raise InitError(f"{source}: none of its {len(given)} backbone tensors has a place in this backbone; {fix}")
    if homeless := [name for name in given if name not in own]:
        raise InitError(f"{source}: no place in this backbone for {', '.join(homeless[:5])} ({len(homeless)}); {fix}")
    misshapen = [
        f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}"
        for name in taken
        if given[name].shape != own[name].shape
    ]
    if misshapen:
        raise InitError(f"{source}: other shapes: {', '.join(misshapen[:5])} ({len(misshapen)}); {fix}")
    backbone.load_state_dict(given, strict=False)
    left = [name for name in pretrained if not name.startswith(prefix)]
    return Transfer(str(source), name_of_source, taken, left, [name for name in own if name not in given])


def write_transfers(folder: Path, transfers: Iterable[Transfer]) -> None:
    """What came from where, into a run folder."""
    (folder / STARTED_FROM).write_text(json.dumps([vars(transfer) for transfer in transfers], indent=2) + "\n")


def parts(names: Iterable[str]) -> str:
    """The modules that tensors belong to: conv1, bn1, layer1, …"""
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
