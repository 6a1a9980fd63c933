"""The engine on a task small enough to work out: accumulation, the log, NaN losses, sharding, the order of rows."""

import json
import shutil
import time
from itertools import accumulate

import pytest
import torch
from accelerate import Accelerator

from mavl.backbones import Preprocessing
from mavl.config.settings import TrainSettings
from mavl.data import loading
from mavl.data.loading import compute_all
from mavl.data.pretraining import EpochBatches
from mavl.train.checkpoints import Checkpoints
from mavl.train.engine import MonitorError, build_accelerator, worth_compiling
from mavl.train.log import NonFiniteLossError
from tests.support.processes import without_times
from tests.support.small_runs import IMAGES, Line, Numbers, fit, forget_accelerator


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    yield
    forget_accelerator()


def test_two_accumulated_batches_are_one_of_twice_the_size(tmp_path):
    whole, halves = Line(), Line()
    assert fit(whole, tmp_path / "whole", batch_size=8).run(resume=False).step == 4
    forget_accelerator()
    assert fit(halves, tmp_path / "halves", batch_size=4, accumulation=2).run(resume=False).step == 4
    torch.testing.assert_close(whole.model.weight, halves.model.weight, rtol=1e-6, atol=1e-7)


def test_a_nan_stops_the_run_with_its_step_and_keeps_the_sound_checkpoint(tmp_path):
    run = fit(Line(nan_from=7), tmp_path, log_every=20, checkpoint_every=2)
    with pytest.raises(NonFiniteLossError, match="step 7: loss is nan"):
        run.run(resume=False)
    assert [path.name for path in run.checkpoints.complete()] == ["step_00000004", "step_00000006"]


