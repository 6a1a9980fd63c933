"""MAVL's speed and memory on the GPU, or on the CPU where there is none: tables of docs/benchmarks.md.

On a CPU each case runs in its own process, whose peak memory is reported; the plain way runs with the allocator's and
OpenMP's defaults, as a plain program does. On a GPU the allocator reports the memory.
"""

import gc
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch.profiler import ProfilerActivity

from benchmarks.steps import Case, best_seconds, build_step, costs, synchronize

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PRECISIONS = ("fp32", "bf16", "fp16") if DEVICE == "cuda" else ("fp32", "bf16")
BATCHES = {
    "cpu": {"inference": (1, 16, 64), "training": (16, 32)},
    "cuda": {"inference": (1, 16, 64, 128, 512), "training": (16, 32, 128, 512)},
}[DEVICE]
GROWTH_BATCH = 4
FINDINGS, SIZES, FILES = (75, 138, 300, 1000), (112, 224, 448), (32, 128, 512)

KINDS = {
    "fused by the compiler": r"triton",
    "attention": r"flash|fmha|attention|softmax",
    "convolutions": r"conv|fprop|dgrad|wgrad|implicit|nchwToNhwc|nhwcToNchw",
    "BatchNorm": r"batch_norm|bn_fw|bn_bw|batchnorm",
    "matrix products": r"gemm|nvjet|cutlass|splitK|gemv|::(add|b)?mm",
    "LayerNorm": r"layer_norm|LayerNorm",
    "dropout": r"dropout|bernoulli",
    "optimizer": r"Adam|multi_tensor|foreach",
    "copies and casts": r"copy|Memcpy|Memset|cast|CatArray",
    "elementwise": r"elementwise",
    "sums": r"reduce",
}
"""Kind of work -> pattern of its kernels' names (of a CPU's operators)."""
PROFILED, LONGEST = 3, 12


def speed() -> None:
    """Plain against fast, some 10 minutes on two cores: ResNet-50, 75 findings × 9 aspects, five requested, 224 pixels.

    "of the matrix rate" is against a matrix product 2048³ (8192³ on a GPU) in the same precision, fp32 without TF32.
    A GPU measures plain at batch 128 in bf16 only, and compiled at 128 and 512.
    """
    rates = {precision: measure(Case("matrix", precision, DEVICE))["gflops"] for precision in PRECISIONS}
    print("matrix product: " + ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items()))
    for precision in PRECISIONS:
        if rates[precision] < rates["fp32"]:
            print(f"{precision} is left out: this processor emulates it")
    print("| what | batch | plain, images/s | fast, images/s | compiled | ratio | of the matrix rate | peak memory |")
    gflop: dict[str, dict[str, float]] = defaultdict(dict)
    for job, batches in BATCHES.items():
        for precision in (name for name in PRECISIONS if rates[name] >= rates["fp32"]):
            for batch in batches:
                ways = _ways(Case(job, precision, DEVICE, batch))
                print(_row(job, precision, batch, ways, rates[precision]), flush=True)
                gflop[job] |= {way: result["gflop_per_image"] for way, result in ways.items() if "error" not in result}
    for job, each in gflop.items():
        print(f"{job}, GFLOP an image: " + ", ".join(f"{way} {each[way]:.1f}" for way in each if way != "compiled"))


def _ways(case: Case) -> dict[str, dict]:
    """ "plain", "fast" and "compiled", as far as they are measured on this device."""
    ways = {"fast": case}
    if DEVICE == "cpu" or (case.precision == "bf16" and case.batch == 128):
        ways = {"plain": replace(case, way="plain")} | ways
    if DEVICE == "cuda" and case.precision == "bf16" and case.batch in (128, 512):
        ways["compiled"] = replace(case, compile=True)
    return {way: measure(each) for way, each in ways.items()}


