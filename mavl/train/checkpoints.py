"""Resumable checkpoints: folders that are whole, have a digest of each file, and hold no code."""

import hashlib
import io
import os
import random
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from mavl.files import read_json, whole_file, write_json

STATE, DIGESTS = "state.pt", "digests.json"


class ResumeError(ValueError):
    """A run that cannot be continued; the message says why and what to do instead."""


class Stateful(Protocol):
    """A part of a run, such as its model or its optimizer. The state holds tensors and plain values only."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Checkpoints:
    """Folders `step_00001234`, of which the newest `keep` stay. One that has its name is complete.

    It holds the states of all parts in STATE, the random state of each process, and in DIGESTS the SHA-256 of each of
    these files. torch reads them as tensors and plain values alone (`weights_only`).
    """

    folder: Path
    keep: int

    def complete(self) -> list[Path]:
        """Oldest first."""
        return sorted(self.folder.glob(f"step_{8 * '[0-9]'}"))

    def restore(self, accelerator: Accelerator, parts: Mapping[str, Stateful]) -> None:
        """Load the newest one that is not damaged; without any the run starts from the beginning.

        ResumeError if all are damaged, or one does not fit the run.
        """
        chosen: list[Path | None] = [self._newest()] if accelerator.is_main_process else [None]
        [found] = broadcast_object_list(chosen)
        if found is None:
            accelerator.print(f"{self.folder}: no complete checkpoint, starting from the beginning")
            return
        try:
            states = torch.load(found / STATE, map_location="cpu", weights_only=True)
            if states.keys() != parts.keys():
                raise ValueError(f"it holds {', '.join(states)}; this run has {', '.join(parts)}")
            for name, part in parts.items():
                part.load_state_dict(states[name])
            path = found / _random_file(accelerator.process_index)
            _set_random_state(torch.load(path, map_location="cpu", weights_only=True))
        except ResumeError:
            raise
        except Exception as error:  # torch raises UnpicklingError, RuntimeError, KeyError… for what is not its own
            reason = str(error).splitlines()[0] if isinstance(error, ValueError) else type(error).__name__
            raise ResumeError(f"{found}: not a checkpoint of this run ({reason}); {self._instead}") from error
        accelerator.print(f"resumed from {found}")

    def save(self, accelerator: Accelerator, step: int, parts: Mapping[str, Stateful]) -> Path:
        """The new checkpoint. All processes write into a folder of another name; the main one renames it at the end."""
        final, draft = self.folder / f"step_{step:08d}", self.folder / f".draft_{step:08d}"
        try:
            if accelerator.is_main_process:
                for leftover in self.folder.glob(".draft_*"):
                    shutil.rmtree(leftover)
                draft.mkdir(parents=True)
            accelerator.wait_for_everyone()
            _write(draft / _random_file(accelerator.process_index), _random_state())
            if accelerator.is_main_process:
                _write(draft / STATE, {name: part.state_dict() for name, part in parts.items()})
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                write_json(draft / DIGESTS, {path.name: _digest(path) for path in sorted(draft.iterdir())})
                _publish(draft, final)
                newer = [path for path in self.complete() if path > final]  # damaged ones that this run has fallen from
                for old in self.complete()[: -self.keep - len(newer)]:
                    shutil.rmtree(old)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            error.filename, error.filename2 = str(final), None
            raise
        accelerator.wait_for_everyone()
        return final

    @property
    def _instead(self) -> str:
        return (
            f"delete {self.folder} to start from the beginning, or start a new run from its weights with --checkpoint"
        )

    def _newest(self) -> Path | None:
        """The newest one that is not damaged; prints what is wrong with those after it."""
        damaged = []
        for path in reversed(self.complete()):
            if (reason := _damage(path)) is None:
                for line in damaged:
                    print(f"{line}; going on from the one before")
                return path
            damaged.append(f"{path}: damaged ({reason})")
        if damaged:
            raise ResumeError(f"{'; '.join(damaged)}; {self._instead}")
        return None


def _damage(folder: Path) -> str | None:
    """What is wrong with the files of a checkpoint, if anything."""
    try:
        digests = read_json(folder / DIGESTS)
        if not isinstance(digests, dict) or STATE not in digests or _random_file(0) not in digests:
            return f"{DIGESTS} lacks {STATE} or {_random_file(0)}"
        for name, digest in digests.items():
            if Path(name).name != name or _digest(folder / name) != digest:
                return f"{name} is not what was written"
    except OSError as error:
        return f"{Path(error.filename).name}: {error.strerror}"
    except ValueError as error:
        return f"{DIGESTS} is not JSON: {error}"
    return None


def _publish(draft: Path, final: Path) -> None:
    """Give a draft its name, once it is on the disk."""
    _sync(draft)
    shutil.rmtree(final, ignore_errors=True)
    draft.rename(final)
    _sync(final.parent)


def _write(path: Path, content: dict) -> None:
    """By way of memory, since torch hides the error of a full disk."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with whole_file(path, "wb") as file:
        file.write(buffer.getbuffer())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _random_file(process: int) -> str:
    return f"random_{process}.pt"


def _random_state() -> dict:
    """Of this process: Python's, NumPy's and torch's generators, and the GPU's in use."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  (a task may use the global generator)
    state = {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys), *rest],
        "torch": torch.get_rng_state(),
    }
    return state | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def _set_random_state(state: dict) -> None:
    """The inverse of `_random_state`. On a GPU after none the state is that of the seed."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
