"""The run folder: what a run was asked to do and with what, and whether a second start may go on in it."""

import json
import shutil
from pathlib import Path

import yaml

from mavl.checkpoint.folder import TEXT_ENCODER
from mavl.config.loader import Settings, dump
from mavl.provenance import provenance
from mavl.train.resume import Checkpoints, ResumeError

CONFIG, ABOUT, LOG, CHECKPOINTS = "config.yaml", "run.json", "log.jsonl", "checkpoints"
MAY_CHANGE = frozenset(
    """
    output_dir data.root data.workers text.cache train.log_every
    train.checkpoint_every train.keep train.trackers resamples html gallery
    """.split()
)
"""Settings that leave the weights as they are, and so may differ when a run is resumed."""


def open_run_folder(folder: Path, settings: Settings, books: dict[str, str], resume: bool) -> None:
    """Write the resolved config and the versions, or check that the run in the folder is the one to go on with.

    books: their hashes. ResumeError when there is a run and `resume` was not said, or when it was another run. A start
    that failed before it learnt anything is no run: the next one takes the folder.
    """
    if holds_run(folder):
        if not resume:
            raise ResumeError(f"{folder} holds a run already; --resume goes on with it, or choose another --output_dir")
        _check_same_run(folder, settings, books)
    elif (folder / CONFIG).exists():  # its text encoder may be one of other settings
        shutil.rmtree(folder / TEXT_ENCODER, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    dump(settings, folder / CONFIG)
    draft = folder / f".{ABOUT}.draft"
    draft.write_text(json.dumps({"books": books, "provenance": provenance()}, indent=2) + "\n")
    draft.replace(folder / ABOUT)


def holds_run(folder: Path) -> bool:
    """Whether something was learnt: the log has a line, or there is a complete checkpoint."""
    log = folder / LOG
    logged = log.exists() and log.stat().st_size > 0
    return (folder / CONFIG).exists() and (logged or bool(Checkpoints(folder / CHECKPOINTS, keep=1).complete()))


def _check_same_run(folder: Path, settings: Settings, books: dict[str, str]) -> None:
    before = flat(yaml.safe_load((folder / CONFIG).read_text()))
    now = flat(settings.model_dump(mode="json"))
    changed = [
        f"{key}: {before.get(key)!r} then, {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and key not in MAY_CHANGE
    ]
    if (folder / ABOUT).exists():
        books_before = json.loads((folder / ABOUT).read_text())["books"]
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
    """Settings as trackers take them, flat; what is no scalar (lists, None) as text."""
    values = flat(settings.model_dump(mode="json"))
    return {key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in values.items()}
