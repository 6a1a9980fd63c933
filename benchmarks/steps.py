"""What the benchmarks time: a step of inference or of training of MAVL, plain or fast, and what it costs."""

import resource
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache

TARGETS = ("cardiomegaly", "edema", "consolidation", "atelectasis", "effusion")
MIMIC_IMAGES, MIMIC_STUDIES, EPOCHS = 377_110, 227_827, 60
"""MIMIC-CXR-JPG's own numbers (Johnson et al., 2019), and the epochs of the schedule."""

REPEATS = 3
EMULATED = 5.0
"""GFLOP/s: a matrix product slower than this is not done by instructions made for its precision."""


@dataclass(frozen=True)
class Case:
    """job: inference, training or matrix; way: plain or fast; precision: fp32, bf16, fp16.

    findings: of the text embeddings; every: ask for all of them, not for the five of CheXpert; size: in pixels.
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


def run(case: Case) -> dict:
    import torch

    if case.way == "fast":
        from mavl.cpu import keep_freed_memory

        keep_freed_memory()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if case.job == "matrix":
        return {"gflops": _matrix_rate(case)}
    seconds = best_seconds(build_step(case), case.device)
    peak = torch.cuda.max_memory_allocated() / 2**30 if case.device == "cuda" else resident_gib()
    return {
        "images_per_second": case.batch / seconds,
        "peak_gib": peak,
        "gflop_per_image": gflop_per_image(_as_counted(case)),
    }


def build_step(case: Case) -> Callable[[], object]:
    """A step, to be called again and again; one of training may be given images, labels and locations."""
    return (_inference if case.job == "inference" else _training)(case)


def _inference(case: Case) -> Callable[[], object]:
    import torch

    from benchmarks.plain import plain
    from mavl.model.inference import InferenceModel
    from mavl.text.embeddings import TextEmbeddings
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
        embeddings = TextEmbeddings(FINDINGS + more, ASPECTS, text, text[:51, 0], {})
        inference_model = InferenceModel(model, embeddings, None if case.every else TARGETS, compile=case.compile)

        def step():
            with _autocast(case):
                return inference_model(images)

    return step


def _training(case: Case) -> Callable[[], object]:
    import torch

    from benchmarks.plain import plain
    from mavl.model.losses import Targets, pretraining_losses
    from mavl.train.optim import build_optimizer

    model, text = _model(case)
    model.train()
    model = plain(model) if case.way == "plain" else model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, lr=1e-4, weight_decay=0.02)
    forward = torch.compile(model) if case.compile else model
    labels = torch.randint(-1, 2, (case.batch, 75), device=case.device)
    locations = torch.randint(0, 51, (case.batch, 75, 8), device=case.device)
    images, anatomies = torch.randn(case.batch, 3, 224, 224, device=case.device), torch.randn(51, 768).to(case.device)
    scaler = torch.amp.GradScaler(case.device, enabled=case.precision == "fp16")

    def step(images=images, labels=labels, locations=locations):
        with _autocast(case):
            output = forward(images, text)
        loss = pretraining_losses(output, Targets(labels, locations, anatomies))["loss"]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return loss

    return step


def _model(case: Case):
    import torch

    from mavl.model.mavl import MAVL

    return MAVL(backbone=case.backbone).to(case.device), torch.randn(case.findings, 9, 768).to(case.device)


def _as_counted(case: Case) -> Case:
    """At batch 2 in full precision on the CPU: there no fused kernel hides anything from the counter."""
    return replace(case, batch=2, precision="fp32", device="cpu", compile=False)


@cache
def gflop_per_image(case: Case) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    step = build_step(case)
    if case.job == "inference" and case.way == "plain":
        step = step.__wrapped__  # without no_grad, nn.MultiheadAttention takes the path that is counted
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9 / case.batch


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
