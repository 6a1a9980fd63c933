"""One stage: `python -m benchmarks.gpu.stages STAGE FIGURES SECONDS PARENT` adds lines of JSON to the file FIGURES."""

import ctypes
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.data import build_dataset, write_films
from benchmarks.gpu.steps import (
    DEVICE,
    ENCODERS,
    FINDINGS,
    SMALL,
    VARIANTS,
    Case,
    inference_step,
    start_fit,
    training_step,
)
from benchmarks.speed import by_kind, profile
from benchmarks.steps import best_seconds, synchronize
from mavl.data.loading import build_loader, to_device

ROOT = Path(__file__).resolve().parents[2]
WORKERS = min(16, os.cpu_count() or 1)
LOADER_BATCH, LOADER_SECONDS, LOADER_WARMUP = (8, 1.0, 2) if SMALL else (124, 6.0, 20)
PR_SET_PDEATHSIG = 1
LAST_SECONDS = 20
"""Of the tests' time, for their report."""


def training() -> Iterator[Case]:
    """The steps in bf16, without compilation."""
    for encoder in ("ResNet-50", "ViT-B/16"):
        yield from (Case(encoder, batch) for batch in (124, 256, 512))
    yield from (Case("DINOv2-B", 124, trained) for trained in ("frozen", "LoRA", "whole"))
    yield from (Case("DINOv2-B", batch, recomputed=True) for batch in (124, 256))
    yield Case("DINOv2-B", 512, "frozen")


def inference() -> Iterator[Case]:
    for encoder, batches in (("ResNet-50", (124, 512)), ("ViT-B/16", (124, 512)), ("DINOv2-B", (124,))):
        yield from (Case(encoder, batch, trained="") for batch in batches)


def compiled() -> Iterator[Case]:
    """Those of the cases above that are compiled as well."""
    for encoder, batch in (("ResNet-50", 124), ("ResNet-50", 512), ("ViT-B/16", 124), ("DINOv2-B", 124)):
        yield Case(encoder, batch, compiled=True)
    yield from (Case(encoder, 512, trained="", compiled=True) for encoder in ("ResNet-50", "ViT-B/16"))


def variants() -> Iterator[Case]:
    for encoder in ("ResNet-50", "ViT-B/16"):
        yield from (Case(encoder, 124, variant=variant) for variant in VARIANTS)


def tf32() -> Iterator[Case]:
    yield from (Case(encoder, 124, precision="no") for encoder in ("ResNet-50", "ViT-B/16"))


class Stage:
    """Where the rows of a stage go, and the seconds that it may take."""

    def __init__(self, name: str, figures: Path, seconds: float):
        self.name, self.figures, self.seconds = name, figures, seconds

    def row(self, **values: Any) -> None:
        line = json.dumps({"stage": self.name, **values})
        print(line, flush=True)
        with self.figures.open("a") as file:  # one write of less than a block: stages beside one another do not mix
            file.write(line + "\n")

    def measure(self, cases: Iterator[Case]) -> None:
        for case in cases:
            case = replace(case, batch=max(2, case.batch // 31)) if SMALL else case
            start = time.perf_counter()
            try:
                figures = measure(case)
            except Exception as error:  # one case must not end the others
                figures = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:150] if str(error) else ''}"}
            self.row(what="case", **asdict(case), **figures, took=round(time.perf_counter() - start, 1))


def measure(case: Case) -> dict[str, float]:
    """images_per_second and peak_gib of a case; gflop_per_image where it is not compiled."""
    gc.collect()
    torch.compiler.reset()
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = training_step(case) if case.trained else inference_step(case)
    figures = {}
    if not (case.compiled or case.recomputed):
        figures["gflop_per_image"] = gflop_per_image(case, step)
    seconds = best_seconds(step, DEVICE, repeats=2)
    memory = torch.cuda.max_memory_allocated() / 2**30 if DEVICE == "cuda" else 0.0
    return figures | {"images_per_second": case.batch / seconds, "peak_gib": memory}


def gflop_per_image(case: Case, step: Callable[[], object]) -> float:
    """Counted in the step itself, or for inference in fp32, since the counter takes autocast away there."""
    if not case.trained:
        case = replace(case, batch=2, precision="no")
        step = inference_step(case)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9 / case.batch


