"""Run every script on malformed inputs and say which it answers well: `python -m tests.fuzz`, or `make fuzz`.

An answer is well when the script ends by itself within a minute and a memory limit, without a traceback, and either
refuses the input with a line that names the file, or names it as left out. Prints the number tried, fine and short, and
each input that falls short, with the last line of what the script said.

    python -m tests.fuzz                       all
    python -m tests.fuzz --only predict csv    those whose name has all these words
"""

import argparse
import io
import os
import resource
import runpy
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.damage import IN_PLACE, KINDS
from tests.fuzz.targets import TARGETS, Target, place, write_inputs

ROOT = Path(__file__).resolve().parents[2]
SECONDS, MEMORY = 60, 12 * 2**30
EITHER = {"packed", "twice", "half", "UTF-16"}
"""Damage that may leave a valid file, which is then read as what it holds."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="words of the names")
    words = parser.parse_args().only
    chosen = [(name, *case) for name, *case in cases() if all(word in name for word in words)]
    short = []
    with tempfile.TemporaryDirectory() as made:
        valid = Path(made) / "valid"
        valid.mkdir()
        write_inputs(valid)
        import_once()
        for number, (name, target, damage) in enumerate(chosen):
            folder = Path(made) / "case"
            shutil.copytree(valid, folder, copy_function=os.link)
            if complaint := attempt(folder, target, damage):
                short.append(name)
                print(f"SHORT {name}: {complaint}", flush=True)
            elif number % 50 == 0:
                print(f"{number} of {len(chosen)}", file=sys.stderr, flush=True)
            shutil.rmtree(folder)
    print(f"{len(chosen)} tried, {len(chosen) - len(short)} fine, {len(short)} short")
    return bool(short)


def cases() -> Iterator[tuple[str, Target, str]]:
    for target in TARGETS:
        for damage in (*KINDS[target.kind], *IN_PLACE):
            if damage == "a pipe" and target.kind != "image":
                continue  # a script waits for what a pipe will give, as any program does; in a folder of images, not
            yield f"{target.script} {target.arguments[0]} {target.file}: {damage}", target, damage


def import_once() -> None:
    """What the scripts import, so that each case, a fork of this process, starts at once."""
    import torch

    import mavl.evaluate.classification
    import mavl.evaluate.grounding
    import mavl.predict.files
    import mavl.prepare.doctor
    import mavl.prepare.radgraph
    import mavl.train.classification
    import mavl.train.pretrain
    import mavl.train.segmentation  # noqa: F401

    torch.set_num_threads(1)


def attempt(folder: Path, target: Target, damage: str) -> str | None:
    """What is wrong with the answer; None if nothing is."""
    path = place(folder, target)
    if damage in IN_PLACE:
        IN_PLACE[damage](path)
    else:
        content = path.read_bytes()
        path.unlink()  # the valid folder has a hard link to it
        path.write_bytes(KINDS[target.kind][damage](content))
    code, said = run(folder, target)
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip()]
    last = (lines or ["nothing said"])[-1][:200]
    if code is None:
        return f"no end after {SECONDS} seconds; {last}"
    if "Traceback (most recent call last)" in said:
        return f"traceback; {last}"
    if code not in (0, 1, 2):
        return f"exit code {code}; {last}"
    named = any(name in said for name in (path.name, f"{path.parent.name}: ", f"error: {path.parent.name} "))
    if not named and damage not in EITHER:
        return f"exit code {code}, {path.name} is not named; {last}"
    return None


def run(folder: Path, target: Target) -> tuple[int | None, str]:
    """Exit code (None: killed after SECONDS) and output of the script, run in a fork of this process."""
    output = folder / "said.txt"
    child = os.fork()
    if child == 0:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.chdir(folder)
        file = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(n, "wb", 0), write_through=True) for n in (1, 2))
        sys.argv = [target.script, *target.arguments]
        code = 3
        try:
            runpy.run_path(str(ROOT / target.script), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), output.read_text(errors="replace")
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, output.read_text(errors="replace") if output.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
