"""The classifier: torchvision's network with a new last layer, a probe that leaves its backbone, maps that sum up."""

import copy

import pytest
import torch
import torchvision

from mavl.model.classifier import Classifier, WholeResNet, normalize_positive
from mavl.model.losses import masked_bce_loss
from mavl.train.optim import build_optimizer


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_whole_resnet_is_torchvisions(name, images):
    torch.manual_seed(0)
    reference = torchvision.models.get_model(name, weights=None).eval()
    classifier = Classifier(backbone=name, classes=3).eval()
    classifier.backbone.load_state_dict({k: v for k, v in reference.state_dict().items() if not k.startswith("fc.")})
    reference.fc = classifier.head
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), reference(images))
        grid, token = classifier.backbone(images)
    assert token is None
    assert grid.shape == (2, classifier.backbone.channels, 2, 3)
    assert classifier.backbone.stride == 32


@pytest.mark.parametrize(
    ("arguments", "channels", "stride"),
    [
        ({"backbone": "resnet18", "layer4": False}, 256, 16),
        ({"backbone": "resnet18@layer2"}, 128, 8),
    ],
)
def test_a_resnet_may_end_earlier(arguments, channels, stride, images):
    classifier = Classifier(classes=2, **arguments).eval()
    assert (classifier.backbone.channels, classifier.backbone.stride) == (channels, stride)
    assert classifier(images).shape == (2, 2)


@pytest.mark.parametrize("layer4", [True, False])
def test_what_the_patches_add_and_the_bias_sum_to_the_logit(layer4, images):
    torch.manual_seed(1)
    classifier = Classifier(backbone="resnet18", classes=4, layer4=layer4).eval()
    torch.nn.init.normal_(classifier.head.bias)
    with torch.no_grad():
        logits, maps = classifier.evidence(images)
        torch.testing.assert_close(logits, classifier(images))
    assert maps.shape == ((2, 4, 2, 3) if layer4 else (2, 4, 4, 6))
    torch.testing.assert_close(maps.sum(dim=(2, 3)) + classifier.head.bias, logits, rtol=1e-5, atol=1e-6)


def test_the_map_of_a_grid_worked_by_hand():
    class Grid(torch.nn.Module):
        def forward(self, images):
            return images, None

    classifier = Classifier(backbone="resnet18", classes=1)
    classifier.backbone, classifier.head = Grid(), torch.nn.Linear(2, 1)
    with torch.no_grad():
        classifier.head.weight.copy_(torch.tensor([[2.0, -1.0]]))
        classifier.head.bias.fill_(0.5)
        logits, maps = classifier.evidence(torch.tensor([[[[4.0, 0.0]], [[0.0, 2.0]]]]))
    # (2·4 - 1·0) / 2 patches = 4 and (2·0 - 1·2) / 2 = -1
    assert maps.tolist() == [[[[4.0, -1.0]]]]
    assert logits.tolist() == [[4.0 - 1.0 + 0.5]]
    assert normalize_positive(maps[0, 0]).tolist() == [[1.0, 0.0]]
    assert normalize_positive(-maps[0, 0] - 5).tolist() == [[0.5, 0.5]]  # none positive: uniform


def test_a_vit_decides_by_its_class_token_and_has_no_map():
    classifier = Classifier(backbone="timm:vit_tiny_patch16_224", classes=2).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits, maps = classifier.evidence(images)
        torch.testing.assert_close(logits, classifier.head(classifier.backbone(images)[1]))
    assert maps is None


def test_a_linear_probe_leaves_every_bit_of_its_backbone(images):
    torch.manual_seed(0)
    probe = Classifier(backbone="resnet18", classes=2, linear_probe=True)
    before = copy.deepcopy(probe.state_dict())
    optimizer = build_optimizer(probe, lr=0.1, weight_decay=0.5)
    for _ in range(3):
        probe.train()
        loss = masked_bce_loss(probe(images), torch.tensor([[1, 0], [0, -1]]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = [name for name, value in probe.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["head.weight", "head.bias"]
    assert not probe.backbone.training
    assert isinstance(probe.backbone, WholeResNet)


def test_full_fine_tuning_moves_the_backbone_and_its_statistics(images):
    model = Classifier(backbone="resnet18", classes=2).train()
    before = copy.deepcopy(model.state_dict())
    masked_bce_loss(model(images), torch.tensor([[1, 0], [0, 1]])).backward()
    build_optimizer(model, lr=0.1, weight_decay=0.0).step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"backbone.conv1.weight", "backbone.layer4.1.conv2.weight", "backbone.bn1.running_mean"} <= changed


def test_the_loss_leaves_unknown_labels_out():
    logits = torch.tensor([[0.0, 2.0], [1.0, -3.0]], requires_grad=True)
    loss = masked_bce_loss(logits, torch.tensor([[1, -1], [0, 1]]))
    # ln 2 for (0, present), ln(1 + e) for (1, absent), ln(1 + e³) for (-3, present)
    expected = torch.log(torch.tensor([2.0, 1 + torch.e, 1 + torch.e**3])).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad[0, 1] == 0


def test_a_batch_without_any_label_has_no_loss():
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = masked_bce_loss(logits, torch.full((2, 3), -1))
    loss.backward()
    assert (loss.item(), logits.grad.abs().sum().item()) == (0.0, 0.0)
