"""What the scripts share: flags that are short names of config keys, and errors in one line."""

import argparse
import io
import json
import os
import sys
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import get_args

from mavl.config.loader import ConfigError, S, load
from mavl.cpu import sleep_while_waiting
from mavl.progress import is_first_process

sleep_while_waiting()  # here, since the scripts import this module first and torch later

EVALUATION_FLAGS = {
    "model_path": ("model_path", str, "model folder, released .pth, or hf://OWNER/NAME"),
    "root": ("root", str, "folder of the benchmark's files"),
    "protocol": ("protocol", str, "sound or released"),
    "bs": ("batch_size", int, "images a batch and process"),
    "num_workers": ("workers", int, "loader processes for each process"),
    "output_dir": ("output_dir", str, "where the result folder is made"),
    "overwrite": ("overwrite", bool, "replace an earlier result"),
}
"""The flags {name: (config key, type, help)} of every script that evaluates a benchmark."""

FINETUNING_FLAGS = {
    "root": ("data.root", str, "folder of the benchmark's files"),
    "checkpoint": ("init.checkpoint", str, "pre-trained MAVL or MedKLIP: a model folder or released .pth"),
    "data_pct": ("data.data_pct", float, "share of the training images: 0.01 is 1 %%"),
    "bs": ("data.batch_size", int, "images a step and process"),
    "num_workers": ("data.workers", int, "loader processes for each training process"),
    "output_dir": ("output_dir", str, "folder of the run folders"),
    "seeds": ("seeds", list[int], "a run for each"),
}
"""Those of every script that fine-tunes."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


class _Override(argparse.Action):
    """Adds `key=value` to namespace.overrides; the key is the action's const, None where the value has it."""

    def __call__(self, parser, namespace, values, option_string=None):
        value = True if self.nargs == 0 else values
        text = f"{self.const}={json.dumps(value)}" if self.const else values  # a folder may be called 2024 or no
        namespace.overrides = [*namespace.overrides, text]


def override_flags(parser: argparse._ActionsContainer, flags: dict[str, tuple[str, Callable, str]]) -> None:
    """Add `--override key=value` and the flags {name: (config key, type, help)}; all end up in `overrides`."""
    parser.set_defaults(overrides=[])
    add = partial(parser.add_argument, action=_Override)
    for name, (key, kind, text) in flags.items():
        [of_each], nargs = (get_args(kind), "+") if get_args(kind) else ([kind], 0 if kind is bool else None)
        add(f"--{name}", const=key, type=of_each, nargs=nargs, metavar="VALUE", help=f"{text} ({key})")
    add("--override", metavar="KEY=VALUE", help="set a key of the config, as in a.b=1; repeatable")


def read_settings(
    schema: type[S],
    description: str | None,
    flags: dict[str, tuple[str, Callable, str]],
    resumable: bool = False,
    translate: Callable[[dict], dict] | None = None,
) -> tuple[S, bool]:
    """The settings that a script's command line gives, and whether it has `--resume`; ConfigError as `load`.

    flags: {name: (config key, type, help)} besides `--config`, `--override` and, where `resumable`, `--resume`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    if resumable:
        parser.add_argument("--resume", action="store_true", help="go on from the last complete checkpoint, if any")
    override_flags(parser, flags)
    arguments = parser.parse_args()
    return load(schema, arguments.config, arguments.overrides, translate), resumable and arguments.resume


def complain_in_one_line(main: Callable[[], int | None]) -> Callable[[], int]:
    """A main whose errors, if they are the package's or the system's about files, end with one line and exit code 2.

    Ctrl-C ends with exit code 130; a KeyboardInterrupt with a message says how to go on. MAVL_TRACEBACK=1 shows the
    traceback. Otherwise the exit code is what main returns, 0 for None.
    """

    @wraps(main)
    def wrapped() -> int:
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files that are no text are printed as escapes
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return main() or 0
        except (KeyboardInterrupt, Exception) as error:
            line = _one_line(error)
            if line is None or os.environ.get("MAVL_TRACEBACK") == "1":
                raise
            if is_first_process() or not isinstance(error, ConfigError):  # which all processes find alike
                print(line, file=sys.stderr)
            return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 2

    return wrapped


def _one_line(error: BaseException) -> str | None:
    """The line for an error that needs no traceback; None for one that may be a bug."""
    if isinstance(error, KeyboardInterrupt):
        return "; ".join(["interrupted", *map(str, error.args)])
    if type(error).__module__.partition(".")[0] == "mavl":
        return f"error: {error}"
    if isinstance(error, OSError) and error.strerror:  # of the operating system
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return ": ".join(filter(None, ["error", " -> ".join(names), error.strerror]))
    return None


def positive(text: str) -> int:
    """The type of a flag that takes a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
