"""Two settings without which training on a CPU loses most of its time. Neither changes a number."""

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEEP = 2**31 - 1


def sleep_while_waiting() -> None:
    """Have OpenMP's threads sleep, not spin, while they wait for one another. Call it before torch is imported.

    Spinning threads take the core from the one they wait for as soon as anything else runs, a loader worker say; a
    training step on two cores was seen to take five times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> bool:
    """Have glibc keep freed blocks, not return them; whether the C library took it (glibc does).

    By default it maps every large block anew, so that each step touches the same gigabytes for the first time again.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, KEEP) and mallopt(M_TRIM_THRESHOLD, KEEP))
