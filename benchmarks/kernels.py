"""Where a step's time goes on a GPU: its kernels by what they do, and the longest ones by name.

python -m benchmarks.kernels                          training and inference in bf16, about a minute
python -m benchmarks.kernels --compile --batch 256
"""

import argparse
import re
from collections import defaultdict

from benchmarks.steps import Case, best_seconds, build_step

KINDS = {
    "attention": r"flash|fmha|attention|softmax",
    "convolutions": r"conv|fprop|dgrad|wgrad|implicit|nchwToNhwc|nhwcToNchw",
    "BatchNorm": r"batch_norm|bn_fw|bn_bw|batchnorm",
    "matrix products": r"gemm|nvjet|cutlass|splitK|gemv",
    "LayerNorm": r"layer_norm|LayerNorm",
    "dropout": r"dropout|bernoulli",
    "optimizer": r"Adam|multi_tensor|foreach",
    "fused by the compiler": r"triton",
    "copies and casts": r"copy|Memcpy|Memset|cast|CatArray",
    "elementwise": r"elementwise",
    "sums": r"reduce",
}
STEPS = 3
LONGEST = 12


def main(arguments: list[str] | None = None) -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--compile", action="store_true")
    chosen = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("  no GPU here")
        return
    for job in ("training", "inference"):
        case = Case(job, "fast", chosen.batch, "bf16", "cuda", chosen.compile)
        step = build_step(case)
        seconds = best_seconds(step, "cuda")
        kernels = profile(step)
        busy = sum(kernels.values())
        print(f"  {job}, bf16, batch {chosen.batch}: {1000 * seconds:.1f} ms a step, kernels {busy:.1f} ms")
        for kind, took in by_kind(kernels).items():
            print(f"    {took:7.2f} ms  {took / busy:4.0%}  {kind}")
        for name in sorted(kernels, key=kernels.get, reverse=True)[:LONGEST]:
            print(f"    {kernels[name]:7.2f} ms  {name[:100]}")


def profile(step) -> dict[str, float]:
    """Milliseconds a step by name of kernel."""
    import torch
    from torch.profiler import ProfilerActivity

    with torch.profiler.profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
    took: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            took[event.key] += event.self_device_time_total / 1000 / STEPS
    return dict(took)


def by_kind(kernels: dict[str, float]) -> dict[str, float]:
    """Milliseconds by the first of KINDS that a kernel's name matches, the longest first."""
    took: dict[str, float] = defaultdict(float)
    for name, milliseconds in kernels.items():
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), "other")
        took[kind] += milliseconds
    return dict(sorted(took.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    main()
