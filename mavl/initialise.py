"""Where a network that is fine-tuned gets its weights: a whole backbone from ImageNet, its part of a pre-trained MAVL.

Every tensor is accounted for: what was taken, what of the source was left, what of the network kept its former values.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from torch import nn

from mavl import checkpoint
from mavl.backbones import load_pretrained
from mavl.settings import InitSettings


class InitError(ValueError):
    """A source that does not fit the network; the message names both and what to change."""


@dataclass(frozen=True)
class Transfer:
    """What one source gave. Names of tensors: `taken` and `kept` (not in the source) of the network, `left` of it."""

    source: str
    taken: list[str]
    left: list[str]
    kept: list[str]

    def __str__(self) -> str:
        kept = f"; {parts(self.kept)} not in it" if self.kept else ""
        left = f"left out {parts(self.left)}" if self.left else "nothing left out"
        return f"{self.source}: {len(self.taken)} tensors taken ({parts(self.taken)}), {left}{kept}"


def initialise(backbone: nn.Module, name: str, init: InitSettings, accelerator: Accelerator) -> list[Transfer]:
    """Fill the backbone called `name` as the settings say, print and return what came from where.

    First `init.backbone` ("imagenet", a file, or "none": it stays random), then `init.checkpoint` over it. Errors:
    BackboneError, CheckpointError and InitError, each naming the source.
    """
    transfers = []
    if init.backbone != "none":
        with accelerator.local_main_process_first():  # one download a node
            taken, left = load_pretrained(backbone, name, init.backbone)
        transfers.append(Transfer(init.backbone, taken, left, []))
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
    pretrained = checkpoint.load(str(source)).model.state_dict()
    prefix = "backbone."
    given = {name.removeprefix(prefix): value for name, value in pretrained.items() if name.startswith(prefix)}
    own = backbone.state_dict()
    taken = [name for name in given if name in own]
    fix = "set model.backbone to that of the checkpoint"
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
    return Transfer(str(source), taken, left, [name for name in own if name not in given])


def parts(names: Iterable[str]) -> str:
    """The modules that tensors belong to: conv1, bn1, layer1, …"""
    return ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
