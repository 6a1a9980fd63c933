"""Plain against fast: inference and training of MAVL (ResNet-50, 75 findings × 9 aspects, 224 pixels), CPU or GPU.

python -m benchmarks.speed                  some 10 minutes on two cores, some 5 on a GPU
python -m benchmarks.speed --only inference

On a CPU every case runs in a process of its own, which tells its peak memory; plain runs as a plain program does, under
the allocator's defaults. On a GPU, whose allocator tells it, all run in this one. Rates are the best of three timings,
utilisation is against the machine's matrix product 2048³ (8192³ on a GPU) in that precision; fp32 is without TF32.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

from benchmarks.steps import EPOCHS, MIMIC_IMAGES, Case, run


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["inference", "training"])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.case:
        print(json.dumps(run(Case(**json.loads(chosen.case)))))
        return
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    precisions = ("fp32", "bf16", "fp16") if device == "cuda" else ("fp32", "bf16")
    matrix = {precision: measure(Case("matrix", "fast", 0, precision, device))["gflops"] for precision in precisions}
    print("  matrix product: " + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in matrix.items()))
    slow = [precision for precision in precisions if matrix[precision] < matrix["fp32"]]
    for precision in slow:
        print(f"  {precision}: this processor has no instructions for it and only emulates it, left out")
    print("  job        batch precision  way            images/s  ms/batch  GFLOP/image  of matrix rate  peak memory")
    results: dict[Case, dict] = {}
    for case in cases(device):
        if chosen.only in (None, case.job) and case.precision not in slow:
            results[case] = measure(case)
            print("  " + line(case, results[case], matrix[case.precision]), flush=True)
    for sentence in ratios(results):
        print("  " + sentence)


def cases(device: str) -> Iterator[Case]:
    if device == "cpu":
        for job, batches in (("inference", (1, 16, 64)), ("training", (16, 32))):
            for batch in batches:
                for precision in ("fp32", "bf16"):
                    for way in ("plain", "fast"):
                        yield Case(job, way, batch, precision, device)
        return
    for job, batches in (("inference", (1, 16, 64, 128, 512)), ("training", (16, 32, 128, 512))):
        for batch in batches:
            for precision in ("fp32", "bf16", "fp16"):
                yield Case(job, "fast", batch, precision, device)
        yield Case(job, "plain", 128, "bf16", device)
        for batch in (128, 512):
            yield Case(job, "fast", batch, "bf16", device, compile=True)


def measure(case: Case) -> dict:
    """What became of the case, on a CPU in a process of its own; {"error": …} where it could not run."""
    if case.device == "cuda":
        return _measure_here(case)
    environment = os.environ | ({"OMP_WAIT_POLICY": "PASSIVE"} if case.way == "fast" else {})
    command = [sys.executable, "-m", "benchmarks.speed", "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


def _measure_here(case: Case) -> dict:
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch.compiler.reset()
    try:
        return run(case)
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}


def line(case: Case, result: dict, matrix: float) -> str:
    way = case.way + (", compiled" if case.compile else "")
    head = f"{case.job:10} {case.batch:5} {case.precision:9}  {way:14}"
    if "error" in result:
        return f"{head} {result['error']}"
    rate = result["images_per_second"]
    share = rate * result["gflop_per_image"] / matrix
    return (
        f"{head} {rate:8.1f}  {1000 * case.batch / rate:8.0f}  {result['gflop_per_image']:11.1f}  {share:14.0%}  "
        f"{result['peak_gib']:7.2f} GiB"
    )


def ratios(results: dict[Case, dict]) -> Iterator[str]:
    """Fast against plain, bf16 against fp32, and the hours of the full schedule at the best training rate."""
    good = {case: result for case, result in results.items() if "error" not in result}
    for case, fast in good.items():
        plain = good.get(Case(**asdict(case) | {"way": "plain"}))
        if case.way == "fast" and plain:
            yield (
                f"{case.job} {case.batch} {case.precision}: fast is "
                f"{fast['images_per_second'] / plain['images_per_second']:.2f} times plain, with "
                f"{fast['peak_gib'] / plain['peak_gib']:.0%} of its memory"
            )
        full = good.get(Case(**asdict(case) | {"precision": "fp32"}))
        if case.precision == "bf16" and case.way == "fast" and full:
            ratio = fast["images_per_second"] / full["images_per_second"]
            yield f"{case.job} {case.batch}: bf16 is {ratio:.2f} times fp32"
    rates = {case: result["images_per_second"] for case, result in good.items() if case.job == "training"}
    if rates:
        best = max(rates, key=rates.get)
        hours = MIMIC_IMAGES * EPOCHS / rates[best] / 3600
        rate = f"{rates[best]:.1f} images/s ({best.precision})"
        yield f"{EPOCHS} epochs of {MIMIC_IMAGES:,} images at {rate}: {hours:,.0f} hours"


if __name__ == "__main__":
    main()
