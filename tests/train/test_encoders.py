"""Training with encoders of transformers and timm: resumed to the bit, frozen, and with LoRA adapters."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mavl import checkpoint
from mavl.checkpoint import finetuned
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.loader import ConfigError, load
from mavl.config.settings import PretrainSettings
from mavl.train import classification, pretrain, segmentation
from tests.support.encoders import side, write_encoder
from tests.support.small_runs import forget_accelerator
from tests.support.trainings import write_training

TIMM = "test_convnext"


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    yield
    forget_accelerator()


def settings(folder: Path, name: str, **train) -> tuple[Path, list[str]]:
    """A config of one epoch of two steps, and the keys that it changes."""
    config = write_training("pretraining", folder, epochs=1, **train)
    if name == TIMM:
        backbone, start = f"timm:{name}", "none"
    else:
        backbone, start = f"hf:{write_encoder(folder / 'encoder', name)}", "pretrained"
    changed = {
        "model.backbone": backbone,
        "model.image_size": side(name),
        "init.backbone": start,
        "data.train": 8,
        "data.valid": 4,
        "train.channels_last": False,
        "output_dir": str(folder / "run"),
    }
    return config, [f"{key}={json.dumps(value)}" for key, value in changed.items()]


def train(folder: Path, name: str, *overrides: str, resume: bool = False, **of_train) -> Path:
    config, changed = settings(folder, name, **of_train)
    pretrain.run(load(PretrainSettings, config, [*changed, *overrides]), resume)
    forget_accelerator()
    return folder / "run"


def resumed(run: Path, name: str, *overrides: str, **of_train) -> dict[str, torch.Tensor]:
    """The weights at the end of the same run, gone on with after its first step."""
    shutil.rmtree(run / "checkpoints/step_00000002")
    shutil.rmtree(run / "last")
    train(run.parent, name, *overrides, resume=True, **of_train)
    return load_file(run / "last/model.safetensors")


def trained_names(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in after if name not in before or not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("name", ["dinov2", "registers", "siglip", "dinov3", "swin", TIMM])
def test_two_steps_and_a_resumed_run_end_with_the_same_bits(tmp_path, name, capsys):
    run = train(tmp_path, name, optimizer := "optimizer.backbone_lr=1e-5", "optimizer.layer_decay=0.5")
    whole = load_file(run / "last/model.safetensors")
    again = resumed(run, name, optimizer, "optimizer.layer_decay=0.5")
    assert again.keys() == whole.keys()
    assert [key for key in whole if not torch.equal(again[key], whole[key])] == []
    assert "resumed from" in capsys.readouterr().out
    started = checkpoint.load(run / "last").model.backbone
    assert any(key.startswith("backbone.") for key in whole)
    assert started.preprocessing.image_size == side(name)


@pytest.mark.parametrize("name", ["dinov3", TIMM])
def test_a_frozen_backbone_keeps_its_bits_and_stays_in_evaluation_mode(tmp_path, name, capsys):
    run = train(tmp_path, name, freeze="backbone")
    first, last = (
        torch.load(run / f"checkpoints/step_0000000{step}/state.pt", weights_only=True)["model"] for step in (1, 2)
    )
    changed = trained_names(first, last)
    assert not any(key.startswith("backbone.") for key in changed)
    assert "decoder.layers.0.linear1.weight" in changed
    assert "backbone: frozen: 0 of " in capsys.readouterr().out
    model = checkpoint.load(run / "last").model.requires_grad_(True)
    model.backbone.requires_grad_(False)
    model.train()
    assert model.training
    assert model.decoder.training
    assert not any(module.training for module in model.backbone.modules())
    model.backbone.requires_grad_(True)
    assert model.train().backbone.training


def test_lora_trains_adapters_alone_resumes_to_the_bit_and_loads(tmp_path, capsys):
    lora = {"rank": 4, "alpha": 8, "dropout": 0.5}
    run = train(tmp_path, "dinov3", lora=lora)
    said = capsys.readouterr().out
    # q, k, v and output of 2 layers, each a matrix of 4 × 32 and one of 32 × 4
    assert "LoRA of rank 4 in 8 linear layers: 0.00205 of 0.0" in said
    whole = load_file(run / "last/model.safetensors")
    again = resumed(run, "dinov3", lora=lora)
    assert [key for key in whole if not torch.equal(again[key], whole[key])] == []
    first, last = (
        torch.load(run / f"checkpoints/step_0000000{step}/state.pt", weights_only=True)["model"] for step in (1, 2)
    )
    changed = {key for key in trained_names(first, last) if key.startswith("backbone.")}
    assert changed
    assert all("lora_" in key for key in changed)
    about = json.loads((run / "last/mavl.json").read_text())
    assert about["lora"] == lora | {"targets": None}
    assert about["model"]["backbone"] == "hf:image_encoder"
    shutil.rmtree(tmp_path / "encoder")
    plain = checkpoint.load(run / "last").model
    assert not any("lora_" in name for name in plain.state_dict())


def test_a_classifier_is_fine_tuned_with_lora_from_the_pre_trained_model(tmp_path):
    """Its backbone is that of a folder whose adapters are merged, and gets adapters of its own."""
    run = train(tmp_path, "dinov2", lora={"rank": 2})
    shutil.rmtree(tmp_path / "encoder")
    config = write_training("classification", tmp_path / "classifier", epochs=1, lora={"rank": 2}, channels_last=False)
    changed = {
        "model.backbone": f"hf:{run / 'best/image_encoder'}",
        "model.image_size": 56,
        "init.checkpoint": str(run / "best"),
        "output_dir": str(tmp_path / "finetuned"),
    }
    settings = load(FinetuneClsSettings, config, [f"{key}={json.dumps(value)}" for key, value in changed.items()])
    folder = classification.run(settings)[0] / "best"
    stored, start = load_file(folder / "model.safetensors"), checkpoint.load(run / "best").model.state_dict()
    base = "backbone.network.encoder.layer.0.attention.q_proj"
    assert torch.equal(stored[f"{base}.base_layer.weight"], start[f"{base}.weight"])
    assert stored[f"{base}.lora_B.default.weight"].abs().max() > 0
    loaded = finetuned.load(folder).model
    merged = stored[f"{base}.lora_B.default.weight"] @ stored[f"{base}.lora_A.default.weight"] * 16 / 2
    torch.testing.assert_close(loaded.state_dict()[f"{base}.weight"], start[f"{base}.weight"] + merged)


def test_a_frozen_encoder_of_a_u_net_and_a_probe_with_lora(tmp_path):
    config = write_training("segmentation", tmp_path, epochs=1, keep=2, freeze="backbone")
    folder = segmentation.run(load(FinetuneSegSettings, config, [f"output_dir={tmp_path / 'run'}"]))[0]
    first, last = (
        torch.load(folder / f"checkpoints/step_0000000{step}/state.pt", weights_only=True)["model"] for step in (2, 3)
    )
    changed = trained_names(first, last)
    assert not any(key.startswith("backbone.") for key in changed)
    assert any(key.startswith("bridge.") for key in changed)
    with pytest.raises(ConfigError, match=r"hf:encoder.*expected 'resnet50' or 'resnet18'"):
        load(FinetuneSegSettings, config, ["model.backbone=hf:encoder"])
    probe = ["data.benchmark=x", "model.linear_probe=true", "train.lora.rank=2"]
    with pytest.raises(ConfigError, match=r"model\.linear_probe leaves the backbone as it is, train\.lora trains it"):
        load(FinetuneClsSettings, None, probe)


def test_lora_without_peft_is_one_line_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("mavl.train.trainable.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"train\.lora: peft is not installed; pip install peft"):
        train(tmp_path, "dinov3", lora={"rank": 2})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["train.freeze=backbone", "optimizer.backbone_lr=1e-5"], "with train.freeze have no effect"),
        (["train.freeze=backbone", "optimizer.layer_decay=0.9"], "with train.freeze have no effect"),
        (["train.lora.targets=("], "not a valid regular expression"),
        (["train.lora.rank=0"], r"train\.lora\.rank"),
        (["optimizer.layer_decay=1.1"], r"optimizer\.layer_decay"),
        (["train.freeze=decoder"], r"train\.freeze"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(overrides, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load(PretrainSettings, None, overrides)
    load(PretrainSettings, None, ["train.freeze=backbone", "optimizer.backbone_lr=1e-3", "train.lora.rank=2"])
