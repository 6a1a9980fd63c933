"""What a training step of MAVL keeps for its backward pass and what its forward pass moves, in bf16, without a GPU.

The tensors are PyTorch's fake ones: they have a shape, a type and a GPU as device, but no data. Attention is
FlashAttention, as on a GPU.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mavl.backbones.adapters import add_adapters
from mavl.backbones.checkpointing import checkpoint_activations
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.mavl import MAVL
from mavl.vocab import ANATOMIES, ASPECTS, FINDINGS

ENCODERS = {
    "ResNet-50": ("resnet50", 224),
    "ViT-B/16": ("vit_b_16", 224),
    "ViT-L/16": ("vit_l_16", 224),
    "DINOv2-B": ("timm:vit_base_patch14_dinov2", 518),
}
"""{name: (backbone, side of an image in pixels)}."""

BATCH = 128
"""Images of a forward pass whose operators are counted, so many that weights and text, once a batch, matter little."""
MIB = 2**20
KINDS = {
    "_to_copy": "casts",
    "clone": "copies",
    "cat": "copies",
    "native_dropout": "dropout",
    "native_layer_norm": "LayerNorm",
    "native_batch_norm": "BatchNorm",
    "cudnn_batch_norm": "BatchNorm",
    "mm": "products",
    "addmm": "products",
    "bmm": "products",
    "convolution": "products",
    "_scaled_dot_product_flash_attention": "attention",
}
"""{operator: kind}; of the others, pointwise ones are "elementwise"."""


def activations() -> None:
    """Print the MiB that an image keeps, by what is computed again in the backward pass."""
    print(f"| encoder | pixels | nothing again | the decoder | the decoder and the backbone |\n|{' --- |' * 5}")
    for name, (backbone, size) in ENCODERS.items():
        _print_kept(name, backbone, size)
    backbone, size = ENCODERS["DINOv2-B"]
    _print_kept("DINOv2-B, frozen", backbone, size, frozen=True)
    _print_kept("DINOv2-B, LoRA", backbone, size, frozen=True, rank=8)


def _print_kept(name: str, backbone: str, size: int, **trained: Any) -> None:
    again = ((False, False), (True, False), (True, True))
    cells = [f"{kept(backbone, size, *which, **trained) / MIB:.0f}" for which in again]
    print(f"| {name} | {size} | {' | '.join(cells)} |", flush=True)


def operators() -> None:
    """Print the operators of a forward pass and the MiB that they read and write for an image."""
    kinds = (*dict.fromkeys(KINDS.values()), "elementwise", "other", "all")
    print(f"| encoder | {' | '.join(kinds)} |\n|{' --- |' * (len(kinds) + 1)}")
    for name, (backbone, size) in ENCODERS.items():
        with fake_gpu():
            step = training_forward(backbone, size, BATCH)
            with Traffic() as traffic:
                step()
        traffic.calls["all"], traffic.bytes["all"] = traffic.calls.total(), traffic.bytes.total()
        cells = [f"{traffic.calls[kind]}: {traffic.bytes[kind] / BATCH / MIB:.0f}" for kind in kinds]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def kept(backbone: str, size: int, decoder: bool = False, blocks: bool = False, **trained: Any) -> int:
    """The bytes that each image of a batch keeps for the backward pass; what images share, as weights, is left out.

    Args:
        backbone: its name.
        size: side of an image in pixels.
        decoder: whether activations of the decoder are computed again.
        blocks: whether those of the backbone's blocks are.
        trained: as of `training_forward`.
    """

    def of_batch(batch: int) -> int:
        storages = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage
            return tensor

        with fake_gpu():
            step = training_forward(backbone, size, batch, decoder, blocks, **trained)
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                losses = step()  # as long as the graph lives, no two storages have one address
            assert losses
            return sum(storage.nbytes() for storage in storages.values())

    return of_batch(3) - of_batch(2)


def training_forward(
    backbone: str,
    size: int,
    batch: int,
    decoder: bool = False,
    blocks: bool = False,
    frozen: bool = False,
    rank: int = 0,
) -> Callable[[], dict[str, Tensor]]:
    """A function that computes the losses of a batch; the other arguments are those of `kept`.

    frozen: whether the backbone is; rank: of the LoRA adapters in it, 0 for none.
    """
    with unset_fake_temporarily(), torch.device("meta"):  # the start of some weights depends on data
        model = MAVL(backbone=backbone, image_size=size)
        cast(nn.Module, model.backbone).requires_grad_(not frozen)
        if rank:
            add_adapters(model.backbone, rank, 2 * rank)
        model.train()
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            module.register_parameter(name, nn.Parameter(torch.empty(value.shape), value.requires_grad))
        for name, value in module.named_buffers(recurse=False):
            module.register_buffer(name, torch.empty(value.shape, dtype=value.dtype))
    model.decoder.activation_checkpointing = decoder
    if blocks:
        checkpoint_activations(model.backbone.blocks)
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    text, anatomies = torch.randn(len(FINDINGS), len(ASPECTS), 768), torch.randn(len(ANATOMIES), 768)
    labels = torch.zeros(batch, len(FINDINGS), dtype=torch.long)
    targets = Targets(labels, labels[..., None].expand(-1, -1, 8), anatomies)

    def step() -> dict[str, Tensor]:
        with bf16():
            output = model(images, text)
        return pretraining_losses(output, targets)

    return step


@contextmanager
def fake_gpu() -> Iterator[None]:
    """In the block new tensors are of a GPU, without data."""
    attention = patch.object(F, "scaled_dot_product_attention", _flash_attention)
    with FakeTensorMode(), torch.device("cuda"), attention:
        yield


@contextmanager
def bf16() -> Iterator[None]:
    """Autocast to bf16; torch.autocast itself refuses without a GPU."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.clear_autocast_cache()


def _flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """What F.scaled_dot_product_attention computes on a GPU; it chooses by the GPU, so that here it would not."""
    assert (attn_mask, is_causal) == (None, False)
    inputs = (tensor.bfloat16() for tensor in (query, key, value))
    return torch.ops.aten._scaled_dot_product_flash_attention(*inputs, dropout_p, scale=scale)[0]


class Traffic(TorchDispatchMode):
    """Counts the operators of its block by kind, and the bytes of their inputs and outputs; views are free."""

    def __init__(self):
        super().__init__()
        self.calls, self.bytes = Counter(), Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.namespace == "aten" and not func.is_view:
            kind = KINDS.get(func.overloadpacket.__name__)
            kind = kind or ("elementwise" if torch.Tag.pointwise in func.tags else "other")
            self.calls[kind] += 1
            tensors = tree_leaves((args, kwargs, result))
            self.bytes[kind] += sum(leaf.nbytes for leaf in tensors if isinstance(leaf, Tensor))
        return result
