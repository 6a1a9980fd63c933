"""The model computes what the released code computes, for weights, text and images drawn from names."""

import json

import numpy as np
import pytest
import torch

from mavl.checkpoint import released
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.scores import contrastive_probability, presence_probability
from mavl.text.encoders.transformers import TransformerEncoder
from tests.support import goldens
from tests.support.goldens import build, close


@pytest.mark.parametrize(
    ("golden", "names", "backbone"), [("zero_shot", "train", "resnet50"), ("vit", "vit", "vit_b_16")]
)
def test_forward_equals_the_released_mavl(shared, golden, names, backbone):
    expected = np.load(shared(f"goldens/{golden}.npz"))
    model, arguments = build(shared(f"goldens/{names}.json"))
    assert arguments["backbone"] == backbone
    embeddings = goldens.embeddings()
    with torch.no_grad():
        output = model(goldens.images(len(expected["cosine"])), embeddings.vectors, return_attention=True)
    close(output.presence_logits, expected["presence_logits"])
    close(presence_probability(output.presence_logits), expected["presence_probability"])
    close(output.location_embedding @ embeddings.anatomy_vectors.T, expected["location_scores"])
    close(output.cosine, expected["cosine"])
    close(
        contrastive_probability(output.cosine, embeddings.index(["normal", "clear"])),
        expected["contrastive_probability"],
    )
    targets = [i * 9 + a for i in embeddings.index(["pneumothorax", "pneumonia"]) for a in range(9)]
    close(torch.stack(output.attention)[:, :, targets], expected["attention"])


def test_forward_equals_the_released_medklip(shared):
    expected = np.load(shared("goldens/medklip.npz"))
    model, arguments = build(shared("goldens/medklip.json"))
    assert (arguments["aspects"], arguments["contrastive"]) == (["description"], False)
    with torch.no_grad():
        output = model(goldens.images(2), goldens.embeddings(aspects=1).vectors)
    close(output.presence_logits, expected["presence_logits"])
    assert output.cosine is None


def test_losses_and_gradients_equal_the_release(shared):
    expected = np.load(shared("goldens/train.npz"))
    file = shared("goldens/train.json")
    model, _ = build(file)
    embeddings = goldens.embeddings()
    output = model(goldens.images(3), embeddings.vectors)
    labels, locations = torch.from_numpy(expected["labels"]), torch.from_numpy(expected["anatomy"])
    losses = pretraining_losses(output, Targets(labels, locations, embeddings.anatomy_vectors))
    for name, value in losses.items():
        assert value.item() == pytest.approx(expected[name].item(), rel=1e-5), name
    losses["loss"].backward()
    norms = {name: parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    released_norms = json.loads(file.read_text())["grad_norm"]
    renamed = dict(zip(released_norms, released.convert_names(released_norms), strict=True))
    largest = max(released_norms.values())
    assert set(renamed.values()) == set(norms)
    for name, norm in released_norms.items():
        assert norms[renamed[name]] == pytest.approx(norm, rel=1e-3, abs=1e-6 * largest), name


@pytest.mark.parametrize("length", [64, 128])
def test_token_ids_equal_the_released_tokenizer(shared, length, tmp_path):
    golden = json.loads(shared("goldens/tokens/ids.json").read_text())
    (tmp_path / "vocab.txt").write_bytes(shared("goldens/tokens/vocab.txt").read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    settings = {} if length == 128 else {"max_length": length}  # 128 is what a BERT is read with
    encoder = TransformerEncoder(str(tmp_path), **settings)
    assert encoder.token_ids(golden["sentences"]) == golden[f"ids_at_{length}"]
