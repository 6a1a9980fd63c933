"""Plain against fast: inference and training of MAVL (ResNet-50, 75 findings × 9 aspects, 224 pixels), CPU or GPU.

python -m benchmarks.speed                  some 10 minutes on two cores, some 5 on a GPU
python -m benchmarks.speed --only inference

Every case runs in a process of its own, which tells its peak memory; plain runs as a plain program does, under the
allocator's defaults. Rates are the best of three timings, utilisation is against the largest of the machine's matrix
products 2048³ (8192³ on a GPU) in that precision.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass

TARGETS = ("cardiomegaly", "edema", "consolidation", "atelectasis", "effusion")
IMAGES, EPOCHS = 377_000, 60
REPEATS = 3
EMULATED = 5.0
"""GFLOP/s: a matrix product slower than this is not done by instructions made for its precision."""


@dataclass(frozen=True)
class Case:
    """job: inference, training or matrix; way: plain or fast; precision: fp32, bf16, fp16.

    findings: in the bank; every: ask for all of them, not for the five of CheXpert; size: of the images, in pixels.
    """

    job: str
    way: str
    batch: int
    precision: str
    device: str
    compile: bool = False
    backbone: str = "resnet50"
    findings: int = 75
    every: bool = False
    size: int = 224


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["inference", "training"])
    parser.add_argument("--case", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.case:
        print(json.dumps(_run(Case(**json.loads(chosen.case)))))
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
    for job, batches in (("inference", (1, 16, 64, 256, 512)), ("training", (16, 64, 128, 256, 512))):
        for batch in batches:
            for precision in ("fp32", "bf16", "fp16"):
                yield Case(job, "fast", batch, precision, device)
        for way, compile in (("plain", False), ("fast", True)):
            yield Case(job, way, 128, "bf16", device, compile)


def measure(case: Case) -> dict:
    """What a process of its own says of the case; {"error": …} where it could not run it."""
    environment = os.environ | ({"OMP_WAIT_POLICY": "PASSIVE"} if case.way == "fast" else {})
    command = [sys.executable, "-m", "benchmarks.speed", "--case", json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


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
        hours = IMAGES * EPOCHS / rates[best] / 3600
        rate = f"{rates[best]:.1f} images/s ({best.precision})"
        yield f"{EPOCHS} epochs of {IMAGES:,} images at {rate}: {hours:,.0f} hours"


def _run(case: Case) -> dict:
    import torch

    if case.way == "fast":
        from mavl.cpu import keep_freed_memory

        keep_freed_memory()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    if case.job == "matrix":
        return {"gflops": _matrix_rate(case)}
    step, images = (_inference if case.job == "inference" else _training)(case)
    seconds = best_seconds(step, case.device)
    peak = torch.cuda.max_memory_allocated() / 2**30 if case.device == "cuda" else resident_gib()
    return {"images_per_second": images / seconds, "peak_gib": peak, "gflop_per_image": _gflop(case) / images}


def _inference(case: Case) -> tuple[Callable[[], object], int]:
    import torch

    from benchmarks.plain import plain
    from mavl.bank import Bank
    from mavl.inference import Reader
    from mavl.vocab import ASPECTS, FINDINGS

    model, text = _model(case)
    images = torch.randn(case.batch, 3, case.size, case.size, device=case.device)
    if case.way == "plain":
        model = plain(model.eval())

        @torch.no_grad()
        def step():
            with _autocast(case):
                return model(images, text)
    else:
        more = tuple(f"finding {number}" for number in range(len(FINDINGS), case.findings))
        bank = Bank(FINDINGS + more, ASPECTS, text, text[:51, 0], {})
        reader = Reader(model, bank, None if case.every else TARGETS, compile=case.compile)

        def step():
            with _autocast(case):
                return reader(images)

    return step, case.batch


def _training(case: Case) -> tuple[Callable[[], object], int]:
    import torch

    from benchmarks.plain import plain
    from mavl.losses import pretraining_losses
    from mavl.optim import build_optimizer

    model, text = _model(case)
    model.train()
    model = plain(model) if case.way == "plain" else model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, lr=1e-4, weight_decay=0.02)
    forward = torch.compile(model) if case.compile else model
    labels = torch.randint(-1, 2, (case.batch, 75), device=case.device)
    locations = torch.randint(0, 51, (case.batch, 75, 8), device=case.device)
    images, anatomies = torch.randn(case.batch, 3, 224, 224, device=case.device), torch.randn(51, 768).to(case.device)
    scaler = torch.amp.GradScaler(case.device, enabled=case.precision == "fp16")

    def step():
        with _autocast(case):
            output = forward(images, text)
        loss = pretraining_losses(output, labels, locations, anatomies).total
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return loss

    return step, case.batch


def _model(case: Case):
    import torch

    from mavl.model import MAVL

    return MAVL(backbone=case.backbone).to(case.device), torch.randn(case.findings, 9, 768).to(case.device)


def _gflop(case: Case) -> float:
    """Of one step at batch 2, scaled up; counted in full precision with gradients, where no fused kernel hides any."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    small = Case(**asdict(case) | {"batch": 2, "precision": "fp32", "device": "cpu", "compile": False})
    step, images = (_inference if case.job == "inference" else _training)(small)
    if case.job == "inference" and case.way == "plain":
        step = step.__wrapped__  # without no_grad, nn.MultiheadAttention takes the path that is counted
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9 / images * case.batch


def _matrix_rate(case: Case) -> float:
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[case.precision]

    def rate(size: int, repeats: int) -> float:
        left, right = (torch.randn(size, size, device=case.device).to(dtype) for _ in range(2))
        return 2 * size**3 / best_seconds(lambda: left @ right, case.device, repeats) / 1e9

    if case.device == "cpu" and (emulated := rate(256, repeats=1)) < EMULATED:
        return emulated
    return rate(8192 if case.device == "cuda" else 2048, repeats=10)


def best_seconds(step: Callable[[], object], device: str, repeats: int = REPEATS) -> float:
    """The shortest of some timings of `step`, each long enough to be told from noise, after a warm-up."""
    import torch

    def timed(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / times

    timed(2)
    times = max(1, round(0.5 / timed(1)))
    return min(timed(times) for _ in range(repeats))


def _autocast(case: Case) -> AbstractContextManager:
    import torch

    if case.precision == "fp32":
        return nullcontext()
    return torch.autocast(case.device, torch.bfloat16 if case.precision == "bf16" else torch.float16)


def resident_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
