"""A training step queues its work and does not wait for the device, so that the host can be ahead of it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mavl.data.images.augment import OPERATIONS, apply_operations
from mavl.model import cpu_kernels
from tests.support.trainings import SCRIPTS, STEPS, watch_steps

WAITING = {"_local_scalar_dense", "nonzero", "bincount", "masked_select", "equal", "_unique2", "unique_dim"}
"""Operations whose result, or the size of it, the host has to have."""


COPYING = ("cpu", "numpy")
"""Methods of a tensor that copy it to the host, which dispatch nothing on a CPU."""


class NoWaits(TorchDispatchMode):
    """An operation for which the host would wait for a GPU raises, also on a CPU."""

    def __enter__(self):
        self.former = {name: getattr(torch.Tensor, name) for name in COPYING}
        for name in COPYING:
            setattr(torch.Tensor, name, _refused(name))
        return super().__enter__()

    def __exit__(self, *error):
        for name, method in self.former.items():
            setattr(torch.Tensor, name, method)
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        if name in WAITING or masks:
            raise AssertionError(f"{name} makes the host wait")
        return func(*args, **(kwargs or {}))


def _refused(name: str):
    def refuse(*_, **__):
        raise AssertionError(f"{name} makes the host wait")

    return refuse


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.cpu(),
        lambda x: x.numpy(),
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: torch.bincount(x.int()),
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
    ],
)
def test_what_waits_is_found(wait):
    numbers = torch.arange(3.0)
    with pytest.raises(AssertionError, match="makes the host wait"), NoWaits():
        wait(numbers)


@pytest.mark.parametrize("precision", ["bf16", "no"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_no_step_waits(tmp_path, monkeypatch, kind, precision):
    """Its augmentation, losses, gradients, their clipping and the optimizer, with the operations that a GPU has too.

    With fp16 the loss scaler waits once a step: it has to know whether a gradient is infinite.
    """
    monkeypatch.setattr(cpu_kernels, "ENABLED", False)
    assert watch_steps(kind, tmp_path, NoWaits, f"train.mixed_precision={precision}") == 2 * STEPS


def test_no_operation_of_the_augmentation_waits():
    pixels = torch.arange(2 * 64 * 64).view(2, 1, 64, 64).to(torch.uint8)
    codes = torch.arange(1, len(OPERATIONS), dtype=torch.int8)
    with NoWaits():
        for code in codes:
            apply_operations(pixels, torch.stack([code, -code]).expand(2, 2))
