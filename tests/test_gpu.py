"""A GPU computes what a CPU and the release do, and fp16 trains. Skipped, with the reason, where there is none."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import yaml

from mavl.model.heatmaps import heatmaps
from mavl.model.inference import InferenceModel
from mavl.model.losses import Targets, pretraining_losses
from mavl.model.mavl import MAVL
from mavl.model.scores import contrastive_probability, presence_probability
from tests.support import goldens
from tests.support.goldens import build, close
from tests.support.processes import ROOT, TINY
from tests.support.trainings import SCRIPTS, STEPS, count_precisions, watch_steps

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

WANTED = ["pneumothorax", "pneumonia", "normal", "clear"]


@pytest.fixture(autouse=True)
def full_precision():
    """fp32 as it says: convolutions take TF32 by torch's default."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize(("golden", "names"), [("zero_shot", "train"), ("vit", "vit")])
def test_forward_equals_the_released_mavl(shared, golden, names):
    expected = np.load(shared(f"goldens/{golden}.npz"))
    model, _ = build(shared(f"goldens/{names}.json"))
    embeddings = goldens.embeddings().to("cuda")
    images = goldens.images(len(expected["cosine"])).cuda()
    with torch.no_grad():
        output = model.cuda()(images, embeddings.vectors, return_attention=True)
    close(output.presence_logits.cpu(), expected["presence_logits"], 1e-4)
    close(output.cosine.cpu(), expected["cosine"], 1e-4)
    targets = [i * 9 + a for i in embeddings.index(["pneumothorax", "pneumonia"]) for a in range(9)]
    close(torch.stack(output.attention)[:, :, targets].cpu(), expected["attention"], 1e-4)


def test_losses_and_gradients_equal_those_of_the_cpu(shared, record_property):
    file = shared("goldens/train.json")
    expected = np.load(shared("goldens/train.npz"))
    labels, locations = torch.from_numpy(expected["labels"]), torch.from_numpy(expected["anatomy"])
    gradients, totals = {}, {}
    for device in ("cpu", "cuda"):
        model, embeddings = build(file)[0].to(device), goldens.embeddings().to(device)
        output = model(goldens.images(3).to(device), embeddings.vectors)
        losses = pretraining_losses(
            output, Targets(labels.to(device), locations.to(device), embeddings.anatomy_vectors)
        )
        losses["loss"].backward()
        totals[device] = losses["loss"].item()
        gradients[device] = {name: parameter.grad.cpu() for name, parameter in model.named_parameters()}
    assert totals["cuda"] == pytest.approx(totals["cpu"], rel=1e-4)
    largest = max(gradient.norm() for gradient in gradients["cpu"].values())
    record_property("loss, relative difference", f"{abs(totals['cuda'] / totals['cpu'] - 1):.1e}")
    for name, gradient in gradients["cpu"].items():
        apart = (gradients["cuda"][name] - gradient).norm()
        assert apart < 1e-3 * gradient.norm() + 1e-6 * largest, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_reads_what_full_precision_does(shared, dtype, record_property):
    """Of the whole presence probabilities, maps and similarities, as one vector each; single ones are further apart."""
    expected = np.load(shared("goldens/zero_shot.npz"))
    model, _ = build(shared("goldens/train.json"))
    embeddings = goldens.embeddings().to("cuda")
    inference_model, columns = InferenceModel(model.cuda(), embeddings, WANTED), embeddings.index(WANTED)
    with torch.autocast("cuda", dtype):
        output = inference_model(goldens.images(2).cuda(), return_attention=True)
    pairs = {
        "presence": (presence_probability(output.presence_logits), expected["presence_probability"][:, columns]),
        "contrastive": (
            contrastive_probability(output.cosine, inference_model.embeddings.index(["normal", "clear"])),
            expected["contrastive_probability"][:, columns],
        ),
        "maps": (heatmaps(output, inference_model.embeddings, WANTED[:2]), expected["heatmap14"]),
    }
    apart = {}
    for name, (actual, wanted) in pairs.items():
        wanted = torch.from_numpy(np.asarray(wanted))
        apart[name] = ((actual.float().cpu() - wanted).norm() / wanted.norm()).item()
    for name, value in apart.items():
        record_property(f"{name}, relative difference", f"{value:.1e}")
    bound = 2e-2 if dtype == torch.bfloat16 else 3e-3
    assert max(apart.values()) < bound, apart


