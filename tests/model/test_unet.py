"""The U-Net computes what the released one does, under its names, and takes images of any size."""

import numpy as np
import pytest
import torch
from PIL import Image

from mavl.backbones import BackboneError
from mavl.checkpoint.released import CheckpointError, build, convert
from mavl.metrics.segmentation import count
from mavl.model.losses import dice_bce_loss
from mavl.model.unet import UNet
from mavl.predict.segmenter import load
from tests.support import goldens


@pytest.fixture(scope="module")
def state(shared):
    return goldens.state(shared("goldens/segmentation.json"))


def test_logits_equal_the_release(shared, state):
    expected = np.load(shared("goldens/segmentation.npz"))["logits"]
    unet = build(*convert(state, {}, "golden"), "golden").eval()
    images = torch.from_numpy(goldens.normal("noise/images", (3, 3, 64, 96)))
    with torch.no_grad():
        logits = unet(images).numpy()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_loss_and_metrics_equal_the_release(shared):
    golden = np.load(shared("goldens/segmentation.npz"))
    loss = dice_bce_loss(torch.from_numpy(golden["standardised"]), torch.from_numpy(golden["masks"]))
    assert loss.item() == pytest.approx(golden["dice_bce"].item(), rel=1e-5)
    overlap = count(golden["probability"] > 0.5, golden["masks"])
    empty = overlap.true == 0
    dice = overlap.dice
    figures = [dice.mean(), dice[empty].mean(), dice[~empty].mean(), empty.sum(), (~empty).sum()]
    np.testing.assert_allclose(figures, golden["dice"], rtol=1e-5)
    assert overlap.iou.mean() == pytest.approx(golden["iou"].item(), rel=1e-5)


def test_a_released_file_loads_strictly(state, tmp_path):
    file = tmp_path / "released.pth"
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, file)
    segmenter = load(file, "cpu")
    unet = segmenter.unet
    assert torch.equal(unet.up_blocks[3].conv_block_2.bn.weight, state["up_blocks.3.conv_block_2.bn.weight"])
    assert torch.equal(unet.backbone.layer3[5].conv3.weight, state["backbone.6.5.conv3.weight"])
    assert segmenter.predict_mask(Image.new("L", (50, 40), 90)).shape == (40, 50)
    changed = {name: value for name, value in state.items() if name != "seg_classifier.bias"}
    with pytest.raises(CheckpointError, match=r"missing seg_classifier.bias \(1\); unexpected more.weight \(1\)"):
        build(*convert(changed | {"more.weight": torch.zeros(2)}, {}, "file"), "file")


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_logits_have_the_size_of_the_images_whatever_it_is(size):
    torch.manual_seed(0)
    unet = UNet("resnet18").eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        logits = unet(images)
    assert logits.shape == (2, 1, *size)
    padded = torch.nn.functional.pad(images, (0, -size[1] % 16, 0, -size[0] % 16), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(logits, unet(padded)[..., : size[0], : size[1]])


def test_every_parameter_learns():
    unet = UNet("resnet18")
    masks = torch.zeros(2, 1, 32, 32)
    masks[:, :, 8:20, 4:30] = 1
    dice_bce_loss(unet(torch.randn(2, 3, 32, 32)), masks).backward()
    assert [name for name, parameter in unet.named_parameters() if parameter.grad is None] == []
    assert [name for name, p in unet.named_parameters() if not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("backbone", ["vit_b_16", "resnet18@layer2"])
def test_what_has_no_layer3_is_refused(backbone):
    with pytest.raises(BackboneError, match=f"ResNet up to layer3: unknown backbone '{backbone}'"):
        UNet(backbone)


def test_loss_by_hand():
    logits = torch.zeros(2, 1, 1, 2)  # probability 1/2 everywhere
    masks = torch.tensor([1, 0, 0, 0], dtype=torch.uint8).view(2, 1, 1, 2)
    # both 0.5, either 2 + 1: 1 - (1 + 1) / (3 + 1), and ln 2 of each pixel
    assert dice_bce_loss(logits, masks).item() == pytest.approx(0.5 + np.log(2))
    sure = torch.where(masks > 0, 40.0, -40.0)
    assert dice_bce_loss(sure, masks).item() == pytest.approx(0, abs=1e-6)
    assert dice_bce_loss(torch.full((1, 1, 2, 2), -40.0), torch.zeros(1, 1, 2, 2)).item() == pytest.approx(0, abs=1e-6)
