"""The accelerator of a script, and which of accelerate's launches this package supports."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from accelerate import Accelerator, DistributedType
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast_object_list

from mavl.config.loader import ConfigError
from mavl.cpu import prepare_device

TIMEOUT = timedelta(hours=2)
"""How long processes wait for one another. The first one of a node may build a list of images in that time."""

SUPPORTED = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "tensor or context parallelism",
}
"""What splits a model, by the variable that `accelerate launch` sets."""


class LaunchError(ConfigError):
    """A launch that this package does not support; the message says which one to use instead."""


def open_accelerator(mixed_precision: str | None, tf32: bool = False, **options: Any) -> Accelerator:
    """An Accelerator for one process or for data parallelism on CPUs or CUDA GPUs; LaunchError for another launch.

    PrecisionError as of `prepare_device`.

    Args:
        mixed_precision: None for that of the launch.
        tf32: as of `prepare_device`.
        options: further arguments of Accelerator.
    """
    refuse_unsupported(os.environ)
    handlers = [
        InitProcessGroupKwargs(timeout=TIMEOUT),
        DistributedDataParallelKwargs(gradient_as_bucket_view=True),  # else each gradient is in memory twice
    ]
    accelerator = Accelerator(mixed_precision=mixed_precision, kwargs_handlers=handlers, **options)
    if accelerator.distributed_type not in SUPPORTED:
        raise _unsupported(accelerator.distributed_type.value, "use CPUs or CUDA GPUs")
    prepare_device(accelerator.device.type, accelerator.mixed_precision, tf32)
    return accelerator


@contextmanager
def main_process_first(accelerator: Accelerator) -> Iterator[None]:
    """The block runs in the main process, then in the others, which end without a word where it failed there.

    accelerate's block of this name leaves them to find out that the main process has gone.
    """
    failed = [True]
    try:
        if not accelerator.is_main_process:
            broadcast_object_list(failed)
            if failed[0]:
                raise SystemExit(2)
        yield
        failed = [False]
    finally:
        if accelerator.is_main_process:
            broadcast_object_list(failed)


def refuse_unsupported(environment: Mapping[str, str]) -> None:
    """LaunchError for a launch that splits the model, compiles it by its own options, or computes in FP8."""
    for variable, name in SHARDED.items():
        if environment.get(variable, "").lower() in ("1", "true", "yes", "on"):
            raise _unsupported(f"{name} ({variable})", "use --multi_gpu, where each GPU holds the whole model")
    if (backend := environment.get("ACCELERATE_DYNAMO_BACKEND", "")).lower() not in ("", "no"):
        raise _unsupported(f"--dynamo_backend {backend.lower()}", "use --dynamo_backend no with train.compile=true")
    if environment.get("ACCELERATE_MIXED_PRECISION", "").lower() == "fp8":
        raise _unsupported("--mixed_precision fp8", "use bf16, fp16 or no")


def _unsupported(what: str, instead: str) -> LaunchError:
    return LaunchError("accelerate", [f"{what} is not supported; {instead}"])
