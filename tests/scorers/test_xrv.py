"""torchxrayvision's DenseNets: torchvision's network with their weights, ranges and operating points."""

import json

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from mavl.scorers import ScorerError, ScorerOptions, open_scorer
from mavl.scorers.xrv import operating_point_half

NAMES = ["Atelectasis", "", "Pleural_Thickening", "Effusion", "Lung Opacity", "Fibrosis"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = torchvision.models.densenet121(weights=None, num_classes=len(NAMES))
    network.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return (torch.rand(2, 1, 224, 224, generator=torch.Generator().manual_seed(1)) * 2048 - 1024).expand(-1, 3, -1, -1)


def opened(path, network, **metadata):
    save_file(dict(network.state_dict()), path, {"pathologies": json.dumps(NAMES)} | metadata)
    return open_scorer(f"xrv:{path}", ScorerOptions(findings=()))


def test_scores_are_the_networks_own_by_name_or_synonym(tmp_path, network, images):
    scorer = opened(tmp_path / "xrv.safetensors", network)
    with torch.no_grad():
        expected = network(images[:, :1]).sigmoid()
    found = scorer.scores(images, ["effusion", "thicken", "opacity", "fibrosis"])
    torch.testing.assert_close(found, expected[:, [3, 2, 4, 5]])
    assert scorer.trained_findings == ("atelectasis", "thicken", "effusion", "opacity", "fibrosis")
    with pytest.raises(ScorerError, match="unknown finding 'hernia'"):
        scorer.scores(images, ["hernia"])


def test_the_input_is_from_minus_1024_to_1024(tmp_path, network):
    preprocessing = opened(tmp_path / "xrv.safetensors", network).preprocessing
    black, white = ((value - preprocessing.mean[0]) / preprocessing.std[0] for value in (0, 1))
    assert (black, white) == (-1024, 1024)


def test_maps_are_the_positive_part_of_the_class_activation(tmp_path, network, images):
    maps = opened(tmp_path / "xrv.safetensors", network).heatmaps(images, ["effusion"])
    with torch.no_grad():
        features = network.features(images[:, :1]).relu()
        activation = (features * network.classifier.weight[3][:, None, None]).sum(dim=1)
    assert maps.shape == (2, 1, 7, 7)
    expected = activation.clamp(min=0) + 1e-8
    torch.testing.assert_close(maps[:, 0], expected / expected.sum(dim=(1, 2), keepdim=True))
    logits = activation.mean(dim=(1, 2)) + network.classifier.bias[3]
    torch.testing.assert_close(logits, network(images[:, :1])[:, 3], atol=1e-5, rtol=1e-4)


def test_operating_points_are_at_a_half():
    probabilities = torch.tensor([[0.1, 0.2, 0.6, 0.7]]).T
    found = operating_point_half(probabilities, torch.tensor([0.2]))
    assert found[:, 0].tolist() == pytest.approx([0.25, 0.5, 0.75, 0.8125])
    assert operating_point_half(probabilities, torch.tensor([float("nan")])).equal(probabilities)


def test_a_pickle_and_weights_of_another_network_are_refused(tmp_path, network):
    torch.save(network, tmp_path / "xrv.pt")
    with pytest.raises(ScorerError, match=r"no \.safetensors file; mavl/scorers/xrv\.py says how"):
        open_scorer(f"xrv:{tmp_path / 'xrv.pt'}", ScorerOptions(findings=()))
    with pytest.raises(ScorerError, match="not the weights of a DenseNet-121"):
        opened(tmp_path / "other.safetensors", nn.Linear(2, 2))
    save_file(dict(network.state_dict()), tmp_path / "nameless.safetensors")
    with pytest.raises(ScorerError, match="without the names of its outputs"):
        open_scorer(f"xrv:{tmp_path / 'nameless.safetensors'}", ScorerOptions(findings=()))
