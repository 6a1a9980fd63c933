"""benchmarks.activations: the bytes of a few operators, counted by hand, and what checkpointing leaves."""

import torch

from benchmarks.activations import Traffic, fake_gpu, kept


def test_operators_read_and_write_whole_tensors_and_views_are_free():
    with fake_gpu():
        tokens = torch.ones(4, 8)
        with Traffic() as traffic:
            (tokens.T + 1).bfloat16()
            tokens @ tokens.T
    assert traffic.calls == {"elementwise": 1, "casts": 1, "products": 1}
    assert traffic.bytes == {"elementwise": 2 * 128, "casts": 128 + 64, "products": 2 * 128 + 4 * 4 * 4}


def test_each_checkpointing_leaves_less():
    everything, decoder, both = (kept("resnet18", 64, *again) for again in ((), (True,), (True, True)))
    assert everything > decoder > both > 0


def test_a_frozen_encoder_keeps_least_and_adapters_less_than_the_whole():
    whole, adapted, frozen = (
        kept("timm:test_vit", 64, **trained) for trained in ({}, {"frozen": True, "rank": 2}, {"frozen": True})
    )
    assert whole > adapted > frozen > 0
