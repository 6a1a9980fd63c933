"""The model: any findings in any order, each image for itself, and a gradient for every parameter."""

import pytest
import torch
from torch import nn

from mavl.model.decoder import LayerNorm
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.mavl import MAVL, AttentionPool, initialise_as_released
from mavl.vocab import DESCRIPTION

SMALL = {"image_size": 64, "text_width": 12, "width": 16, "layers": 2, "heads": 4, "feedforward": 24}
KINDS = {
    "resnet": {"backbone": "resnet18"},
    "vit": {"backbone": "timm:test_vit"},
    "vit block": {"backbone": "timm:test_vit@1"},
    "vit register": {"backbone": "timm:test_vit2"},
    "vit as wide as the queries": {"backbone": "timm:test_vit", "width": 64},
    "medklip": {"backbone": "resnet18", "aspects": [DESCRIPTION], "contrastive": False},
    "medklip on a vit": {"backbone": "timm:test_vit", "aspects": [DESCRIPTION], "contrastive": False},
    "no self-attention": {"backbone": "resnet18", "self_attention": False},
}


def build(kind: str = "resnet", **changed) -> MAVL:
    torch.manual_seed(0)
    return MAVL(**SMALL | KINDS[kind] | changed).eval()


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> MAVL:
    return build()


@pytest.mark.parametrize("findings", [1, 2, 75, 100])
def test_any_number_of_findings(model, findings):
    with torch.no_grad():
        output = model(draw(2, 3, 64, 64), draw(findings, 9, 12), return_attention=True)
    assert output.presence_logits.shape == (2, findings, 2)
    assert output.location_embedding.shape == (2, findings, 12)
    assert output.aspect_features.shape == (2, findings, 9, 16)
    assert output.grid.shape == (2, 16, 4, 4)
    assert output.cosine.shape == (2, 9, findings)
    assert [weights.shape for weights in output.attention] == [(2, findings * 9, 16)] * 2


def test_the_order_of_findings_does_not_matter(model):
    images, text, order = draw(1, 3, 64, 64), draw(5, 9, 12), torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        output, permuted = model(images, text), model(images, text[order])
    torch.testing.assert_close(permuted.presence_logits, output.presence_logits[:, order])
    torch.testing.assert_close(permuted.location_embedding, output.location_embedding[:, order])
    torch.testing.assert_close(permuted.cosine, output.cosine[:, :, order])
    assert not torch.allclose(output.presence_logits[:, 0], output.presence_logits[:, 1])


def test_the_order_of_aspects_does(model):
    images, text = draw(1, 3, 64, 64), draw(5, 9, 12)
    with torch.no_grad():
        output, flipped = model(images, text), model(images, text.flip(1))
    torch.testing.assert_close(flipped.aspect_features, output.aspect_features.flip(2))
    assert not torch.allclose(flipped.presence_logits, output.presence_logits)


def test_findings_see_each_other_only_by_self_attention(model):
    """Without it, a finding's score is its own whatever else is asked; with it, it is not."""
    images, text = draw(1, 3, 64, 64), draw(5, 9, 12)
    for kind, alone in (("resnet", False), ("no self-attention", True)):
        chosen = model if kind == "resnet" else build(kind)
        with torch.no_grad():
            together, single = chosen(images, text).presence_logits[:, :1], chosen(images, text[:1]).presence_logits
        assert torch.allclose(together, single, atol=1e-5) == alone


def test_attention_is_a_distribution_over_patches_and_only_made_when_asked_for(model):
    images, text = draw(2, 3, 64, 96), draw(3, 9, 12)
    with torch.no_grad():
        output, without = model(images, text, return_attention=True), model(images, text)
    for weights in output.attention:
        assert weights.shape == (2, 27, 24)
        assert weights.min() >= 0
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 27))
    assert without.attention is None
    torch.testing.assert_close(without.presence_logits, output.presence_logits)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_batch_equals_its_images_one_by_one(kind):
    model, images, text = build(kind), draw(3, 3, 64, 64), draw(2, 9, 12)
    with torch.no_grad():
        batch = model(images, text)
        singles = [model(image[None], text) for image in images]
    for name in ("presence_logits", "location_embedding", "grid", "cosine"):
        expected = torch.cat([getattr(single, name) for single in singles])
        torch.testing.assert_close(getattr(batch, name), expected, rtol=1e-4, atol=1e-5)


def test_cosine_is_of_the_pooled_image_and_the_projected_text(model):
    images, text = draw(2, 3, 64, 64), draw(3, 9, 12)
    with torch.no_grad():
        output = model(images, text)
        pooled = model.pool(model.backbone(images)[0])
        query = model.query_projection(text[1, 4])
    expected = pooled[1] @ query / (pooled[1].norm() * query.norm())
    torch.testing.assert_close(output.cosine[1, 4, 1], expected)
    assert output.cosine.abs().max() <= 1 + 1e-6


