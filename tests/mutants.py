"""Change the package in small ways, one at a time, and see whether its tests notice: `python -m tests.mutants`.

The changes are those of cosmic-ray (a comparison, `and` for `or`, a number, `not`, + for -, …): a fixed random sample
by seed, spread over the folders. Each is tried in a copy of the project by the tests of its own file, then by those of
its folder, the slow ones last; a change that none notices survives and is printed with its line. What a change makes
hang is killed after ten minutes and counted apart. 200 take some hours on one core; `--start 120` goes on with the
121st.

    python -m tests.mutants --number 200 --seed 0 --workers 2
    python -m tests.mutants --only train/ metrics/
"""

import argparse
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROOT = Path(__file__).resolve().parents[1]
COMPARISONS = [
    ("Lt", "LtE"),
    ("LtE", "Lt"),
    ("Gt", "GtE"),
    ("GtE", "Gt"),
    ("Eq", "NotEq"),
    ("NotEq", "Eq"),
    ("Is", "IsNot"),
]
ARITHMETIC = [("Add", "Sub"), ("Sub", "Add"), ("Mul", "Div"), ("Div", "Mul"), ("FloorDiv", "Mul"), ("Mod", "Mul")]
OPERATORS = [
    *(f"core/ReplaceComparisonOperator_{a}_{b}" for a, b in COMPARISONS),
    *(f"core/ReplaceBinaryOperator_{a}_{b}" for a, b in ARITHMETIC),
    *("core/ReplaceAndWithOr", "core/ReplaceOrWithAnd", "core/AddNot", "core/NumberReplacer"),
    *("core/ReplaceTrueWithFalse", "core/ReplaceFalseWithTrue", "core/ZeroIterationForLoop"),
    *("core/ReplaceBreakWithContinue", "core/ReplaceContinueWithBreak"),
    "core/ReplaceUnaryOperator_Delete_Not",
]
LEFT_OUT = ("phantom",)
"""Drawings, whose every constant is a matter of taste."""

SECONDS = 600
NONE_CHOSEN = 5
"""pytest's exit status where no test was selected."""


class Mutant(NamedTuple):
    """An operator of cosmic-ray at one of its places in a module, relative to the project."""

    module: Path
    operator: str
    occurrence: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="mutants of the sample to pass over")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=[""], help="parts of module names")
    options = parser.parse_args()
    chosen = sample(options.only, options.number, options.seed)[options.start :]
    survivors = hung = 0
    with tempfile.TemporaryDirectory() as made, ThreadPoolExecutor(options.workers) as pool:
        copies: Queue[Path] = Queue()
        for number in range(options.workers):
            copies.put(copy_of_project(Path(made) / str(number)))
        for number, (mutant, (outcome, change)) in enumerate(
            zip(chosen, pool.map(lambda mutant: attempt(mutant, copies), chosen), strict=True)
        ):
            survivors += outcome == "survived"
            hung += outcome == "hung"
            if outcome != "killed":
                print(
                    f"{outcome.upper()} {mutant.module} {mutant.operator.removeprefix('core/')}\n{change}", flush=True
                )
            print(f"{number + 1} of {len(chosen)}, {survivors} survived", file=sys.stderr, flush=True)
    killed = len(chosen) - survivors
    share = 100 * killed / max(len(chosen), 1)
    print(f"{len(chosen)} mutants, {killed} killed ({share:.1f} %; {hung} by the time limit), {survivors} survived")
    return 0


def sample(only: list[str], number: int, seed: int) -> list[Mutant]:
    """As many mutants of each folder, in random order."""
    modules = [path.relative_to(ROOT) for path in sorted((ROOT / "mavl").rglob("*.py"))]
    modules = [path for path in modules if not any(part in LEFT_OUT for part in path.parts)]
    modules = [path for path in modules if any(part in str(path) for part in only)]
    rng, folders = random.Random(seed), {}
    for module in modules:
        nodes = [*ast_nodes(get_ast_from_path(ROOT / module))]
        for operator in OPERATORS:
            places = sum(len([*get_operator(operator)().mutation_positions(node)]) for node in nodes)
            found = (Mutant(module, operator, occurrence) for occurrence in range(places))
            folders.setdefault(module.parent.parts[1:2], []).extend(found)
    for mutants in folders.values():
        rng.shuffle(mutants)
    in_turn = [mutants[place] for place in range(number) for mutants in folders.values() if place < len(mutants)]
    return in_turn[:number]


def copy_of_project(folder: Path) -> Path:
    """A copy with the shared data beside it."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, os.fsdecode(names).split("\0")):
        (folder / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "project" / name)
    (folder / "shared").symlink_to(ROOT.parent / "shared")
    return folder / "project"


def attempt(mutant: Mutant, copies: "Queue[Path]") -> tuple[str, str]:
    """ "killed", "hung" or "survived", and the change as a diff."""
    copy = copies.get()
    try:
        path = copy / mutant.module
        before = path.read_text()
        after = mutate_code(before, get_operator(mutant.operator)(), mutant.occurrence)
        path.write_text(after)
        outcomes = (outcome_of(copy, tests) for tests in tests_of(copy, mutant.module))
        outcome = next((outcome for outcome in outcomes if outcome != "survived"), "survived")
        path.write_text(before)
    finally:
        copies.put(copy)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=0)
    return outcome, "\n".join([*lines][2:])


def tests_of(copy: Path, module: Path) -> list[list[str]]:
    """What pytest is given, in turn: the tests of the module's own file, if any, those of its folder, the slow ones.

    A module in no folder has the tests of its own file and every fast one.
    """
    folder = copy / "tests" / Path(*module.parts[1:-1])
    while not folder.is_dir():
        folder = folder.parent
    own = folder / f"test_{module.stem}.py"
    room = copy / "tests" / module.parts[1]
    tries = [[str(own), "-m", "not slow"]] if own.exists() else []
    if not room.is_dir():
        return [*tries, [str(copy / "tests"), "-m", "not slow"]]
    return [*tries, [str(room), "-m", "not slow"], [str(room), "-m", "slow"]]


def outcome_of(copy: Path, tests: list[str]) -> str:
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            return "survived" if process.wait(SECONDS) in (0, NONE_CHOSEN) else "killed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return "hung"


if __name__ == "__main__":
    sys.exit(main())
