"""The fast path computes what the plain one does: against the released model's outputs and stock attention."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.steps import plain
from mavl.backbones import Preprocessing
from mavl.checkpoint import released
from mavl.model import inference
from mavl.model.heatmaps import heatmaps
from mavl.model.inference import InferenceModel, folded
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.mavl import MAVL
from mavl.model.scores import scores
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import ASPECTS
from tests.support import goldens

SMALL = {"backbone": "resnet18", "image_size": 64, "text_width": 12, "width": 16, "layers": 3, "feedforward": 24}
FINDINGS = ("normal", "clear", "edema", "mass", "nodule")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def model() -> MAVL:
    """With BatchNorm statistics of its own, which folding must not lose."""
    torch.manual_seed(0)
    model = MAVL(**SMALL).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def embeddings() -> TextEmbeddings:
    return TextEmbeddings(FINDINGS, ASPECTS, torch.randn(5, 9, 12), torch.randn(51, 12), {})


def test_it_reads_what_the_release_computes(shared):
    expected = np.load(shared("goldens/zero_shot.npz"))
    file = shared("goldens/train.json")
    _, arguments, state = released.convert(goldens.state(file), {}, file.name)
    model = MAVL(**arguments)
    model.load_state_dict(state)
    embeddings = goldens.embeddings()
    wanted = ["pneumothorax", "pneumonia", "normal", "clear"]
    inference_model, images = InferenceModel(model, embeddings, wanted), goldens.images(2)
    output = inference_model(images, return_attention=True)
    columns = embeddings.index(wanted)
    for head, name in (("supervised", "presence_probability"), ("contrastive", "contrastive_probability")):
        actual = scores(output, inference_model.embeddings, wanted, head)
        torch.testing.assert_close(actual, torch.from_numpy(expected[name][:, columns]), rtol=0, atol=1e-5)
        torch.testing.assert_close(
            scores(inference_model(images), inference_model.embeddings, wanted, head), actual, rtol=0, atol=1e-6
        )
    maps = heatmaps(output, inference_model.embeddings, wanted[:2])
    torch.testing.assert_close(maps, torch.from_numpy(expected["heatmap14"]), rtol=0, atol=1e-5 * maps.max().item())


def test_folding_leaves_no_batch_norm_and_the_numbers(model):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected, actual = model.backbone(images)[0], folded(model).backbone(images)[0]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded(model).modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_the_output_holds_the_requested_findings_in_their_order(model, embeddings):
    inference_model, images = InferenceModel(model, embeddings, ["mass", "edema", "mass"]), torch.randn(2, 3, 64, 64)
    assert inference_model.embeddings.findings == ("mass", "edema")
    with torch.no_grad():
        expected = model(images, embeddings.vectors).presence_logits[:, [3, 2]]
    torch.testing.assert_close(inference_model(images).presence_logits, expected, rtol=0, atol=1e-5)
    assert InferenceModel(model, embeddings).embeddings is embeddings


def test_a_model_for_other_findings_shares_the_weights(model, embeddings):
    inference_model, images = InferenceModel(model, embeddings, ["mass"]), torch.randn(2, 3, 64, 64)
    other = inference_model.with_embeddings(embeddings, ["nodule", "edema"])
    assert other.model is inference_model.model
    assert (inference_model.embeddings.findings, other.embeddings.findings) == (("mass",), ("nodule", "edema"))
    expected = InferenceModel(model, embeddings, ["nodule", "edema"])(images).presence_logits
    torch.testing.assert_close(other(images).presence_logits, expected)
    turned = embeddings.select(FINDINGS[::-1])
    torch.testing.assert_close(
        InferenceModel(model, embeddings).with_embeddings(turned)(images).presence_logits,
        InferenceModel(model, embeddings)(images).presence_logits,
    )


def test_on_a_cpu_a_batch_is_computed_in_parts(model, embeddings, monkeypatch):
    inference_model, images = InferenceModel(model, embeddings, ["mass", "edema"]), torch.randn(5, 3, 64, 64)
    whole = inference_model(images, return_attention=True)
    monkeypatch.setattr(inference, "CPU_BATCH", 2)
    parts = inference_model(images, return_attention=True)
    for name in ("presence_logits", "aspect_features", "grid", "cosine"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-5)
    for layer, same in zip(parts.attention, whole.attention, strict=True):
        torch.testing.assert_close(layer, same, rtol=0, atol=1e-6)
    assert parts.location_embedding is None
    assert parts.patch_grid == whole.patch_grid
    assert inference_model(images).attention is None


def test_it_computes_less(model, embeddings):
    def flops(call) -> int:
        with torch.enable_grad(), FlopCounterMode(display=False) as counter:
            call(torch.randn(1, 3, 64, 64))
        return counter.get_total_flops()

    some, every = InferenceModel(model, embeddings, ["mass"]), InferenceModel(model, embeddings)
    some(torch.randn(1, 3, 64, 64))  # the text is encoded once
    every(torch.randn(1, 3, 64, 64))
    assert flops(some) < flops(every) < flops(lambda images: model(images, embeddings.vectors))


def test_plain_and_fast_have_the_same_losses_and_gradients(model, embeddings):
    model = MAVL(**SMALL, dropout=0.0, feature_dropout=0.0)
    labels, locations = torch.randint(-1, 2, (3, 5)), torch.randint(0, 51, (3, 5, 8))
    images, gradients = torch.randn(3, 3, 64, 64), []
    slow = plain(model)
    for way in (model, slow):
        loss = pretraining_losses(
            way.train()(images, embeddings.vectors), Targets(labels, locations, embeddings.anatomy_vectors)
        )["loss"]
        loss.backward()
        gradients.append((loss.detach(), way.query_projection.weight.grad, way.backbone.conv1.weight.grad))
    for fast, stock in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, stock, rtol=0, atol=1e-5 * max(1.0, stock.abs().max().item()))


def test_recomputing_changes_no_gradient(model, embeddings):
    gradients = []
    for activation_checkpointing in (False, True):
        again = MAVL(**SMALL, dropout=0.1)
        again.load_state_dict(model.state_dict())
        again.decoder.activation_checkpointing = activation_checkpointing
        torch.manual_seed(1)  # the same dropout
        again.train()(torch.ones(2, 3, 64, 64), embeddings.vectors).presence_logits.square().sum().backward()
        gradients.append([parameter.grad for parameter in again.decoder.parameters()])
    for kept, computed in zip(*gradients, strict=True):
        torch.testing.assert_close(computed, kept)


def test_bf16_stays_near(model, embeddings):
    inference_model, images = InferenceModel(model, embeddings), torch.randn(4, 3, 64, 64)
    full = scores(inference_model(images), embeddings, FINDINGS)
    with torch.autocast("cpu", torch.bfloat16):
        half = scores(inference_model(images), embeddings, FINDINGS)
    assert 0 < (half - full).abs().max() < 0.02


@pytest.mark.parametrize(
    "backbone",
    [
        *("timm:tf_efficientnet_lite0@4", "timm:resnet10t", "timm:densenet121@2", "timm:mobilenetv3_small_050"),
        *("timm:resnetv2_18", "timm:repvgg_a0", "timm:convnext_atto", "timm:regnetx_002", "timm:efficientnet_b0"),
    ],
)
def test_networks_of_timm_are_folded_without_a_change(backbone):
    """Their BatchNorm may hold the activation; with running statistics of their own, not those of the start."""
    torch.manual_seed(0)
    model = MAVL(backbone=backbone, image_size=64, text_width=12, width=16, layers=1, heads=2, feedforward=16)
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        for _ in range(3):
            model.backbone(images * 2 + 1)
        expected, actual = model.eval().backbone(images)[0], folded(model).backbone(images)[0]
    assert expected.std() > 1e-3
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


class _Crossed(nn.Module):
    """Uses its modules in another order than it holds them."""

    channels, stride, offset, has_class_token = 4, 1, 0.0, False
    preprocessing = Preprocessing(8)

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)
        self.norm.running_mean.fill_(1.0)
        self.norm.running_var.fill_(9.0)

    def forward(self, images):
        return self.last(self.conv(self.norm(images))), None


def test_a_network_that_uses_its_modules_in_another_order_is_not_folded():
    model = nn.Module()
    model.backbone = _Crossed()
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model.eval().backbone(images)[0]
        torch.testing.assert_close(folded(model).backbone(images)[0], expected)
