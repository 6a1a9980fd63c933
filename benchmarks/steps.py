"""One step of inference or training of MAVL, computed in the plain or in the fast way, and what it costs.

The plain way computes the same function from the same weights without the shortcuts of `mavl.model`: attention by
nn.MultiheadAttention with its default, which computes attention weights and discards them; every layer for every query;
keys and values of the pooling for every token; always the location head.

python -m benchmarks.steps CASE        the costs of a case as JSON; CASE has the fields of `Case` as JSON
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mavl.backbones.protocol import interpolate_positions
from mavl.checkpoint.folder import Pretrained
from mavl.cpu import keep_freed_memory, prepare_device
from mavl.data import phantom
from mavl.model.decoder import DecoderLayer
from mavl.model.inference import InferenceModel
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.mavl import MAVL, POOLING_HEADS, TextQueries
from mavl.predict.pretrained import AvailableBooks, PretrainedPredictor
from mavl.text.embeddings import TextEmbeddings
from mavl.train.optim import build_optimizer
from mavl.vocab import ANATOMIES, ASPECTS, FINDINGS

REQUESTED = ("cardiomegaly", "edema", "consolidation", "atelectasis", "effusion")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
REPEATS = 3
EMULATED = 5.0
"""GFLOP/s: a processor without instructions for a precision computes its matrix products more slowly than this."""


@dataclass(frozen=True)
class Case:
    """What is measured: a ResNet-50 with random weights.

    Args:
        job: "inference", "training", "files" (image files through a predictor) or "matrix" (a matrix product).
        precision: "fp32", "bf16" or "fp16".
        device: "cpu" or "cuda".
        batch: images of a step; for "files" the number of files.
        way: "plain" or "fast".
        compile: with torch.compile.
        findings: the number of findings of the text embeddings.
        all_requested: inference for all findings, not for the five of CheXpert.
        size: height and width of an image in pixels.
    """

    job: str
    precision: str
    device: str
    batch: int = 1
    way: str = "fast"
    compile: bool = False
    findings: int = len(FINDINGS)
    all_requested: bool = False
    size: int = 224


def costs(case: Case) -> dict[str, float]:
    """images_per_second, peak_gib and gflop_per_image of a step; of a matrix product gflops, its GFLOP/s.

    On a CPU peak_gib is the memory of this process, so that only its first case counts.
    """
    torch.manual_seed(0)
    prepare_device(case.device, tf32=case.job == "training")  # as the scripts do
    if case.job == "matrix":
        return {"gflops": _matrix_rate(case)}
    if case.job == "files":
        return {"images_per_second": _file_rate(case), "peak_gib": _peak_gib(case)}
    with torch.set_grad_enabled(case.job == "training"):
        rate = case.batch / best_seconds(build_step(case), case.device)
    return {"images_per_second": rate, "peak_gib": _peak_gib(case), "gflop_per_image": _gflop_per_image(_plural(case))}


def build_step(case: Case) -> Callable[..., object]:
    """A step to call repeatedly; one of training takes images, labels and locations, or none for random ones."""
    if case.way == "fast":
        keep_freed_memory()
    return (_inference_step if case.job == "inference" else _training_step)(case)


def best_seconds(step: Callable[[], object], device: str, repeats: int = REPEATS) -> float:
    """The shortest of `repeats` timings of `step`, each of half a second or more, after a warm-up."""

    def timed(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            step()
        synchronize(device)
        return (time.perf_counter() - start) / times

    timed(2)
    times = max(1, round(0.5 / timed(1)))
    return min(timed(times) for _ in range(repeats))


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _inference_step(case: Case) -> Callable[[], object]:
    model, text = MAVL().to(case.device), torch.randn(case.findings, len(ASPECTS), 768).to(case.device)
    images = torch.randn(case.batch, 3, case.size, case.size, device=case.device)
    if case.way == "plain":
        model = plain(model.eval())
        forward = lambda: model(images, text)  # noqa: E731
    else:
        more = tuple(f"finding {number}" for number in range(len(FINDINGS), case.findings))
        embeddings = TextEmbeddings(FINDINGS + more, ASPECTS, text, text[: len(ANATOMIES), 0], {})
        requested = None if case.all_requested else REQUESTED
        fast = InferenceModel(model, embeddings, requested, compile=case.compile)
        forward = lambda: fast(images)  # noqa: E731

    def step():
        with _autocast(case):
            return forward()

    return step


def _training_step(case: Case) -> Callable[..., object]:
    model, text = MAVL().to(case.device).train(), torch.randn(case.findings, len(ASPECTS), 768).to(case.device)
    model = plain(model) if case.way == "plain" else model.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(model, lr=1e-4, weight_decay=0.02)
    forward = torch.compile(model) if case.compile else model
    labels = torch.randint(-1, 2, (case.batch, case.findings), device=case.device)
    locations = torch.randint(0, len(ANATOMIES), (case.batch, case.findings, 8), device=case.device)
    images = torch.randn(case.batch, 3, case.size, case.size, device=case.device)
    anatomies = torch.randn(len(ANATOMIES), 768).to(case.device)
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


def _autocast(case: Case) -> AbstractContextManager:
    return nullcontext() if case.precision == "fp32" else torch.autocast(case.device, DTYPES[case.precision])


def _file_rate(case: Case) -> float:
    """Images a second through a predictor: decoding of 512-pixel PNGs and inference, after the first batch."""
    keep_freed_memory()
    text = torch.randn(len(FINDINGS), len(ASPECTS), 768)
    embeddings = TextEmbeddings(FINDINGS, ASPECTS, text, torch.randn(len(ANATOMIES), 768), {"books": {}})
    pretrained = Pretrained(MAVL(), embeddings, FINDINGS, {}, {"model": {}})
    books = AvailableBooks(pretrained, (), ())
    predictor = PretrainedPredictor("random weights", pretrained, books, None, case.device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.png"
        Image.fromarray(phantom.draw(0, 0, 512).image).save(path)
        request = predictor.request(REQUESTED, explained=0)
        list(predictor.stream([path] * 8, request))
        start = time.perf_counter()
        list(predictor.stream([path] * case.batch, request))
        return case.batch / (time.perf_counter() - start)


def _matrix_rate(case: Case) -> float:
    def rate(size: int, repeats: int) -> float:
        left, right = (torch.randn(size, size, device=case.device).to(DTYPES[case.precision]) for _ in range(2))
        return 2 * size**3 / best_seconds(lambda: left @ right, case.device, repeats) / 1e9

    if case.device == "cpu" and (emulated := rate(256, repeats=1)) < EMULATED:
        return emulated
    return rate(8192 if case.device == "cuda" else 2048, repeats=10)


def _peak_gib(case: Case) -> float:
    if case.device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _plural(case: Case) -> Case:
    """The case at batch 2 in fp32 on the CPU, where no fused kernel is hidden from the counter."""
    return replace(case, batch=2, precision="fp32", device="cpu", compile=False)


@cache
def _gflop_per_image(case: Case) -> float:
    # with gradients, since nn.MultiheadAttention without them takes a path that the counter does not see
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        build_step(case)()
    return counter.get_total_flops() / 1e9 / case.batch


def plain(model: MAVL) -> MAVL:
    """A copy of the model that computes the plain way."""
    copy = deepcopy(model)
    copy.__class__ = PlainMAVL
    copy.decoder, copy.pool = PlainDecoder(copy.decoder), PlainPool(copy.pool)
    return copy.to(memory_format=torch.contiguous_format)


class PlainMAVL(MAVL):
    """It projects the text for every batch and computes nothing of the first layer in advance."""

    def encode_text(self, text: Tensor, batch: int = 1) -> TextQueries:
        projected = self.query_projection(text.flatten(0, 1))
        return TextQueries(projected, projected[None], text.shape[1])


class PlainLayer(nn.Module):
    def __init__(self, layer: DecoderLayer):
        super().__init__()
        self.norms = nn.ModuleList([layer.norm1, layer.norm2, layer.norm3])
        self.self_attn, self.cross_attn = _stock(layer.self_attn), _stock(layer.cross_attn)
        self.linear1, self.linear2 = layer.linear1, layer.linear2
        self.dropout = nn.Dropout(layer.dropout.p).train(layer.training)

    def forward(self, queries: Tensor, patches: Tensor) -> Tensor:
        normed = self.norms[0](queries)
        queries = queries + self.dropout(self.self_attn(normed, normed, normed)[0])
        queries = queries + self.dropout(self.cross_attn(self.norms[1](queries), patches, patches)[0])
        hidden = self.dropout(F.relu(self.linear1(self.norms[2](queries))))
        return queries + self.dropout(self.linear2(hidden))


class PlainDecoder(nn.Module):
    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.layers, self.norm = nn.ModuleList(PlainLayer(layer) for layer in decoder.layers), decoder.norm

    def forward(
        self, decoder_input: Tensor, patches: Tensor, rows: None, return_attention: bool
    ) -> tuple[Tensor, None]:
        queries = decoder_input.expand(len(patches), -1, -1)
        for layer in self.layers:
            queries = layer(queries, patches)
        return self.norm(queries), None


class PlainPool(nn.Module):
    def __init__(self, pool: nn.Module):
        super().__init__()
        self.pool = pool

    def forward(self, grid: Tensor) -> Tensor:
        patches = grid.flatten(2).mT
        tokens = torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)
        tokens = tokens + interpolate_positions(self.pool.positional_embedding, tuple(grid.shape[-2:]))
        query, key, value = (
            projection(tokens).unflatten(-1, (POOLING_HEADS, -1)).transpose(1, 2)
            for projection in (self.pool.q_proj, self.pool.k_proj, self.pool.v_proj)
        )
        pooled = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        return self.pool.c_proj(pooled.transpose(1, 2).flatten(1))


def _stock(attention: nn.Module) -> nn.MultiheadAttention:
    width = attention.out_proj.in_features
    stock = nn.MultiheadAttention(width, attention.heads, attention.dropout, batch_first=True)
    stock.load_state_dict(attention.state_dict())
    return stock.train(attention.training)


if __name__ == "__main__":
    print(json.dumps(costs(Case(**json.loads(sys.argv[1])))))