@pytest.mark.parametrize(("batch", "step"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_a_nan_in_an_accumulation_is_of_the_step_that_its_batch_belongs_to(tmp_path, batch, step):
    run = fit(Line(nan_from=batch), tmp_path, batch_size=4, accumulation=2, log_every=20)
    with pytest.raises(NonFiniteLossError, match=f"step {step}: loss is nan"):
        run.run(resume=False)


class Broken(Line):
    """Its loss is finite, its gradient is not, from a given step on."""

    def losses(self, model, batch):
        losses = super().losses(model, batch)
        factor = 1e300 if self.calls < 7 else 0.0
        return {"loss": losses["loss"] + (0 if factor else (model(batch["x"]) * 0).abs().sqrt().mean())}


@pytest.mark.parametrize("every", [7, 100])  # a checkpoint of the step itself, and the validation after it
def test_weights_that_a_gradient_has_made_nan_are_not_saved(tmp_path, every):
    """The derivative of the root at 0 is infinite."""
    task = Broken()
    run = fit(task, tmp_path, log_every=100, checkpoint_every=every)
    with pytest.raises(NonFiniteLossError, match=r"step [78]: (weight, bias \(2\) of the model is NaN|loss is nan)"):
        run.run(resume=False)
    assert [path.name for path in run.checkpoints.complete()] == ["step_00000004"]
    assert {step for _, step in task.saved} == {4}


class Steep(Line):
    """A gradient of the weight of 3e6 in each batch."""

    def losses(self, model, batch):
        self.calls += 1
        return {"loss": 3e6 * model.weight.sum() + 0 * model.bias.sum()}


def test_gradients_are_clipped_once_at_the_end_of_an_accumulation(tmp_path):
    """Plain descent with rate 1: a step moves the weight by the clipped norm, 0.5, not by 3e6, and not by twice 0.5."""
    task = Steep()
    run = fit(task, tmp_path, batch_size=4, accumulation=2, epochs=1, max_grad_norm=0.5)
    run.optimizer = torch.optim.SGD(task.model.parameters(), lr=1.0)
    run.scheduler = torch.optim.lr_scheduler.LambdaLR(run.optimizer, lambda _: 1.0)
    before = task.model.weight.item()
    run.run(resume=False)
    assert before - task.model.weight.item() == pytest.approx(2 * 0.5, rel=1e-5)  # two steps


def test_a_saved_model_states_its_epoch_step_and_figures(tmp_path):
    states = []
    task = Line()
    task.save = lambda folder, model, state: states.append(state)
    fit(task, tmp_path, epochs=3, every=2).run(resume=False)
    assert [(state["epoch"], state["step"]) for state in states[::2]] == [(2, 8), (3, 12)]
    assert all(state["valid_loss"] > 0 for state in states)


def test_a_resumed_log_keeps_no_line_past_its_checkpoint(tmp_path):
    """Nor one that a kill has torn; the rest is counted in the note."""
    whole, name = fit(Line(), tmp_path / "whole", log_every=1, checkpoint_every=3, epochs=3, keep=9), "log.jsonl"
    whole.run(resume=False)
    expected = [json.loads(line) for line in (tmp_path / "whole" / name).read_text().splitlines()]
    for path in whole.checkpoints.complete():
        if path.name > "step_00000006":
            shutil.rmtree(path)
    with (tmp_path / "whole" / name).open("ab") as log:
        log.write(b'\0\0\n{"epoch": 3, "st')
    forget_accelerator()
    fit(Line(), tmp_path / "whole", log_every=1, checkpoint_every=3, epochs=3).run(resume=True)
    lines = [json.loads(line) for line in (tmp_path / "whole" / name).read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == sorted(set(steps)) == list(range(1, 13))
    assert [line["step"] for line in lines if "valid_loss" in line] == [4, 8, 12]
    assert list(map(without_times, lines)) == list(map(without_times, expected))


def test_a_monitored_figure_that_is_never_a_number_is_an_error(tmp_path):
    task = Scripted([float("nan")] * 2)
    with pytest.raises(MonitorError, match=r"valid_loss, which decides the best model, was never a number"):
        fit(task, tmp_path).run(resume=False)
    assert {name for name, _ in task.saved} == {"last"}
    line = (tmp_path / "log.jsonl").read_text().splitlines()[-1]
    assert json.loads(line, parse_constant=pytest.fail)["valid_loss"] is None  # JSON has no NaN


def test_log_best_and_last(tmp_path):
    task = Line()
    progress = fit(task, tmp_path, log_every=2, epochs=3, checkpoint_every=100).run(resume=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert [line["step"] for line in losses] == [2, 4, 6, 8, 10, 12]
    assert [line["lr"] for line in losses] == [0.05] * 6
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert [line["step"] for line in lines if "valid_loss" in line] == [4, 8, 12]
    assert task.saved == [(name, step) for step in (4, 8, 12) for name in ("last", "best")]
    assert progress.best == pytest.approx((task.model.weight - 3).abs().item())


def test_each_step_is_in_one_line_of_the_log_and_an_epoch_ends_with_one(tmp_path):
    """Of 8 steps, 4 an epoch: lines after every third and at the end of an epoch, with the mean since the last one."""
    lines = {}
    for every in (1, 3):
        fit(Line(), tmp_path / str(every), log_every=every, checkpoint_every=100).run(resume=False)
        forget_accelerator()
        read = map(json.loads, (tmp_path / str(every) / "log.jsonl").read_text().splitlines())
        lines[every] = {line["step"]: line["loss"] for line in read if "loss" in line}
    each = [*lines[1].values()]
    assert [*lines[1]] == [*range(1, 9)]
    means = {3: sum(each[:3]) / 3, 4: each[3], 6: sum(each[4:6]) / 2, 8: sum(each[6:]) / 2}
    assert lines[3] == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize(("checkpoint_every", "validate_every"), [(2, 1), (2, 2), (4, 2)])
def test_a_step_is_saved_once_also_at_the_end_of_an_epoch(tmp_path, monkeypatch, checkpoint_every, validate_every):
    saved, save = [], Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda *arguments: saved.append(arguments[2]) or save(*arguments))
    fit(Line(), tmp_path, every=validate_every, checkpoint_every=checkpoint_every).run(resume=False)
    assert saved == [*range(checkpoint_every, 9, checkpoint_every)]


def test_the_log_has_the_speed_the_wait_for_the_loader_and_the_time_of_checkpoints(tmp_path, monkeypatch, capsys):
    """On a clock on which an image takes 0.02 s, a step of 4 images then 0.08 s, a checkpoint 0.5 s."""
    now = 0.0

    def takes(seconds, function):
        def timed(*arguments):
            nonlocal now
            now += seconds
            return function(*arguments)

        return timed

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(Numbers, "__getitem__", takes(0.02, Numbers.__getitem__))
    monkeypatch.setattr(Line, "losses", takes(0.08, Line.losses))
    monkeypatch.setattr(Line, "validate", takes(7.0, Line.validate))
    monkeypatch.setattr(Checkpoints, "save", takes(0.5, Checkpoints.save))
    fit(Line(), tmp_path, log_every=1, checkpoint_every=2, epochs=2).run(resume=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["images_per_second"] for line in steps] == pytest.approx([25.0] * 8)
    assert [line["loader_wait"] for line in steps] == pytest.approx([0.5] * 8)
    saved = {line["step"]: line["checkpoint_seconds"] for line in steps if "checkpoint_seconds" in line}
    assert saved == {3: pytest.approx(0.5), 5: pytest.approx(0.5), 7: pytest.approx(0.5)}
    assert not any("gpu_memory_gib" in line or "images_per_second_process" in line for line in lines)
    assert capsys.readouterr().out.count("checkpoint: 0.00 GB in 0.5 s\n") == 1


class Scripted(Line):
    """Its validations give what a list says."""

    def __init__(self, figures: list[float]):
        super().__init__()
        self.figures = iter(figures)

    def validate(self, model, accelerator):
        return {"valid_loss": next(self.figures)}


def test_patience_ends_a_run_after_so_many_validations_without_a_better_one(tmp_path):
    task = Scripted([0.5, 0.4, 0.45, float("nan"), 0.3])
    run = fit(task, tmp_path, epochs=9, patience=2)
    progress = run.run(resume=False)
    assert (progress.step, progress.best, progress.best_step) == (4 * 4, 0.4, 2 * 4)
    forget_accelerator()
    resumed = Scripted([0.1])
    assert fit(resumed, tmp_path, epochs=9, patience=2).run(resume=True).step == 16
    assert resumed.calls == 0


class Kept(Line):
    """Keeps the weight after every step, which is that of the next forward pass, and the validated ones."""

    def __init__(self):
        super().__init__()
        self.weights, self.validated, self.written = [], [], []

    def losses(self, model, batch):
        self.weights.append(model.weight.item())
        return super().losses(model, batch)

    def validate(self, model, accelerator):
        self.validated.append(model.weight.item())
        return super().validate(model, accelerator)

    def save(self, folder, model, state):
        self.written.append(model.weight.item())


def test_the_average_of_the_weights_is_validated_and_saved(tmp_path):
    task = Kept()
    fit(task, tmp_path, epochs=2, average=0.15).run(resume=False)
    weights = [*task.weights[1:], task.model.weight.item()]  # after steps 1, 2, …, of which the first is taken whole
    averages = list(accumulate(weights, lambda average, weight: 0.15 * average + 0.85 * weight))
    assert task.validated == pytest.approx([averages[3], averages[7]], abs=1e-6)
    assert task.written == [weight for weight in task.validated for _ in ("last", "best")]
    assert task.validated[-1] != pytest.approx(task.model.weight.item(), abs=1e-3)


def test_validations_every_few_epochs_and_at_the_end(tmp_path):
    task = Scripted([0.5, 0.4, 0.3])
    run = fit(task, tmp_path, epochs=5, every=2)
    run.run(resume=False)
    assert [step for name, step in task.saved if name == "last"] == [2 * 4, 4 * 4, 5 * 4]
    assert [path.name for path in run.checkpoints.complete()] == ["step_00000016", "step_00000020"]


def test_resuming_a_finished_run_does_nothing_and_keeps_its_log(tmp_path):
    first = Line()
    fit(first, tmp_path).run(resume=False)
    log = (tmp_path / "log.jsonl").read_text()
    forget_accelerator()
    second = Line()
    fit(second, tmp_path).run(resume=True)
    assert second.calls == 0
    assert torch.equal(first.model.weight, second.model.weight)
    assert (tmp_path / "log.jsonl").read_text() == log


@pytest.mark.parametrize("held", [1, 40, loading.HELD_BYTES])
def test_compute_all_returns_rows_in_the_order_of_the_keys(monkeypatch, held):
    """Copied from the device batch by batch, some batches together, or all at the end."""
    monkeypatch.setattr(loading, "HELD_BYTES", held)
    keys = [(0, index) for index in range(IMAGES)]
    double = {"twice": 2 * torch.arange(IMAGES)[:, None] / IMAGES}["twice"].numpy()
    for batch_size in (1, 5, 64):
        rows = compute_all(
            Accelerator(cpu=True),
            Numbers(),
            keys,
            lambda batch: {"twice": 2 * batch["x"]},
            Preprocessing(),
            batch_size=batch_size,
            workers=0,
            description="",
        )
        assert (rows["twice"] == double).all()


def test_fp16_on_a_cpu_is_refused(tmp_path):
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        build_accelerator(TrainSettings(mixed_precision="fp16"), tmp_path, seed=0)


def test_epoch_batches_deal_each_image_once():
    dealt = [EpochBatches(23, 3, seed=1, rank=rank, processes=2, accumulation=1) for rank in (0, 1)]
    assert dealt[0].steps_per_epoch == 3
    first = [key for batches in dealt for batch in batches for key in batch]
    assert len(first) == len(set(first)) == 18
    assert {epoch for epoch, _ in first} == {0}
    for batches in dealt:
        batches.start_at(1)
    second = [index for batches in dealt for batch in batches for _, index in batch]
    assert [index for _, index in first] != second


def test_epoch_batches_begin_in_the_middle():
    whole = EpochBatches(40, 3, seed=1, rank=0, processes=1, accumulation=2)
    whole.start_at(5)
    all_batches = list(whole)
    whole.start_at(5, step=2)
    assert list(whole) == all_batches[4:]
    assert len(whole) == len(all_batches) - 4


def test_the_order_of_an_epoch_is_that_of_runs_before():
    batches = EpochBatches(23, 3, seed=1, rank=1, processes=2, accumulation=1)
    batches.start_at(2)
    assert list(batches) == [[(2, 1), (2, 19), (2, 2)], [(2, 18), (2, 21), (2, 7)], [(2, 5), (2, 10), (2, 15)]]


def test_too_few_images_for_one_step():
    with pytest.raises(ValueError, match="5 training images do not fill one optimizer step of 8"):
        EpochBatches(5, 4, seed=0, rank=0, processes=2, accumulation=1)


def test_long_runs_on_a_gpu_are_worth_compiling():
    assert worth_compiling(10_000, "cuda")
    assert not worth_compiling(9_999, "cuda")
    assert not worth_compiling(10_000, "cpu")
