"""Activation checkpointing of backbones: less is kept for the backward pass, and no number changes."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torchvision
from accelerate import Accelerator
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from mavl.backbones import build_backbone
from mavl.backbones.checkpointing import checkpoint_activations
from mavl.config.settings import PretrainSettings
from mavl.model.classifier import Classifier
from mavl.model.unet import UNet
from mavl.train.pretrain import build_model
from tests.support.encoders import write_encoder
from tests.support.small_runs import forget_accelerator

ViT = torchvision.models.VisionTransformer


def small_vit(name: str, weights: None) -> ViT:
    return ViT(image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=32, dropout=0.5)


def build(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> nn.Module:
    if name == "vit_b_16":
        monkeypatch.setattr(torchvision.models, "get_model", small_vit)
    torch.manual_seed(0)
    if name.startswith("hf:"):
        return build_backbone(f"hf:{write_encoder(folder, name[3:])}", 32).train()
    whole = {"classifier": lambda: Classifier(classes=2, backbone="resnet18"), "unet": lambda: UNet("resnet18")}
    return (whole.get(name) or (lambda: build_backbone(name, 32)))().train()


def with_checkpointing(model: nn.Module) -> nn.Module:
    again = deepcopy(model)
    checkpoint_activations(getattr(again, "backbone", again).blocks)
    return again


def two_steps(model: nn.Module, side: int = 32) -> tuple[dict[str, torch.Tensor], int]:
    """{name: gradient or buffer} after two forward and backward passes, and the number of values kept for them."""
    torch.manual_seed(1)  # the same dropout
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 0 if isinstance(tensor, nn.Parameter) else tensor.numel()
        return tensor

    for seed in (2, 3):
        with saved_tensors_hooks(count, lambda tensor: tensor):
            output = model(torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed)))
        outputs = output if isinstance(output, tuple) else (output,)
        sum(part.square().mean() for part in outputs if part is not None).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert gradients
    return gradients | dict(model.named_buffers()), kept


NAMES = ["resnet18", "resnet50@layer2", "vit_b_16", "timm:test_vit", "timm:vit_small_patch16_dinov3@1"]
NAMES += ["hf:dinov3", "hf:swin", "timm:test_convnext", "timm:test_efficientnet"]


@pytest.mark.parametrize("name", [*NAMES, "classifier", "unet"])
def test_gradients_and_statistics_stay_the_same_to_the_bit(name, monkeypatch, tmp_path):
    model = build(name, monkeypatch, tmp_path)
    again = with_checkpointing(model)
    side = 64 if name == "hf:swin" else 32  # the side of its last map must be that of its windows
    (expected, kept), (computed, kept_again) = two_steps(model, side), two_steps(again, side)
    assert list(again.state_dict()) == list(model.state_dict())
    assert computed.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(computed[key], expected[key])] == []
    assert kept_again < 0.85 * kept


@pytest.mark.parametrize("name", ["resnet18", "timm:test_vit"])
def test_a_compiled_backbone_gives_the_same(name, monkeypatch, tmp_path):
    model = build(name, monkeypatch, tmp_path)
    again = with_checkpointing(model)
    again.compile(backend="aot_eager")
    (expected, _), (computed, _) = two_steps(model), two_steps(again)
    torch.testing.assert_close(computed, expected)


def test_the_setting_reaches_the_backbone_of_a_training():
    kept = {}
    for chosen in (False, True):
        train = {"backbone_checkpointing": chosen, "channels_last": False}
        settings = PretrainSettings(init={"backbone": "none"}, train=train)
        arguments = {"backbone": "resnet18", "image_size": 32, "text_width": 8, "width": 8, "feedforward": 8}
        kept[chosen] = two_steps(build_model(arguments, settings, Accelerator(cpu=True)).train().backbone)[1]
    forget_accelerator()
    assert kept[True] < 0.5 * kept[False]