def _row(job: str, precision: str, batch: int, ways: dict[str, dict], matrix_rate: float) -> str:
    plain, fast, compiled = (ways.get(way) for way in ("plain", "fast", "compiled"))
    cells = [f"{job}, {precision}", str(batch), *(_show(result, "images_per_second", "1f") for result in (plain, fast))]
    ratio = share = "-"
    if fast and "error" not in fast:
        share = f"{fast['images_per_second'] * fast['gflop_per_image'] / matrix_rate:.0%}"
        if plain and "error" not in plain:
            ratio = f"{fast['images_per_second'] / plain['images_per_second']:.2f}"
    memory = " → ".join(_show(result, "peak_gib", "2f") for result in (plain, fast) if result)
    return "| " + " | ".join([*cells, _show(compiled, "images_per_second", "1f"), ratio, share, f"{memory} GiB"]) + " |"


def _show(result: dict | None, key: str, digits: str) -> str:
    return "-" if result is None else result.get("error") or f"{result[key]:.{digits}}"


def measure(case: Case) -> dict:
    """`costs` of the case, on a CPU from its own process; {"error": reason} where it could not run."""
    if case.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.compiler.reset()
        try:
            return costs(case)
        except torch.OutOfMemoryError:
            return {"error": "out of memory"}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": "PASSIVE"} if case.way == "fast" else {}
    command = [sys.executable, "-m", "benchmarks.steps", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


def growth() -> None:
    """Inference in fp32, some 3 minutes on two cores: how its cost grows with findings, pixels and number of files."""
    case = Case("inference", "fp32", DEVICE, GROWTH_BATCH)
    print(f"| findings | GFLOP, ms an image at batch {GROWTH_BATCH}, five requested | all requested |")
    for number in FINDINGS:
        five, every = (measure(replace(case, findings=number, all_requested=each)) for each in (False, True))
        print(f"| {number} | {_cost(five)} | {_cost(every)} |", flush=True)
    print("| pixels a side | GFLOP, ms an image, five of 75 findings requested |")
    for size in SIZES:
        print(f"| {size} | {_cost(measure(replace(case, size=size)))} |", flush=True)
    print("| image files | ms an image, peak memory |")
    for number in FILES:
        result = measure(Case("files", "fp32", DEVICE, number))
        milliseconds = _show(result and {"ms": 1000 / result["images_per_second"]}, "ms", "0f")
        print(f"| {number} | {milliseconds}, {result['peak_gib']:.2f} GiB |", flush=True)


def _cost(result: dict) -> str:
    return result.get("error") or f"{result['gflop_per_image']:.1f}, {1000 / result['images_per_second']:,.0f}"


def kernels(batch: int, compiled: bool) -> None:
    """The kernels of a step in bf16 by what they do, the longest ones by name; operators in fp32 on a CPU."""
    for job in ("training", "inference"):
        step = build_step(Case(job, "bf16" if DEVICE == "cuda" else "fp32", DEVICE, batch, compile=compiled))
        seconds, took = best_seconds(step, DEVICE, repeats=1), profile(step)
        busy = sum(took.values())
        print(f"{job}, batch {batch}: {1000 * seconds:.1f} ms a step, kernels {busy:.1f} ms")
        for kind, milliseconds in by_kind(took).items():
            print(f"  {milliseconds:7.2f} ms  {milliseconds / busy:4.0%}  {kind}")
        for name in sorted(took, key=lambda name: -took[name])[:LONGEST]:
            print(f"  {took[name]:7.2f} ms  {name[:100]}")


def profile(step: Callable[[], object]) -> dict[str, float]:
    """Name of a kernel -> its milliseconds in a step."""
    on_gpu = DEVICE == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(PROFILED):
            step()
        synchronize(DEVICE)
    kind = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    took: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        if event.device_type == kind:
            microseconds = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            took[event.key] += microseconds / 1000 / PROFILED
    return dict(took)


def by_kind(took: dict[str, float]) -> dict[str, float]:
    """Milliseconds by the first of KINDS whose pattern a kernel's name matches, the longest first."""
    kinds: dict[str, float] = defaultdict(float)
    for name, milliseconds in took.items():
        kind = next((kind for kind, pattern in KINDS.items() if re.search(pattern, name, re.IGNORECASE)), "other")
        kinds[kind] += milliseconds
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))
