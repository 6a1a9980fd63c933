"""The run folder: config and versions of a run, whether a second start may continue it, and who may write it."""

import math
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch.cuda import nccl

from mavl.checkpoint import BEST, LAST, TEXT_ENCODER
from mavl.config.document import Document
from mavl.config.loader import Settings, dump
from mavl.data.processes import TRY_AGAIN, Stopping, StopRequested, sole_writer
from mavl.files import FULL, read_json, refuse_link, write_json
from mavl.provenance import provenance
from mavl.train.checkpoints import Checkpoints, ResumeError

CONFIG, ABOUT, LOG, CHECKPOINTS, LEFT_OUT = "config.yaml", "run.json", "log.jsonl", "checkpoints", "left_out.json"
MAY_CHANGE = frozenset(
    """
    output_dir data.root data.workers data.cache text.cache train.log_every
    train.activation_checkpointing train.backbone_checkpointing train.compile
    train.checkpoint_every train.keep train.trackers resamples html gallery
    """.split()
)
"""Settings that have no effect on the weights but rounding, so that a resumed run may have other ones."""
FORMER_DEFAULTS = {"text.sep": False, "text.max_length": 128, "text.lower_case": True}
"""Of runs from before `text.pooling`, which trained with BERTs alone: for these "auto" is the same."""
_INSTEAD = "copy it back, or start a new run from its weights with --checkpoint"


@contextmanager
def run_of(accelerator: Accelerator, folders: Iterable[Path]) -> Iterator[None]:
    """In the block this run alone writes the folders, which are made if they do not exist; InUseError otherwise.

    After a signal of mavl.data.processes.STOPPING the process prints one line and exits with TRY_AGAIN. An error of a
    full disk names the first folder, unless it names a file.
    """
    folders = list(folders)
    try:
        with ExitStack() as stack:
            stack.enter_context(Stopping.expected())
            for folder in folders if accelerator.is_main_process else ():
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(sole_writer(folder))
            yield
    except StopRequested as stop:
        if accelerator.is_main_process:
            where = folders[0].parent if folders[1:] else folders[0]
            print(f"stopped by {stop}; --resume goes on in {where}", file=sys.stderr)
        accelerator.end_training()
        raise SystemExit(TRY_AGAIN) from None
    except OSError as error:
        if error.filename is None and error.errno in FULL:
            error.filename = str(folders[0])
        raise


def resumes(accelerator: Accelerator, asked: bool, folders: Iterable[Path]) -> bool:
    """Whether the run goes on where it was: as asked, and where a launcher has started it anew after a lost process.

    folders: of the run. Their records have the launcher, so that another's run is not taken for this one's.
    """
    mine, restarted = _launcher(), False
    if mine and accelerator.is_main_process:
        for folder in folders:
            with suppress(ResumeError):  # a damaged record, which `open_run_folder` refuses
                restarted |= _read_about(folder).get("launcher") == mine
    [restarted] = broadcast_object_list([restarted])
    if restarted and not asked:
        accelerator.print("the launcher has started the run anew after a lost process: it goes on as with --resume")
    return asked or restarted


def describe_launch(accelerator: Accelerator) -> dict[str, Any]:
    """For the record of a run: precision, processes, launcher; GPU, CUDA and NCCL, each None on a CPU."""
    gpu = accelerator.device.type == "cuda"
    versions = nccl.version() if gpu and torch.distributed.is_nccl_available() else ()
    return {
        "mixed_precision": accelerator.mixed_precision,
        "processes": accelerator.num_processes,
        "launcher": _launcher(),
        "gpu": torch.cuda.get_device_name(accelerator.device) if gpu else None,
        "cuda": torch.version.cuda if gpu else None,
        "nccl": ".".join(map(str, versions)) or None,
    }


def _launcher() -> str | None:
    """Host and process of the launcher of this process, which starts its processes anew; None for none of this kind."""
    return f"{socket.gethostname()}:{os.getppid()}" if "TORCHELASTIC_RUN_ID" in os.environ else None


