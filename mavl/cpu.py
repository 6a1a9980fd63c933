"""Settings of the processor and its precision. Without them a training on a CPU loses most of its time."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP = 2**31 - 1


class PrecisionError(ValueError):
    """A precision that the device does not have."""


def sleep_while_waiting() -> None:
    """Make OpenMP's threads sleep, not spin, while they wait for one another. Call it before torch is imported.

    Spinning threads occupy the core of the thread they wait for as soon as another process runs, such as a loader
    worker; a training step on two cores took five times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks instead of returning them; other C libraries have no such setting.

    By default glibc maps every large block anew, so that each step pays the page faults of gigabytes again.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, KEEP)
        libc.mallopt(M_TRIM_THRESHOLD, KEEP)


def prepare_device(device_type: str, mixed_precision: str = "no", tf32: bool = False) -> None:
    """On a CPU keep freed memory; on a GPU compute fp32 exactly, also in convolutions, or in TF32.

    PrecisionError for fp16 on a CPU, which torch would compute as fp32 without a warning.

    Args:
        device_type: as of torch.device, "cpu" or "cuda".
        mixed_precision: accelerate's "no", "fp16" or "bf16".
        tf32: whether fp32 products and convolutions round their inputs to 10 bits behind the point: several times
            the rate. By default torch does so for convolutions alone.
    """
    if device_type == "cuda":
        import torch  # not above: sleep_while_waiting comes before

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    if device_type == "cpu":
        keep_freed_memory()
        if mixed_precision == "fp16":
            raise PrecisionError("fp16 needs a GPU (a CPU would compute in fp32); use mixed_precision bf16 or no")