def test_text_is_normalized_before_its_projection_where_that_is_set():
    model, text = build(text_norm=True), 5 + 3 * draw(2, 9, 12)
    norm, linear = model.query_projection
    normalized = (text - text.mean(dim=-1, keepdim=True)) / (text.var(dim=-1, correction=0, keepdim=True) + 1e-5).sqrt()
    with torch.no_grad():
        norm.weight.copy_(torch.arange(12.0))
        projected = model.encode_text(text).projected
        torch.testing.assert_close(projected, linear(normalized * torch.arange(12.0)).flatten(0, 1))
    assert type(build().query_projection) is torch.nn.Linear


def test_heads_are_linear_in_the_aspect_features_side_by_side(model):
    with torch.no_grad():
        output = model(draw(1, 3, 64, 64), draw(3, 9, 12))
    features, head = output.aspect_features[0, 2], model.presence_head
    torch.testing.assert_close(output.presence_logits[0, 2], head.weight @ features.flatten() + head.bias)
    weight = model.location_head.weight  # [T, D, A]
    expected = torch.einsum("ad,tda->t", features, weight) + model.location_head.bias
    torch.testing.assert_close(output.location_embedding[0, 2], expected)


def test_feature_dropout_zeroes_whole_vectors_and_scales_the_rest():
    model = build(dropout=0.0, feature_dropout=0.25)
    images, text = draw(2, 3, 64, 64), draw(75, 9, 12)
    model.feature_dropout.train()  # alone: BatchNorm stays as it is
    torch.manual_seed(0)
    with torch.no_grad():
        dropped, whole = model(images, text).aspect_features, model.eval()(images, text).aspect_features
    zero = (dropped == 0).all(dim=-1)
    assert torch.equal(zero, (dropped == 0).any(dim=-1))
    torch.testing.assert_close(dropped[~zero], whole[~zero] / 0.75)
    assert zero.float().mean().item() == pytest.approx(0.25, abs=0.03)  # 1350 vectors: 2.5 standard deviations
    assert not torch.equal(zero[0], zero[1])


def test_medklip_is_one_aspect_without_a_contrastive_head():
    model = build("medklip")
    with torch.no_grad():
        output = model(draw(2, 3, 64, 64), draw(4, 1, 12))
    assert (output.cosine, output.logit_scale) == (None, None)
    assert output.aspect_features.shape == (2, 4, 1, 16)
    assert model.location_head.kernel_size == (1,)
    assert not [name for name in model.state_dict() if name.startswith(("pool", "logit_scale"))]


def test_temperature_starts_at_the_published_value(model):
    torch.testing.assert_close(model.logit_scale, torch.full((9,), 2.65926), rtol=0, atol=1e-5)


def test_linear_and_attention_weights_start_as_xavier_says_and_biases_at_zero():
    """Xavier's standard deviation is sqrt(2 / (inputs + outputs)); looks start with query and key twice as wide."""
    model = build(width=64, text_width=128, heads=2)
    ask, look = model.decoder.layers[0].self_attn, model.decoder.layers[0].cross_attn
    assert model.query_projection.weight.std().item() == pytest.approx((2 / (128 + 64)) ** 0.5, rel=0.05)
    for weight, gain in zip(
        [*ask.in_proj_weight.chunk(3), *look.in_proj_weight.chunk(3)], (1, 1, 1, 2, 2, 1), strict=True
    ):
        assert weight.std().item() == pytest.approx(gain * (2 / (64 + 64)) ** 0.5, rel=0.05)
    for bias in (model.query_projection.bias, ask.in_proj_bias, look.in_proj_bias, model.presence_head.bias):
        assert not bias.any()


def test_certain_findings_give_the_numbers_that_they_have_among_all(model):
    images, text, chosen = draw(2, 3, 64, 64), draw(5, 9, 12), [3, 0]
    queries = [finding * 9 + aspect for finding in chosen for aspect in range(9)]
    with torch.no_grad():
        whole = model(images, text, return_attention=True)
        part = model.decode(model.encode_image(images), model.encode_text(text), findings=chosen, return_attention=True)
        fused = model(images, text, findings=chosen)
    for output in (part, fused):
        torch.testing.assert_close(output.presence_logits, whole.presence_logits[:, chosen])
        torch.testing.assert_close(output.aspect_features, whole.aspect_features[:, chosen])
        torch.testing.assert_close(output.cosine, whole.cosine[:, :, chosen])
        assert output.location_embedding is None
    for of_part, of_whole in zip(part.attention, whole.attention, strict=True):
        torch.testing.assert_close(of_part, of_whole[:, queries])
    assert fused.attention is None