def open_run_folder(
    folder: Path, settings: Settings, books: dict[str, str], resume: bool, launch: dict[str, Any] | None = None
) -> None:
    """Write the resolved config and the versions into the folder of a new run, or of the same run to be resumed.

    ResumeError when the folder holds a run and `resume` is False, or when it holds another run. A start that failed
    before its first logged step is no run; the next start takes its folder. OutsideError for a link in place of a
    folder that the run writes.

    Args:
        books: {name: hash}.
        launch: as of `describe_launch`. Another precision is a ResumeError, another GPU or version a note.
    """
    for name in (CHECKPOINTS, LAST, BEST, TEXT_ENCODER):
        refuse_link(folder / name)
    about: dict[str, Any] = {}
    inputs, versions = {"books": books}, provenance()
    if _holds_run(folder):
        if not resume:
            raise ResumeError(f"{folder} holds a run already; --resume goes on with it, or choose another --output_dir")
        if not (about := _read_about(folder)):
            print(f"note: {folder / ABOUT} is missing: whether books, data and precision are the same is not checked")
        _compare_launch(folder, about, {**(launch or {}), "provenance": versions})
        _refuse_changed(folder, _changed_settings(folder, settings) + _changed_inputs(about, inputs))
    elif (folder / CONFIG).exists():  # its text encoder may be one of other settings
        shutil.rmtree(folder / TEXT_ENCODER, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    dump(settings, folder / CONFIG)
    write_json(folder / ABOUT, about | inputs | (launch or {}) | {"provenance": versions})


def check_data(folder: Path, hashes: dict[str, str]) -> None:
    """Add the hashes of a run's data to its record, to be called after `open_run_folder`; ResumeError for other ones.

    A record of an older version, without some of them, gives a note.
    """
    about = _read_about(folder)
    if _holds_run(folder):
        before = about.get("data", {})
        if missing := [name for name in hashes if name not in before]:
            of = f" of {', '.join(missing)}" if before else "es of the data"
            print(f"note: {folder / ABOUT} holds no hash{of}: whether they are the same is not checked")
        _refuse_changed(folder, _changed_inputs({"data": before}, {"data": {**hashes, **dict.fromkeys(missing)}}))
    write_json(folder / ABOUT, about | {"data": hashes})


def _holds_run(folder: Path) -> bool:
    logged = (folder / LOG).exists() and (folder / LOG).stat().st_size > 0
    return logged or bool(Checkpoints(folder / CHECKPOINTS, keep=1).complete())


def _compare_launch(folder: Path, about: dict, now: dict[str, Any]) -> None:
    """ResumeError for another precision; a note for another GPU or other versions.

    These do not change what is trained: their kernels round differently, so that weights differ in the last bits.
    """
    for name, flag in (("mixed_precision", "--mixed_precision"), ("processes", "--num_processes")):
        before, today = about.get(name), now.get(name)
        if before and today and before != today:
            raise ResumeError(
                f"{folder}: the run was made with {name} {before}, this launch has {today}; resume with accelerate "
                f"launch {flag}={before}, or start a new run from its weights with --checkpoint"
            )
    then, current = ({**record, **record.get("provenance", {}).get("packages", {})} for record in (about, now))
    changed = [
        f"{name} {then[name]} then, {current[name]} now"
        for name in ("gpu", "cuda", "nccl", "torch")
        if name in then and name in current and then[name] != current[name]
    ]
    if changed:
        print(f"note: {folder}: {'; '.join(changed)}: the weights will not be bit-equal to those without the change")


def _refuse_changed(folder: Path, changed: list[str]) -> None:
    if changed:
        raise ResumeError(
            f"{folder} holds another run:\n  "
            + "\n  ".join(changed)
            + "\nA resumed run keeps its settings and its data; "
            "to change them, start a new one from its weights with --checkpoint."
        )


def _changed_settings(folder: Path, settings: Settings) -> list[str]:
    """A line for each; a key that an older version did not have is one if its value is not the default."""
    try:
        document = Document((folder / CONFIG).read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError):
        document = None
    if document is None or document.problems or not isinstance(content := document.data, dict):
        raise ResumeError(f"{folder / CONFIG}: empty or damaged; {_INSTEAD}")
    before, now = flat(content), flat(settings.model_dump(mode="json"))
    if "text.pooling" not in before:
        before |= {
            key: "auto" for key, value in FORMER_DEFAULTS.items() if before.get(key) == value and now.get(key) == "auto"
        }
    chosen = flat(settings.model_dump(mode="json", exclude_defaults=True))
    return [
        f"{key}: {before.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in MAY_CHANGE and (key in before or key in chosen)
    ]


def _changed_inputs(about: dict, inputs: dict[str, Any]) -> list[str]:
    """A line for each input that the record has too, but another one."""
    changed = []
    for name, now in inputs.items():
        before = about.get(name, now)
        if isinstance(now, dict):
            names = sorted(now.keys() | before.keys())
            changed += [f"{name}: {key} has changed" for key in names if before.get(key) != now.get(key)]
        elif before != now:
            changed.append(f"{name}: {before!r} then, {now!r} now")
    return changed


def _read_about(folder: Path) -> dict:
    """The record of a run; {} where it was killed before the record was written."""
    try:
        about = read_json(folder / ABOUT)
    except FileNotFoundError:
        return {}
    except ValueError:
        about = None
    sections = ("books", "data", "provenance")
    if not isinstance(about, dict) or not all(isinstance(about.get(name, {}), dict) for name in sections):
        raise ResumeError(f"{folder / ABOUT}: empty or damaged; {_INSTEAD}")
    return about


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
    """The position of a run.

    step: optimizer steps; validated: the step of the last validation; best: the monitored figure of the best model;
    stale: validations since then.
    """

    processes: int
    step: int = 0
    validated: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0

    def improve(self, value: float, larger_is_better: bool) -> bool:
        """Whether the value is finite and better than the best one so far; if so, it becomes the best."""
        better = math.isfinite(value) and (
            self.best is None or (value > self.best if larger_is_better else value < self.best)
        )
        self.stale, self.validated = self.stale + 1, self.step
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
