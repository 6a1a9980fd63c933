"""Checkpoints are whole or absent; a damaged one is named and the one before is taken; none can run code."""

import hashlib
import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn

from mavl.train.checkpoints import Checkpoints, ResumeError
from mavl.train.run_folder import Progress


class Training:
    """A parameter that says at which step it was, an accelerator and its checkpoints."""

    def __init__(self, folder: Path, keep: int = 2, processes: int = 1):
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        self.accelerator = Accelerator(cpu=True)
        self.model = self.accelerator.prepare(nn.Linear(1, 1))
        self.progress = Progress(processes=processes)
        self.checkpoints = Checkpoints(folder, keep)
        self.parts = {"progress": self.progress, "model": self.model}

    def save(self, *steps: int) -> None:
        for step in steps:
            nn.init.constant_(self.model.weight, step)
            self.progress.step = step
            self.checkpoints.save(self.accelerator, step, self.parts)

    def restore(self) -> tuple[int, float]:
        """The step it comes back with, by the record and by the weights."""
        self.checkpoints.restore(self.accelerator, self.parts)
        return self.progress.step, self.model.weight.item()

    def names(self) -> list[str]:
        return [path.name for path in self.checkpoints.complete()]


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def test_the_newest_come_back_and_no_more_than_keep_stay(tmp_path):
    training = Training(tmp_path, keep=2)
    training.save(5, 10)
    assert training.names() == ["step_00000005", "step_00000010"]
    training.save(100, 105)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000100", "step_00000105"]
    assert Training(tmp_path).restore() == (105, 105.0)
    Training(tmp_path, keep=1).save(110)
    assert training.names() == ["step_00000110"]


def test_without_one_it_starts_from_the_beginning(tmp_path, capsys):
    assert Training(tmp_path / "none").restore()[0] == 0
    assert "no complete checkpoint, starting from the beginning" in capsys.readouterr().out


def test_a_draft_or_another_name_is_no_checkpoint(tmp_path):
    training = Training(tmp_path)
    training.save(5)
    for name in (".draft_00000009", "step_9", "step_00000009.old", "step_000000099"):
        shutil.copytree(tmp_path / "step_00000005", tmp_path / name)
    assert training.names() == ["step_00000005"]
    assert Training(tmp_path).restore() == (5, 5.0)
    training.save(7)
    assert not (tmp_path / ".draft_00000009").exists()
    assert training.names() == ["step_00000005", "step_00000007"]


@pytest.mark.parametrize("moment", ["while it is written", "before it is renamed"])
def test_a_kill_leaves_the_former_one(tmp_path, monkeypatch, moment):
    training = Training(tmp_path)
    training.save(5)

    def kill(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if moment == "before it is renamed":
            patched.setattr(Path, "rename", kill)
        else:
            patched.setattr(torch, "save", kill)
        with pytest.raises(KeyboardInterrupt):
            training.save(10)
    resumed = Training(tmp_path)
    assert resumed.restore() == (5, 5.0)
    resumed.save(10)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_00000005", "step_00000010"]


def test_a_step_that_is_saved_again_is_the_later_one(tmp_path):
    training = Training(tmp_path)
    training.save(5)
    (tmp_path / "step_00000005" / "left").touch()
    training.save(5)
    assert not (tmp_path / "step_00000005" / "left").exists()
    assert training.restore() == (5, 5.0)


def test_a_checkpoint_of_more_processes_is_refused(tmp_path):
    Training(tmp_path, processes=4).save(5)
    with pytest.raises(ResumeError, match="made with 4 processes, this launch has 1"):
        Training(tmp_path, processes=1).restore()


def test_the_random_state_comes_back(tmp_path):
    training = Training(tmp_path)
    training.save(5)
    expected = torch.rand(3)
    torch.manual_seed(7)
    Training(tmp_path).restore()
    assert torch.equal(torch.rand(3), expected)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["state.pt", "random_0.pt", "digests.json"])
def test_the_one_before_a_damaged_one_is_taken(tmp_path, capsys, name, damage):
    training = Training(tmp_path)
    training.save(5, 10)
    damage(tmp_path / "step_00000010" / name)
    fallen = Training(tmp_path)
    assert fallen.restore() == (5, 5.0)
    said = capsys.readouterr().out
    assert f"{tmp_path}/step_00000010: damaged (" in said
    assert name in said.splitlines()[0]
    fallen.save(6, 7)  # the damaged one is newer, but does not count among those kept
    assert fallen.names() == ["step_00000006", "step_00000007", "step_00000010"]
    assert Training(tmp_path).restore() == (7, 7.0)
    fallen.save(10)
    assert Training(tmp_path).restore() == (10, 10.0)


def test_without_a_whole_one_the_run_ends_with_one_line(tmp_path):
    training = Training(tmp_path)
    training.save(5, 10)
    for name in training.names():
        cut(tmp_path / name / "state.pt")
    with pytest.raises(ResumeError, match=r"^\S+10: damaged \(state\.pt .*; \S+05: damaged .* --checkpoint$"):
        Training(tmp_path).restore()


class Evil:
    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


@pytest.mark.parametrize(
    "name", ["state.pt", "random_0.pt", "custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl"]
)
@pytest.mark.parametrize("signed", [False, True])
def test_no_file_of_a_checkpoint_runs_code(tmp_path, name, signed):
    """Nor where its digest is right."""
    training = Training(tmp_path / "run")
    training.save(5)
    folder = tmp_path / "run" / "step_00000005"
    if name.endswith(".pt"):
        torch.save(Evil(tmp_path / "victim"), folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(Evil(tmp_path / "victim")))
    if signed:
        digests = json.loads((folder / "digests.json").read_text())
        digests[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        (folder / "digests.json").write_text(json.dumps(digests))
    if name.endswith(".pt"):
        with pytest.raises(ResumeError, match=r"damaged|not a checkpoint of this run"):
            Training(tmp_path / "run").restore()
    else:
        assert Training(tmp_path / "run").restore() == (5, 5.0)
    assert not (tmp_path / "victim").exists()


def test_all_is_on_the_disk_before_a_checkpoint_has_its_name(tmp_path, monkeypatch):
    """A power failure may come at any moment: files and folder are synchronised, then renamed."""
    events, sync, rename = [], os.fsync, Path.rename

    def record(descriptor: int) -> None:
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def note(path: Path, target: Path) -> Path:
        events.append(f"named {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", record)
    monkeypatch.setattr(Path, "rename", note)
    Training(tmp_path).save(5)
    *before, named, after = events
    assert (named, after) == ("named step_00000005", tmp_path.name)
    files = {"state.pt", "random_0.pt", "digests.json"}
    assert before[-1] == ".draft_00000005"
    assert {name for name in files for event in before if name in event} == files


def test_a_full_disk_names_the_checkpoint_and_leaves_the_others(tmp_path):
    training = Training(tmp_path)
    training.save(5)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a file may not grow further, as on a full disk
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            training.save(10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "step_00000010")
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005"]
    assert Training(tmp_path).restore() == (5, 5.0)
