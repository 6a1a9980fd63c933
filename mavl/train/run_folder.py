"""The run folder: config, versions and resumable checkpoints of a run, and whether a second start may continue it."""

import json
import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from accelerate import Accelerator

from mavl.checkpoint import TEXT_ENCODER
from mavl.config.loader import Settings, dump
from mavl.files import write_json
from mavl.provenance import provenance

CONFIG, ABOUT, LOG, CHECKPOINTS, LEFT_OUT = "config.yaml", "run.json", "log.jsonl", "checkpoints", "left_out.json"
MAY_CHANGE = frozenset(
    """
    output_dir data.root data.workers text.cache train.log_every
    train.checkpoint_every train.keep train.trackers resamples html gallery
    """.split()
)
"""Settings that have no effect on the weights, so that a resumed run may have other ones."""


class ResumeError(ValueError):
    """A run that cannot be continued; the message says why and what to do instead."""


def open_run_folder(folder: Path, settings: Settings, books: dict[str, str], resume: bool) -> None:
    """Write the resolved config and the versions into the folder of a new run, or of the same run to be resumed.

    books: {name: hash}. ResumeError when the folder holds a run and `resume` is False, or when it holds another run. A
    start that failed before its first logged step is no run; the next start takes its folder.
    """
    logged = (folder / LOG).exists() and (folder / LOG).stat().st_size > 0
    if (folder / CONFIG).exists() and (logged or Checkpoints(folder / CHECKPOINTS, keep=1).complete()):
        if not resume:
            raise ResumeError(f"{folder} holds a run already; --resume goes on with it, or choose another --output_dir")
        _check_same_run(folder, settings, books)
    elif (folder / CONFIG).exists():  # its text encoder may be one of other settings
        shutil.rmtree(folder / TEXT_ENCODER, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    dump(settings, folder / CONFIG)
    write_json(folder / ABOUT, {"books": books, "provenance": provenance()})


def _check_same_run(folder: Path, settings: Settings, books: dict[str, str]) -> None:
    before = flat(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))
    now = flat(settings.model_dump(mode="json"))
    changed = [
        f"{key}: {before.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in MAY_CHANGE
    ]
    if (folder / ABOUT).exists():
        books_before = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["books"]
        changed += [f"book {name} has changed" for name in books if books_before.get(name) != books[name]]
    if changed:
        raise ResumeError(
            f"{folder} holds another run:\n  " + "\n  ".join(changed) + "\nA resumed run keeps its settings; to change "
            "them, start a new one from its weights with --checkpoint."
        )


def flat(nested: dict, prefix: str = "") -> dict:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    result = {}
    for key, value in nested.items():
        result |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return result


def scalars(settings: Settings) -> dict[str, bool | int | float | str]:
    """Settings as trackers take them: flat, lists and None as text."""
    values = flat(settings.model_dump(mode="json"))
    return {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in values.items()}


@dataclass
class Progress:
    """The position of a run. step: optimizer steps; best: the monitored figure of the best model; stale: validations
    since then."""

    processes: int
    step: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0

    def improve(self, value: float, larger_is_better: bool) -> bool:
        """Whether the value is finite and better than the best one so far; if so, it becomes the best."""
        better = math.isfinite(value) and (
            self.best is None or (value > self.best if larger_is_better else value < self.best)
        )
        self.stale += 1
        if better:
            self.best, self.best_step, self.stale = value, self.step, 0
        return better

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        if state["processes"] != self.processes:
            raise ResumeError(
                f"the run was made with {state['processes']} processes, this launch has {self.processes}; an exact "
                "resume needs as many. Or start a new run from its weights with --checkpoint."
            )
        vars(self).update(state)


@dataclass(frozen=True)
class Checkpoints:
    """Folders `step_00001234` of accelerate's states, of which the newest `keep` stay. A folder is always complete."""

    folder: Path
    keep: int

    def complete(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob(f"step_{8 * '[0-9]'}"))

    def restore(self, accelerator: Accelerator, progress: Progress) -> None:
        """Load the newest one; without any the run starts from the beginning."""
        if not (found := self.complete()):
            accelerator.print(f"{self.folder}: no complete checkpoint, starting from the beginning")
            return
        accelerator.load_state(str(found[-1]))
        accelerator.print(f"resumed from {found[-1]} (step {progress.step})")

    def save(self, accelerator: Accelerator, progress: Progress) -> None:
        """All processes write into a folder of another name, which the main process renames at the end."""
        final = self.folder / f"step_{progress.step:08d}"
        draft = self.folder / f".draft_{progress.step:08d}"
        if accelerator.is_main_process:
            for leftover in self.folder.glob(".draft_*"):
                shutil.rmtree(leftover)
            draft.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(draft))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for path in filter(Path.is_file, draft.rglob("*")):  # on the disk before the name says that it is complete
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            shutil.rmtree(final, ignore_errors=True)
            draft.rename(final)
            for old in self.complete()[: -self.keep]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()
