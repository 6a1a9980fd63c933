"""LoRA adapters: which layers they are in, that they alone are trained, and that a merged network computes the same."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mavl.backbones import BackboneError, build_backbone
from mavl.backbones.adapters import add_adapters, merge_adapters, set_mode
from tests.support.encoders import side, write_encoder

LAYERS = {
    "hf:dinov2": ("encoder.layer.1.attention.q_proj", 8),  # q, k, v and output of 2 blocks
    "hf:siglip": ("encoder.layers.0.self_attn.out_proj", 8),
    "hf:swin": ("encoder.layers.2.blocks.1.attention.v_proj", 20),  # of 5 blocks
    "hf:convnextv2": ("encoder.stages.2.layers.1.pwconv2", 10),  # without attention: both linear layers of 5 blocks
    "timm:test_vit": ("blocks.5.attn.qkv", 12),
    "timm:test_convnext": ("stages.0.blocks.0.mlp.fc1", 18),
}
"""{name: (one of the adapted layers, their number)}"""


def backbone_of(name: str, folder) -> nn.Module:
    library, _, inner = name.partition(":")
    torch.manual_seed(0)
    built = build_backbone(f"hf:{write_encoder(folder, inner)}" if library == "hf" else name, side(inner))
    for key, parameter in built.named_parameters():
        if key.endswith(".gamma"):  # which scales a block, with 1e-6 at the start
            nn.init.ones_(parameter)
    return built.eval()


def randomise(backbone: nn.Module) -> None:
    """Give the second matrices, which begin with zeros, values."""
    torch.manual_seed(1)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize("name", LAYERS)
def test_a_merged_network_computes_what_the_adapted_one_does(tmp_path, name):
    plain, (layer, number) = backbone_of(name, tmp_path), LAYERS[name]
    adapted, images = deepcopy(plain), torch.randn(2, 3, side(name.partition(":")[2]), side(name.partition(":")[2]))
    assert add_adapters(adapted, rank=4, alpha=8) == number
    trained = {key for key, parameter in adapted.weights.named_parameters() if parameter.requires_grad}
    assert f"{layer}.lora_A.default.weight" in trained
    assert len(trained) == 2 * number
    with torch.no_grad():
        before = plain(images)[0]
        torch.testing.assert_close(adapted(images)[0], before, rtol=0, atol=0)
        randomise(adapted)
        expected = adapted(images)[0]
        plain.weights.load_state_dict(merge_adapters(adapted.weights.state_dict(), rank=4, alpha=8))
        merged = plain(images)[0]
    assert not torch.allclose(merged, before, atol=1e-2)
    torch.testing.assert_close(merged, expected, rtol=1e-5, atol=1e-5)


def test_a_merge_by_hand():
    state = {
        "fc.base_layer.weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "fc.base_layer.bias": torch.tensor([5.0, 6.0]),
        "fc.lora_A.default.weight": torch.tensor([[1.0, -1.0]]),
        "fc.lora_B.default.weight": torch.tensor([[2.0], [0.5]]),
        "norm.weight": torch.ones(2),
    }
    merged = merge_adapters(state, rank=1, alpha=3.0)
    assert merged.keys() == {"fc.weight", "fc.bias", "norm.weight"}
    assert merged["fc.weight"].tolist() == [[7.0, -4.0], [4.5, 2.5]]  # W + 3 · B · A
    without_b = {name: value for name, value in state.items() if "lora_B" not in name}
    for damaged in (without_b, state | {"fc.lora_A.default.weight": torch.zeros(1, 3)}):
        with pytest.raises(BackboneError, match="the adapter of fc does not fit its layer, or is not whole"):
            merge_adapters(damaged, rank=1, alpha=3.0)


def test_targets_are_whole_names(tmp_path):
    backbone = backbone_of("timm:test_vit", tmp_path)
    assert add_adapters(backbone, 2, 4, targets=r"blocks\.\d+\.mlp\.fc[12]") == 12
    adapted = {name for name, _ in backbone.weights.named_parameters() if "lora_A" in name}
    assert len(adapted) == 12
    assert all(".mlp.fc" in name for name in adapted)


@pytest.mark.parametrize(
    ("name", "targets", "complaint"),
    [
        ("timm:test_vit", r".*proj", "patch_embed.proj is of the type Conv2d; LoRA adapts linear layers"),
        ("timm:test_vit", r"qkv", r"'qkv' is the name of no linear layer, such as blocks\.0\.attn\.qkv"),
        ("resnet18", None, "the backbone has no linear layers to adapt: use a ViT, or train.freeze"),
        ("resnet18", "layer9", "'layer9' is the name of no linear layer, of which it has none"),
    ],
)
def test_what_cannot_be_adapted_is_refused(tmp_path, name, targets, complaint):
    with pytest.raises(BackboneError, match=complaint):
        add_adapters(backbone_of(name, tmp_path), 2, 4, targets=targets)


def test_torchs_fused_attention_is_left_out():
    """Its forward pass reads the weight of the output projection and would not call an adapter."""
    with torch.device("meta"):
        backbone = build_backbone("vit_b_16")
    assert add_adapters(backbone, 2, 4) == 24
    adapted = [name for name, _ in backbone.weights.named_parameters() if "lora_A" in name]
    assert all(".mlp." in name for name in adapted)


def test_adapters_train_while_the_rest_is_in_evaluation_mode(tmp_path):
    backbone = backbone_of("hf:dinov3", tmp_path)
    add_adapters(backbone, 2, 4, dropout=0.5)
    randomise(backbone)
    set_mode(backbone, True)
    in_training = {name for name, module in backbone.named_modules() if module.training}
    assert in_training
    assert all("lora_" in name for name in in_training)
    images = torch.randn(1, 3, 64, 64)
    assert not torch.equal(backbone(images)[0], backbone(images)[0])  # dropout of the adapters
    set_mode(backbone, False)
    assert torch.equal(backbone(images)[0], backbone(images)[0])
