"""What a fine-tuned network takes from a pre-trained one, tensor by tensor, and what is an error."""

import pytest
import torch
import torchvision
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from mavl.backbones import build_backbone
from mavl.checkpoint import CheckpointError, finetuned
from mavl.checkpoint.transfer import initialise, transfer_backbone
from mavl.config.settings import InitSettings
from mavl.model.classifier import Classifier, WholeResNet
from tests.support import tiny
from tests.support.released_files import build, released


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("tiny"))


def test_stem_and_layers_go_in_and_layer4_stays(pretrained):
    backbone = WholeResNet("resnet18")
    layer4 = {name: value.clone() for name, value in backbone.state_dict().items() if name.startswith("layer4")}
    transfer = transfer_backbone(backbone, pretrained)
    source = load_file(pretrained / "model.safetensors")
    given = {name for name in source if name.startswith("backbone.")}
    assert {f"backbone.{name}" for name in transfer.taken} == given
    assert set(transfer.left) == source.keys() - given
    assert set(transfer.kept) == layer4.keys()
    now = backbone.state_dict()
    assert all(torch.equal(now[name], source[f"backbone.{name}"]) for name in transfer.taken)
    assert all(torch.equal(now[name], value) for name, value in layer4.items())
    said = str(transfer)
    assert "tensors taken (conv1, bn1, layer1, layer2, layer3)" in said
    assert "layer4 not in it" in said
    assert "decoder" in said


def test_a_released_medklip_gives_its_backbone_too(tmp_path):
    model, state = build(aspects=["description"], contrastive=False)
    renamed = {"backbone.": "res_features.", "res_l1.0.": "res_l1.", "location_emb.": "cl_fc."}
    medklip = {}
    for name, value in state.items():
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        linear = name.startswith(("res_l1.", "res_l2.", "cl_fc.")) and name.endswith("weight")
        if name != "res_l1.1.weight":  # its ReLU has no weight
            medklip[name] = value.flatten(1) if linear else value
    backbone = WholeResNet("resnet18")
    transfer = transfer_backbone(backbone, released(medklip, tmp_path / "medklip.pth", base_model="resnet18"))
    assert (transfer.backbone, {name.partition(".")[0] for name in transfer.kept}) == ("resnet18", {"layer4"})
    expected = model.backbone.state_dict()
    assert sorted(transfer.taken) == sorted(expected)
    assert all(torch.equal(backbone.state_dict()[name], value) for name, value in expected.items())


def test_the_encoder_of_a_unet_takes_all(pretrained):
    transfer = transfer_backbone(build_backbone("resnet18"), str(pretrained))
    assert transfer.kept == []


def test_another_network_takes_nothing_and_that_is_an_error(pretrained):
    with pytest.raises(
        CheckpointError, match=r"unexpected conv1\.weight, .*; set model\.backbone to the checkpoint's, resnet18"
    ):
        transfer_backbone(build_backbone("timm:vit_tiny_patch16_224"), pretrained)


def test_shapes_are_strict(pretrained):
    backbone = build_backbone("resnet50")
    with pytest.raises(CheckpointError, match=r"layer1\.0\.conv1\.weight \(64, 64, 3, 3\) for \(64, 64, 1, 1\)"):
        transfer_backbone(backbone, pretrained)
    cut = build_backbone("resnet18@layer2")
    with pytest.raises(CheckpointError, match=r"the backbone of .*: does not fit the model: unexpected layer3\.0\."):
        transfer_backbone(cut, pretrained)


def test_a_file_for_the_whole_and_a_checkpoint_over_it(pretrained, tmp_path, capsys):
    whole = torchvision.models.resnet18(weights=None).state_dict()
    save_file(whole, tmp_path / "resnet18.safetensors")
    backbone = WholeResNet("resnet18")
    init = InitSettings(backbone=str(tmp_path / "resnet18.safetensors"), checkpoint=str(pretrained))
    first, second = initialise(backbone, "resnet18", init, Accelerator(cpu=True))
    assert sorted(first.left) == ["fc.bias", "fc.weight"]
    assert len(first.taken) == len(backbone.state_dict())
    now, source = backbone.state_dict(), load_file(pretrained / "model.safetensors")
    assert torch.equal(now["layer4.0.conv1.weight"], whole["layer4.0.conv1.weight"])
    assert torch.equal(now["conv1.weight"], source["backbone.conv1.weight"])
    assert capsys.readouterr().out.splitlines() == [str(first), str(second)]


def test_from_scratch_is_said(capsys):
    init = InitSettings(backbone="none")
    assert initialise(build_backbone("resnet18"), "resnet18", init, Accelerator(cpu=True)) == []
    assert "random in every library" in capsys.readouterr().out


def test_a_fine_tuned_folder_is_no_pretrained_model(tmp_path):
    arguments = {"backbone": "resnet18", "classes": 1}
    finetuned.save(tmp_path, "classifier", Classifier(**arguments), arguments, ("mass",), False, {}, {})
    with pytest.raises(CheckpointError, match="a model of kind 'classifier'; expected mavl"):
        transfer_backbone(build_backbone("resnet18"), tmp_path)