def test_a_compiled_reader_reads_the_same():
    torch.manual_seed(0)
    model = MAVL(backbone="resnet18", image_size=64, width=32, layers=2, feedforward=32, text_width=768).cuda()
    embeddings, images = goldens.embeddings().to("cuda"), torch.randn(4, 3, 64, 64, device="cuda")
    plain, compiled = (InferenceModel(model, embeddings, WANTED, compile=compile)(images) for compile in (False, True))
    torch.testing.assert_close(compiled.presence_logits, plain.presence_logits, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_step_has_the_loss_and_the_gradients_of_a_plain_one(record_property):
    """Gradients as far as rounding leaves them: a value near 0 may fall on the other side of a ReLU."""
    sizes = {"image_size": 64, "width": 32, "layers": 2, "feedforward": 32, "text_width": 768}
    embeddings, losses, gradients = goldens.embeddings().to("cuda"), [], []
    labels = torch.randint(-1, 2, (4, len(embeddings.findings)), generator=torch.Generator().manual_seed(0)).cuda()
    targets = Targets(labels, torch.zeros(*labels.shape, 8, dtype=int).cuda(), embeddings.anatomy_vectors)
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).cuda()
    for compile in (False, True):
        torch.manual_seed(0)
        model = MAVL(backbone="resnet18", dropout=0, feature_dropout=0, **sizes).cuda()
        if compile:
            model.compile()
        loss = pretraining_losses(model(images, embeddings.vectors), targets)["loss"]
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    apart = ((gradients[1] - gradients[0]).norm() / gradients[0].norm()).item()
    record_property("loss, relative difference", f"{abs(losses[1] / losses[0] - 1):.1e}")
    record_property("gradient, relative difference", f"{apart:.1e}")
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert apart < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_every_step_of_every_epoch_has_the_precision_of_the_run(tmp_path, kind, precision, record_property):
    """As on a CPU (tests/train/test_precision.py), and fp16 with its loss scaler; all losses are finite."""
    seen = count_precisions(kind, tmp_path, 3, precision)
    assert seen[True] == {torch.float16 if precision == "fp16" else torch.bfloat16: 3 * STEPS}
    [log] = (tmp_path / "run").rglob("log.jsonl")
    losses = [line["loss"] for line in map(json.loads, log.read_text().splitlines()) if "loss" in line]
    record_property("losses", f"{losses[0]:.3f} to {losses[-1]:.3f}")
    assert len(losses) == 3 * STEPS
    assert np.isfinite(losses).all()


@contextmanager
def no_waits():
    """An operation for which the host waits for the GPU raises."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCRIPTS)
def test_no_step_waits_for_the_gpu(tmp_path, kind):
    """In bf16: with fp16 the loss scaler has to know whether a gradient is infinite, once a step."""
    assert watch_steps(kind, tmp_path, no_waits, "train.mixed_precision=bf16") == 2 * STEPS


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_trains_and_resumes(tmp_path, precision, record_property):
    """fp16 with its loss scaler, operations on the GPU; the last checkpoint is lost and its epoch done again."""
    data = TINY["data"] | {"augment_on": "device", "train": 80}
    train = TINY["train"] | {"mixed_precision": precision, "checkpoint_every": 15}
    config, folder = tmp_path / "config.in.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(TINY | {"data": data, "train": train}))
    line = [
        sys.executable,
        str(ROOT / "train_mavl.py"),
        "--config",
        str(config),
        "--output_dir",
        str(folder),
        "--resume",
    ]
    for attempt in range(2):
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
        assert lines[-1]["step"] == 40
        assert np.isfinite(losses).all()
        assert losses[-1] < losses[0]
        record_property(f"losses, run {attempt + 1}", f"{losses[0]:.3f} to {losses[-1]:.3f}")
        if attempt == 0:
            shutil.rmtree(folder / "checkpoints" / "step_00000040")