def rates(stage: Stage) -> None:
    """What the machine is, and how fast it multiplies matrices and copies memory."""
    gpu = torch.cuda.get_device_properties(0) if DEVICE == "cuda" else None
    packages = {"python": platform.python_version(), "torch": torch.__version__}
    if gpu:
        nccl = ".".join(map(str, torch.cuda.nccl.version()))  # pyright: ignore
        packages |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "nccl": nccl}
    for name in ("accelerate", "transformers", "timm", "numpy"):
        packages[name] = __import__(name).__version__
    name, memory = (gpu.name, gpu.total_memory / 2**30) if gpu else (platform.processor() or "CPU", 0)
    stage.row(what="machine", small=SMALL, name=name, gib=memory, cores=os.cpu_count(), packages=packages)
    size = 8192 if gpu else 512
    for precision, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16), ("tf32", None), ("fp32", None)):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        left, right = (torch.randn(size, size, device=DEVICE).to(dtype or torch.float32) for _ in range(2))
        seconds = best_seconds(lambda left=left, right=right: left @ right, DEVICE)
        stage.row(what="matrix", precision=precision, tflops=2 * size**3 / seconds / 1e12)
    source = torch.empty(2**32 if gpu else 2**26, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    seconds = best_seconds(lambda: target.copy_(source), DEVICE)
    stage.row(what="copy", tb_per_second=2 * source.nbytes / seconds / 1e12)
    if gpu:
        host = torch.empty(2**28, dtype=torch.uint8).pin_memory()
        seconds = best_seconds(lambda: target[: 2**28].copy_(host, non_blocking=True), DEVICE)
        stage.row(what="host copy", gb_per_second=host.nbytes / seconds / 1e9)


def checks(stage: Stage) -> None:
    """The tests that need a GPU, side by side, as far as the time goes; the figures that they record."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-n", "5", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command += ["-o", "faulthandler_timeout=60", "tests/test_gpu.py"]  # where a test stands after a minute
        with subprocess.Popen(command, cwd=ROOT) as process:
            try:
                process.wait(stage.seconds - LAST_SECONDS)
            except subprocess.TimeoutExpired:  # it then reports the tests that have ended
                stage.row(what="stage", error="some tests are left out: no time was left")
                process.send_signal(signal.SIGINT)
        for test in ElementTree.parse(report).iter("testcase"):
            outcome = next((child.tag for child in test if child.tag in ("failure", "error", "skipped")), "passed")
            recorded = {each.get("name"): each.get("value") for each in test.iter("property")}
            message = next((child.get("message", "") for child in test if child.tag in ("failure", "error")), "")
            stage.row(
                what="test",
                name=test.get("name"),
                outcome=outcome,
                seconds=round(float(test.get("time", 0)), 1),
                **recorded,
                **({"message": message[:300]} if message else {}),
            )


def compile_first(stage: Stage, encoder: str) -> None:
    """Compile what `compiled` measures, for its code in torch's cache; the seconds of the first step are a row."""
    os.nice(5)  # the tests beside it have a time limit
    for case in compiled():
        case = replace(case, batch=max(2, case.batch // 31)) if SMALL else case
        if case.encoder == encoder:
            start = time.perf_counter()
            step = training_step(case) if case.trained else inference_step(case)
            step()
            synchronize(DEVICE)
            stage.row(what="compilation", **asdict(case), seconds=round(time.perf_counter() - start, 1))
            torch.compiler.reset()


def kernels(stage: Stage, cases: Iterable[Case]) -> None:
    """Milliseconds of a training step by kind of kernel."""
    for case in cases:
        case = replace(case, batch=2) if SMALL else case
        torch.compiler.reset()
        step = training_step(case)
        seconds, took = best_seconds(step, DEVICE, repeats=1), profile(step)
        longest = {name[:120]: round(took[name], 3) for name in sorted(took, key=lambda name: -took[name])[:25]}
        kinds = {kind: round(milliseconds, 3) for kind, milliseconds in by_kind(took).items()}
        stage.row(what="kernels", **asdict(case), step_ms=1000 * seconds, kinds=kinds, longest=longest)


def loader(stage: Stage) -> None:
    """The whole loader beside the step, from JPEGs of MIMIC's size and from their store."""
    fit = start_fit(Case("ResNet-50", LOADER_BATCH))
    with tempfile.TemporaryDirectory() as name:
        films = write_films(Path(name))
        for title, on_device in (("store", True), ("store", False), ("originals", True)):
            dataset = build_dataset(films.paths[title], films.labels, on_device, FINDINGS)
            images_per_second, waited = feed(fit, dataset)
            values = {"operations": "device" if on_device else "workers", "workers": WORKERS}
            stage.row(what="loader", files=title, **values, images_per_second=images_per_second, waited=waited)


def feed(fit: Any, dataset: Any) -> tuple[float, float]:
    """Images a second of the training loop, and the share of its time in which it waits for the loader."""
    batches = [[(epoch, index % len(dataset)) for index in range(LOADER_BATCH)] for epoch in range(2000)]
    images = build_loader(dataset, batches, WORKERS, pin_memory=DEVICE == "cuda")
    start, waited, taken, before = 0.0, 0.0, 0, time.perf_counter()
    for number, batch in enumerate(images):
        waited += time.perf_counter() - before
        fit.step(to_device(batch, fit.accelerator.device, fit.task.preprocessing))
        fit.log.pending.clear()
        taken += 1
        if number == LOADER_WARMUP:
            synchronize(DEVICE)
            start, waited, taken = time.perf_counter(), 0.0, 0
        if number > LOADER_WARMUP and time.perf_counter() - start > LOADER_SECONDS:
            break
        before = time.perf_counter()
    synchronize(DEVICE)
    took = time.perf_counter() - start
    return taken * LOADER_BATCH / took, waited / took


STAGES: dict[str, Callable[[Stage], None]] = {
    "rates": rates,
    "checks": checks,
    "training": lambda stage: stage.measure(training()),
    "inference": lambda stage: stage.measure(inference()),
    "compiled": lambda stage: stage.measure(compiled()),
    "variants": lambda stage: stage.measure(variants()),
    "TF32": lambda stage: stage.measure(tf32()),
    "kernels": lambda stage: kernels(stage, (Case("ResNet-50", 124), Case("ViT-B/16", 124), Case("DINOv2-B", 124))),
    "compiled kernels": lambda stage: kernels(stage, (Case("ResNet-50", 512), Case("ResNet-50", 512, compiled=True))),
    "loader": loader,
} | {f"compile {encoder}": lambda stage, encoder=encoder: compile_first(stage, encoder) for encoder in ENCODERS}


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # not to hold the GPU when gpu.sh is killed
    name, figures, seconds, parent = sys.argv[1:]
    if os.getppid() != int(parent):  # it ended before the line above, while this process imported
        sys.exit(1)
    STAGES[name](Stage(name, Path(figures), float(seconds)))
