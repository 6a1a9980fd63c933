"""What the scripts share: flags that are short names of config keys, and errors a person can read."""

import argparse
import functools
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from mavl.config.loader import Settings, load
from mavl.cpu import sleep_while_waiting

sleep_while_waiting()  # here, since the scripts import this module first and torch later


EVALUATION_FLAGS = {
    "model_path": ("model_path", str, "model folder, released .pth, or hub id"),
    "root": ("root", str, "folder of the benchmark's files"),
    "protocol": ("protocol", str, "sound or released"),
    "bs": ("batch_size", int, "images a batch and process"),
    "num_workers": ("workers", int, "loader processes for each process"),
    "output_dir": ("output_dir", str, "where the result folder is made"),
}
"""The flags (name: config key, type, help) of every script that evaluates a benchmark."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""


class _Override(argparse.Action):
    """Collects `--flag value` as `key=value` in namespace.overrides, in the order given."""

    def __init__(self, *args, key: str | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.key = key

    def __call__(self, parser, namespace, values, option_string=None):
        value = json.dumps(values)  # a folder may be called 2024 or no
        namespace.overrides = [*namespace.overrides, f"{self.key}={value}" if self.key else values]


def override_flags(parser: argparse.ArgumentParser, flags: dict[str, tuple[str, type, str]]) -> None:
    """Add `--override key=value` and the flags {name: (config key, type, help)}; all end up in `overrides`."""
    parser.set_defaults(overrides=[])
    for name, (key, kind, text) in flags.items():
        parser.add_argument(f"--{name}", action=_Override, key=key, type=kind, metavar="VALUE", help=f"{text} ({key})")
    parser.add_argument(
        "--override", action=_Override, metavar="KEY=VALUE", help="set a key of the config, as in a.b=1; repeatable"
    )


def evaluation_settings(schema: type[Settings], description: str, own_flags: dict) -> Settings:
    """The settings that the command line gives: `--config`, EVALUATION_FLAGS, a script's own flags, `--override`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    override_flags(parser, EVALUATION_FLAGS | own_flags)
    arguments = parser.parse_args()
    return load(schema, arguments.config, arguments.overrides)


def complain_in_one_line(main: Callable[[], int | None]) -> Callable[[], int]:
    """The package's own errors, and the system's about files, end with one line and exit code 2, Ctrl-C with 130.

    MAVL_TRACEBACK=1 shows the traceback. Otherwise the exit code is what main returns, 0 for None. A KeyboardInterrupt
    with a message says how to go on.
    """

    @functools.wraps(main)
    def wrapped() -> int:
        _print_any_name()
        try:
            return main() or 0
        except KeyboardInterrupt as interrupt:
            if os.environ.get("MAVL_TRACEBACK") == "1":
                raise
            print("; ".join(["interrupted", *map(str, interrupt.args)]), file=sys.stderr)
            return INTERRUPTED
        except Exception as error:
            line = _one_line(error)
            if line is None or os.environ.get("MAVL_TRACEBACK") == "1":
                raise
            print(f"error: {line}", file=sys.stderr)
            return 2

    return wrapped


def _one_line(error: Exception) -> str | None:
    """What to say of an error that needs no traceback; None for one that may be a bug."""
    if type(error).__module__.partition(".")[0] == "mavl":
        return str(error)
    if isinstance(error, OSError) and error.errno is not None and error.strerror:  # those of the operating system
        names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
        return ": ".join([" -> ".join(names), error.strerror] if names else [error.strerror])
    return None


def positive(text: str) -> int:
    """The type of a flag that takes a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return number


def _print_any_name() -> None:
    """File names of bytes that are no text are printed as escapes, where Python would refuse to print them."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":  # it may be anything that captures
        sys.stdout.reconfigure(errors="backslashreplace")
