"""A training step reads no value of a tensor, so that no GPU is waited for, and an exported model takes any batch."""

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.export import Dim, export

from mavl.backbones.checkpointing import checkpoint_activations
from mavl.model import cpu_kernels
from mavl.model.classifier import Classifier
from mavl.model.inference import InferenceModel
from mavl.model.losses import Targets, dice_bce_loss, masked_bce_loss, pretraining_losses
from mavl.model.mavl import MAVL
from mavl.model.unet import UNet
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import ASPECTS

SMALL = {"image_size": 64, "text_width": 12, "width": 16, "layers": 2, "heads": 4, "feedforward": 24}
BACKBONES = ["resnet18", "vit_b_16", "timm:test_vit"]
LABELS = torch.tensor([[1, 0, -1], [1, 1, 0]])
LOCATIONS = torch.tensor([3, 7, -1]).expand(2, 3, 3)


def build(backbone: str) -> MAVL:
    torch.manual_seed(0)
    return MAVL(backbone=backbone, **SMALL)


@pytest.fixture
def no_values(monkeypatch):
    """Tensors have no data in this mode; reading a value, for which a GPU's step would wait, is an error."""
    monkeypatch.setattr(cpu_kernels, "ENABLED", False)  # NumPy makes its random masks of data
    return FakeTensorMode(allow_non_fake_inputs=True)


def test_reading_a_value_or_a_shape_that_depends_on_one_is_an_error(no_values):
    with no_values, pytest.raises(DataDependentOutputException):
        LABELS.sum().item()
    with no_values, pytest.raises(DynamicOutputShapeException):
        LABELS[LABELS == 1]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_pretraining_reads_no_value(backbone, checkpointing, no_values):
    model = build(backbone).train()
    model.decoder.activation_checkpointing = checkpointing
    if checkpointing:
        checkpoint_activations(model.backbone.blocks)
    with no_values:
        with torch.autocast("cpu", torch.bfloat16):
            output = model(torch.randn(2, 3, 64, 64), torch.randn(3, len(ASPECTS), 12))
        losses = pretraining_losses(output, Targets(LABELS, LOCATIONS, torch.randn(51, 12)))
        losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_finetuning_reads_no_value(no_values):
    classifier, unet = Classifier(classes=3, backbone="resnet18").train(), UNet("resnet18").train()
    with no_values:
        masked_bce_loss(classifier(torch.randn(2, 3, 64, 64)), LABELS).backward()
        dice_bce_loss(unet(torch.randn(2, 3, 64, 64)), torch.ones(2, 1, 64, 64, dtype=torch.bool)).backward()


class Exported(nn.Module):
    """What an export of the fast model computes."""

    def __init__(self, model: InferenceModel, text: Tensor):
        super().__init__()
        self.model, self.rows = model.model, model.rows
        self.register_buffer("text", text)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        image, queries = self.model.encode_image(images), self.model.encode_text(self.text)
        output = self.model.decode(image, queries, findings=self.rows, return_attention=True)
        return output.presence_logits, output.cosine, output.attention[-1]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_an_exported_model_takes_any_batch(backbone):
    text = torch.randn(3, len(ASPECTS), 12)
    embeddings = TextEmbeddings(("edema", "fracture", "mass"), ASPECTS, text, torch.randn(51, 12), {})
    model = InferenceModel(build(backbone), embeddings, ["fracture"])
    whole = Exported(model, text)
    program = export(whole, (torch.randn(2, 3, 64, 64),), dynamic_shapes={"images": {0: Dim.AUTO}}).module()
    for batch in (1, 3, 12):
        images = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(program(images), whole(images), rtol=1e-4, atol=1e-5)
