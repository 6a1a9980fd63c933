"""Encoders of transformers: the library's own grid, its preprocessing, its weights, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from mavl.backbones import BackboneError, Preprocessing, build_backbone
from mavl.backbones.weights import load_pretrained
from tests.support.encoders import ENCODERS, PROCESSOR, library_model, side, write_encoder

STRIDES = {"dinov2": 14, "registers": 14, "siglip": 14, "clip": 14, "vit": 14, "dinov3": 16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {name: write_encoder(root / name, name) for name in ENCODERS}


@pytest.fixture(scope="module")
def backbones(folders):
    """{name: the backbone with the weights of its folder, in evaluation mode}"""
    built = {}
    for name, folder in folders.items():
        built[name] = build_backbone(f"hf:{folder}", side(name))
        load_pretrained(built[name], f"hf:{folder}", "pretrained")
        built[name].eval()
    return built


def images(*size: int) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("scale", [(1, 1), (2, 1), (3, 3)])
def test_the_grid_is_the_librarys_own_at_every_size(backbones, name, scale):
    backbone, model, stride = backbones[name], library_model(name), STRIDES.get(name, 32)
    height, width = (side(name) * times for times in scale)
    takes = {"interpolate_pos_encoding": True} if name in ("siglip", "clip", "vit") else {}
    with torch.no_grad():
        grid, class_token = backbone(images(height, width))
        output = model(images(height, width), **takes)
    rows, columns = height // stride, width // stride
    last = output.last_hidden_state
    if last.ndim == 3:  # tokens, those of the patches last and row by row
        last = last[:, last.shape[1] - rows * columns :].transpose(1, 2).reshape(2, -1, rows, columns)
    assert grid.shape == (2, backbone.channels, rows, columns)
    torch.testing.assert_close(grid, last, rtol=0, atol=1e-6)
    if class_token is not None:
        expected = output.last_hidden_state[:, 0] if name == "vit" else output.pooler_output
        torch.testing.assert_close(class_token, expected, rtol=0, atol=1e-6)
    assert backbone.has_class_token == (class_token is not None) == (name in STRIDES)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_trained_parameter_has_a_part_in_the_output(backbones, name):
    """Several processes would wait for the gradient of another one."""
    grid, class_token = backbones[name](images(side(name), side(name)))
    (grid.sum() + (0 if class_token is None else class_token.sum())).backward()
    trained = [key for key, parameter in backbones[name].named_parameters() if parameter.requires_grad]
    assert trained
    assert [key for key in trained if backbones[name].get_parameter(key).grad is None] == []
    backbones[name].zero_grad()


def test_preprocessing_is_that_of_the_folder(folders, tmp_path):
    expected = Preprocessing(84, (0.5307,) * 3, (0.2583,) * 3, "bicubic")
    assert build_backbone(f"hf:{folders['dinov2']}", 84).preprocessing == expected
    folder = write_encoder(tmp_path / "nested", "dinov2")
    (folder / "preprocessor_config.json").unlink()
    values = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2] * 3, "resample": 2, "rescale_factor": 1 / 255}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": values}))
    expected = Preprocessing(56, (0.5, 0.4, 0.3), (0.2,) * 3, "bilinear")
    assert build_backbone(f"hf:{folder}", 56).preprocessing == expected
    (folder / "processor_config.json").write_text(json.dumps({"do_normalize": False}))
    assert build_backbone(f"hf:{folder}", 56).preprocessing == Preprocessing(56, (0,) * 3, (1,) * 3, "bilinear")


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"image_mean": None}, "image_mean or image_std is missing in preprocessor_config.json: add it"),
        ({"image_mean": [0.5, 0.5]}, "preprocessing: .*mean and std of three numbers"),
        ({"resample": 5}, r"resample 5 of its processor is none of 0 \(nearest\)"),
        ({"rescale_factor": 1.0}, "the images of its processor are not pixels / 255"),
        ({"rescale_factor": "1"}, "the images of its processor are not pixels / 255"),
        ({"resample": [1]}, r"resample \[1\] of its processor is none of"),
        ({"image_processor": 3}, "must each hold a JSON object"),
        ({"do_rescale": False}, "the images of its processor are not pixels / 255"),
    ],
)
def test_a_processor_that_cannot_be_followed_is_refused(tmp_path, changed, complaint):
    folder = write_encoder(tmp_path / "encoder", "dinov2")
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | changed))
    with pytest.raises(BackboneError, match=complaint):
        build_backbone(f"hf:{folder}", 56)


def test_sides_that_the_patch_does_not_divide_are_refused(folders, backbones):
    with pytest.raises(BackboneError, match="image_size 60 is no multiple of its stride 14: set it to 56 or 70"):
        build_backbone(f"hf:{folders['dinov2']}", 60)
    with pytest.raises(BackboneError, match=r"image of 60 × 56 pixels, .* 14 .*: resize or pad it to a multiple of 14"):
        backbones["siglip"](images(60, 56))
    with pytest.raises(BackboneError, match=r"image of 64 × 48 pixels, .* multiple of 32"):
        backbones["convnextv2"](images(64, 48))


def test_the_vision_model_of_two_towers_loads_alone(tmp_path):
    torch.manual_seed(0)
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 16}
    vision = ENCODERS["siglip"][2]
    both = transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=vision)).eval()
    both.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    backbone = build_backbone(f"hf:{tmp_path}", 56)
    taken, left = load_pretrained(backbone, f"hf:{tmp_path}", "pretrained")
    assert len(taken) == len(backbone.weights.state_dict())
    assert any(name.startswith("text_model.") for name in left)
    with torch.no_grad():
        grid, pooled = backbone.eval()(images(56, 56))
        expected = both.vision_model(images(56, 56))
    torch.testing.assert_close(grid.flatten(2).mT, expected.last_hidden_state)
    torch.testing.assert_close(pooled, expected.pooler_output)


def test_weights_that_lack_a_tensor_are_refused_and_half_precision_becomes_single(tmp_path):
    folder = write_encoder(tmp_path / "encoder", "vit")
    backbone = build_backbone(f"hf:{folder}", 56)
    whole = load_file(folder / "model.safetensors")
    save_file({name: value.half() for name, value in whole.items()}, folder / "model.safetensors", {"format": "pt"})
    load_pretrained(backbone, f"hf:{folder}", "pretrained")
    assert {value.dtype for value in backbone.state_dict().values()} == {torch.float32}
    cut = {name: value for name, value in whole.items() if "layer.1" not in name}
    save_file(cut, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"not the weights of this vit: missing_keys \['layers\.1\."):
        load_pretrained(backbone, f"hf:{folder}", "pretrained")
    name = next(name for name in whole if name.endswith("mlp.up_proj.weight") or "intermediate" in name)
    save_file(whole | {name: torch.zeros(2, 2)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"weights that cannot be read|mismatched_keys"):
        load_pretrained(backbone, f"hf:{folder}", "pretrained")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match=r"weights that cannot be read .*: set init\.backbone to a folder"):
        load_pretrained(backbone, f"hf:{folder}", "pretrained")


def test_imagenet_is_no_source_of_a_transformers_model_and_another_folder_is(folders, tmp_path):
    backbone = build_backbone(f"hf:{folders['dinov2']}", 56)
    with pytest.raises(BackboneError, match=r"imagenet: no such weights .*: set init\.backbone to pretrained"):
        load_pretrained(backbone, f"hf:{folders['dinov2']}", "imagenet")
    taken, left = load_pretrained(backbone, f"hf:{folders['dinov2']}", folders["dinov2"])
    assert (len(taken), left) == (len(backbone.weights.state_dict()), [])


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"model_type": "bert"}, "unknown model_type 'bert'"),
        ({"model_type": "beit"}, "unknown model_type 'beit'; known: dinov2, "),
        ({"num_channels": 1}, "images of 1 channels, not 3"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000; at most 1000"),
        ({"num_labels": 10**9}, "num_labels is 1000000000; at most 65536"),
        ({"hidden_size": "wide"}, "config.json: not of a dinov2 that can be built"),
        ({"patch_size": [14, 14]}, "patch_size is .*, not the one side of a square"),
    ],
)
def test_a_config_that_is_no_vision_model_is_refused_in_one_line(folders, tmp_path, changed, complaint):
    values = json.loads((folders["dinov2"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | changed))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with pytest.raises(BackboneError, match=complaint) as refused:
        build_backbone(f"hf:{tmp_path}", 56)
    assert "\n" not in str(refused.value)


def test_no_file_of_a_folder_runs_code_or_chooses_a_kernel(folders, tmp_path):
    values = json.loads((folders["dinov2"] / "config.json").read_text())
    evil = {"auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}, "attn_implementation": "evil/kernel"}
    (tmp_path / "config.json").write_text(json.dumps(values | evil))
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with torch.no_grad():
        assert build_backbone(f"hf:{tmp_path}", 56)(images(56, 56))[0].shape == (2, 32, 4, 4)


def test_a_folder_without_its_files_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BackboneError, match=r"config\.json or preprocessor_config\.json is missing"):
        build_backbone(f"hf:{tmp_path}", 56)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BackboneError, match=r"hf:nowhere/no/such: neither a folder nor a model of the hub"):
        build_backbone("hf:nowhere/no/such", 56)