def test_a_bank_of_other_aspects_is_refused(model):
    with pytest.raises(ValueError, match="text has 8 aspects a finding, the model has 9"):
        model(draw(1, 3, 64, 64), draw(4, 8, 12))


@pytest.mark.parametrize(("image_size", "cells"), [(64, 4), (96, 6), (224, 14), (100, 7)])
def test_pooling_positions_are_those_of_the_image_size(image_size, cells):
    """At that size nothing is interpolated, also where the last patch hangs over the edge."""
    model = build(image_size=image_size)
    grid, _ = model.backbone(draw(1, 3, image_size, image_size))
    assert grid.shape[-2:] == (cells, cells)
    assert model.pool.positional_embedding.shape == (1 + cells**2, 256)


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (128, 64)])
@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_images_of_another_size_are_taken(kind, size):
    with torch.no_grad():
        output = build(kind)(draw(1, 3, *size), draw(2, 9, 12))
    assert output.grid.shape[-2:] == (size[0] // 16, size[1] // 16)
    assert output.cosine.isfinite().all()


def test_attention_pooling_equals_torchs_multi_head_attention():
    torch.manual_seed(0)
    pool = AttentionPool(32, 8, 4)
    reference = torch.nn.MultiheadAttention(32, 8, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([pool.q_proj.weight, pool.k_proj.weight, pool.v_proj.weight]))
        reference.in_proj_bias.copy_(torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]))
        reference.out_proj.weight.copy_(torch.eye(32))
        reference.out_proj.bias.zero_()
        grid = draw(3, 32, 2, 2)
        patches = grid.flatten(2).mT
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], dim=1) + pool.positional_embedding
        expected = pool.c_proj(reference(tokens[:, :1], tokens, tokens)[0][:, 0])
        torch.testing.assert_close(pool(grid), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("present", [True, False])
def test_a_gradient_reaches_every_parameter(kind, present):
    """So that several processes need no search for unused parameters, not even for a batch without any label 1."""
    model = build(kind).train()
    model.feature_dropout.p = 0.0  # it may zero the only present finding's only aspect
    labels = torch.tensor([[1, 0], [0, -1]]) if present else torch.tensor([[0, -1], [-1, 0]])
    output = model(draw(2, 3, 64, 64), draw(2, len(model.aspects), 12))
    losses = pretraining_losses(output, Targets(labels, torch.arange(8).expand(2, 2, 8), draw(51, 12)))
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    if present:
        silent = {name for name, gradient in gradients.items() if not gradient.any()}
        assert silent <= {"pool.k_proj.bias"}  # adds the same to every score, which the softmax takes out again


def test_the_released_start_is_normal_with_biases_as_torch_draws_them():
    """Convolutions and a loaded backbone are left alone; of torch's attention the biases begin at zero."""
    torch.manual_seed(0)
    model = MAVL(backbone="resnet18", image_size=64, width=64, layers=1, heads=2, feedforward=128, text_width=96)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    initialise_as_released(model)
    after = model.state_dict()
    layer = "decoder.layers.0"
    for name in (
        "query_projection",
        "pool.q_proj",
        "presence_head",
        f"{layer}.linear1",
        f"{layer}.cross_attn.out_proj",
    ):
        assert after[f"{name}.weight"].std() == pytest.approx(0.02, rel=0.1)
    for name in (f"{layer}.self_attn", f"{layer}.cross_attn"):
        assert after[f"{name}.in_proj_weight"].std() == pytest.approx(0.02, rel=0.05)
        assert not after[f"{name}.in_proj_bias"].any()
        assert not after[f"{name}.out_proj.bias"].any()
    bias = after[f"{layer}.linear1.bias"]  # uniform up to 1 / sqrt(64)
    assert 0.11 < bias.abs().max() <= 0.125
    assert bias.std() == pytest.approx(0.125 / 3**0.5, rel=0.15)
    kept = [name for name in after if name.startswith(("backbone.", "location_head.", "grid_projection."))]
    assert [name for name in kept if not torch.equal(after[name], before[name])] == []


def test_layer_norm_is_torchs_in_fp32_and_keeps_bf16():
    norm, tokens = LayerNorm(16), draw(3, 16)
    nn.init.normal_(norm.weight)
    stock = nn.LayerNorm(16)
    stock.load_state_dict(norm.state_dict())
    assert torch.equal(norm(tokens), stock(tokens))
    with torch.autocast("cpu", torch.bfloat16):
        half = norm(tokens.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), stock(tokens), rtol=0.02, atol=0.02)
    half.float().sum().backward()
    assert norm.weight.grad.dtype == torch.float32
