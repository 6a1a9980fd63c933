"""Checks and measurements on a GPU within a given time: `benchmarks/gpu.sh --help`.

Stages run one after another, each in a process of its own with a time limit; what goes wrong in one is a row of the
table. Those that only prepare (the tests, and compilations, whose code later stages take from torch's cache on disk)
run beside one another first.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from benchmarks.gpu.table import failed, table

TOGETHER = ("checks", "compile ResNet-50", "compile ViT-B/16", "compile DINOv2-B")
"""Stages that nothing is timed in."""
IN_TURN = {
    "rates": 40,
    "training": 120,
    "compiled": 120,
    "kernels": 50,
    "loader": 45,
    "inference": 45,
    "compiled kernels": 45,
    "variants": 40,
    "TF32": 25,
}
"""Stage -> seconds that it may take at most; what says most about the hours of a training comes first."""
PREPARING = 160
"""Seconds for TOGETHER at most."""
MINUTES = 8.5
"""For all of these; other times change the limits in proportion."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for everything (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the figures (%(default)s)")
    parser.add_argument("--only", nargs="+", metavar="STAGE", choices=["together", *IN_TURN], help="these stages")
    parser.add_argument("--small", action="store_true", help="small models, also on a CPU: a rehearsal")
    options = parser.parse_args()
    figures, slower = options.out / "figures.jsonl", max(1.0, options.minutes / MINUTES)
    if figures.exists():
        parser.error(f"{figures} holds figures of another run: delete it, or give another --out")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {options.out}: {error.strerror}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    end = time.monotonic() + 60 * options.minutes
    wanted = options.only or ["together", *IN_TURN]
    runner = Runner(figures, options.small, end)
    try:
        if "together" in wanted:
            runner.run(TOGETHER, slower * PREPARING)
        for stage in filter(wanted.__contains__, IN_TURN):
            runner.run([stage], slower * IN_TURN[stage])
            (options.out / "table.md").write_text(table(figures))
    except KeyboardInterrupt:
        print(f"interrupted; the figures until then are in {options.out}")
        return 130
    finally:
        (options.out / "table.md").write_text(table(figures))
    print((options.out / "table.md").read_text())
    return int(failed(figures))


class Runner:
    """It starts stages and ends them at their limits."""

    def __init__(self, figures: Path, small: bool, end: float):
        self.figures, self.small, self.end = figures, small, end

    def run(self, stages: tuple[str, ...] | list[str], seconds: float) -> None:
        """Run stages beside one another; a row says which did not end within the seconds, or failed."""
        start = time.monotonic()
        limit = min(start + seconds, self.end)
        if limit - start < 10:
            return self._row(stages[0], error="left out: no time was left")
        environment = os.environ | {"MAVL_SMALL": "1"} if self.small else dict(os.environ)
        running = {}
        for stage in stages:
            log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed below, after its process has ended
            arguments = (stage, self.figures, limit - start, os.getpid())
            command = [sys.executable, "-m", "benchmarks.gpu.stages", *map(str, arguments)]
            running[stage] = (
                log,
                subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                ),
            )
        try:
            self._wait(running, start, limit)
        finally:
            for log, process in running.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                log.close()
        took = time.monotonic() - start
        print(f"[{', '.join(stages)}: {took:.0f} s]", flush=True)
        self._row(stages[0] if len(stages) == 1 else "together", took=took)

    def _wait(self, running: dict[str, tuple[IO[str], subprocess.Popen]], start: float, limit: float) -> None:
        for stage, (log, process) in running.items():
            try:
                status = process.wait(max(0.1, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                status = f"ended after {time.monotonic() - start:.0f} s, its time limit"
            log.seek(0)
            printed = log.read()
            if status or stage == "checks":
                print(printed[-4000:])
            if status:
                self._row(stage, error=status if isinstance(status, str) else f"exit status {status}")

    def _row(self, stage: str, **values: object) -> None:
        with self.figures.open("a") as file:
            file.write(json.dumps({"stage": stage, "what": "stage", **values}) + "\n")


if __name__ == "__main__":
    sys.exit(main())
