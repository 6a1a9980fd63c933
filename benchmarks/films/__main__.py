"""The command line of this folder: `train`, `tables`."""

import argparse
from pathlib import Path

from mavl.cpu import sleep_while_waiting

sleep_while_waiting()  # before the next line imports torch
from benchmarks.films import __doc__ as usage  # noqa: E402
from benchmarks.films import arms, tables  # noqa: E402

ARMS = (arms.MAVL, *arms.PLAIN, *arms.COMPARED)


def main() -> None:
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "tables"])
    parser.add_argument("--root", type=Path, required=True, help="folder of the benchmark nih128")
    parser.add_argument("--shenzhen", type=Path, help="folder of the benchmark shenzhen")
    parser.add_argument("--out", type=Path, default=Path("runs/films_study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, *map(arms.without, arms.HELD)], help="of the trainings")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, of one thread each (%(default)s)")
    options = parser.parse_args()
    if options.what == "train":
        names = options.arms or ARMS
        runs = [(arm, seed) for seed in options.seeds for arm in names]
        if not options.arms:
            runs += [(arms.without(name), 0) for name in arms.HELD]
        arms.train(options.root, options.out, runs, options.jobs)
        return
    print(tables.trained(options.out, options.root), end="\n\n")
    print(tables.unseen(options.out, options.root), end="\n\n")
    if options.shenzhen:
        print(tables.tuberculosis(options.out, options.shenzhen))


if __name__ == "__main__":
    main()
