"""What of a model is trained: all of it, all but its backbone, or adapters in the backbone and the rest."""

from importlib.util import find_spec
from typing import Any

from accelerate import Accelerator
from torch import nn

from mavl.backbones.adapters import add_adapters
from mavl.backbones.checkpointing import checkpoint_activations
from mavl.config.training import EngineSettings
from mavl.progress import plural


class SetupError(ValueError):
    """A setting that this machine or installation cannot fulfil."""


def refuse_missing_peft(settings: EngineSettings) -> None:
    """SetupError where adapters are set and peft is not installed."""
    if settings.lora is not None and find_spec("peft") is None:
        raise SetupError("train.lora: peft is not installed; pip install peft, or leave train.lora out")


def prepare_backbone(model: Any, settings: EngineSettings, accelerator: Accelerator) -> None:
    """Freeze the backbone, add adapters and checkpoint its activations as the settings say, after it has its weights.

    Prints what is trained, where it is not all.
    """
    refuse_missing_peft(settings)
    backbone = model.backbone
    if settings.freeze:
        backbone.requires_grad_(False)
    adapted = add_adapters(backbone, **settings.lora.model_dump()) if settings.lora else 0
    if settings.backbone_checkpointing:
        checkpoint_activations(backbone.blocks)
    if settings.freeze or settings.lora:
        what = f"LoRA of rank {settings.lora.rank} in {plural(adapted, 'linear layer')}" if settings.lora else "frozen"
        accelerator.print(f"backbone: {what}: {_share(backbone)} trained; of the whole model {_share(model)}")


def lora_of(settings: EngineSettings) -> dict[str, Any] | None:
    """What a model folder states on the adapters of its weights; None without any."""
    return settings.lora.model_dump(mode="json") if settings.lora else None


def _share(module: nn.Module) -> str:
    """Such as: 0.29 of 86.9 million parameters (0.34 %)."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    every, trained = sum(size for size, _ in sizes), sum(size for size, used in sizes if used)
    return f"{trained / 1e6:.3g} of {every / 1e6:.3g} million parameters ({trained / every:.2%})"
