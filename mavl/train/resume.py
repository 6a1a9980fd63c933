"""Resumable checkpoints: everything that a run needs to go on as if it had never stopped."""

import math
import os
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from accelerate import Accelerator

NAME = re.compile(r"step_(\d{8})")


class ResumeError(ValueError):
    """A run that cannot be continued as asked; the message says why and what to do instead."""


@dataclass
class Progress:
    """How far a run is: step counts optimizer steps, best is the monitored figure of the best model, stale counts the
    validations since."""

    processes: int
    step: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0

    def improve(self, value: float, larger_is_better: bool) -> bool:
        """Whether the value beats the best so far, which it then becomes. The first finite value does."""
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
        for name, value in state.items():
            setattr(self, name, value)


@dataclass(frozen=True)
class Checkpoints:
    """Folders `step_00001234` of accelerate's states; the newest `keep` stay. A folder is there whole or not at all."""

    folder: Path
    keep: int

    def complete(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self.folder.glob("step_*") if NAME.fullmatch(path.name))

    def restore(self, accelerator: Accelerator, progress: Progress) -> None:
        """Load the newest one; a run without any starts from the beginning."""
        if not (found := self.complete()):
            accelerator.print(f"{self.folder}: no complete checkpoint, starting from the beginning")
            return
        accelerator.load_state(str(found[-1]))
        accelerator.print(f"resumed from {found[-1]} (step {progress.step})")

    def save(self, accelerator: Accelerator, progress: Progress) -> None:
        """Written under another name by all processes, then renamed by one."""
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
            _flush(draft)
            if final.exists():
                shutil.rmtree(final)
            os.rename(draft, final)
            for old in self.complete()[: -self.keep]:
                shutil.rmtree(old)
        accelerator.wait_for_everyone()


def _flush(folder: Path) -> None:
    """Have the disk hold the files before the name says that they are complete."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
