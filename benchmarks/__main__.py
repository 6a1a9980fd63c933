"""All benchmarks, or those named.

python -m benchmarks                                    all, some 35 minutes on two cores
python -m benchmarks radgraph --reports 25000 200000
python -m benchmarks kernels feeding --batch 256 --compile
"""

import argparse
import os

from mavl.cpu import sleep_while_waiting

sleep_while_waiting()  # before the next line imports torch
from benchmarks import activations, data, preparation, scale, speed, statistics  # noqa: E402

PARTS = {
    "bootstrap": lambda options: statistics.bootstrap(),
    "grounding": lambda options: statistics.grounding(),
    "files": lambda options: preparation.files(),
    "text": lambda options: preparation.text(),
    "radgraph": lambda options: preparation.radgraph(options.reports, options.workers),
    "loader": lambda options: data.loader(),
    "scale": lambda options: scale.scale(options.gpu, options.gpus, options.images),
    "feeding": lambda options: data.feeding(options.batch, options.workers, options.compile),
    "kernels": lambda options: speed.kernels(options.batch, options.compile),
    "speed": lambda options: speed.speed(),
    "growth": lambda options: speed.growth(),
    "activations": lambda options: activations.activations(),
    "operators": lambda options: activations.operators(),
}


def main() -> None:
    batch = 128 if speed.DEVICE == "cuda" else 4
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--batch", type=int, default=batch, help=f"kernels, feeding: images of a step ({batch})")
    parser.add_argument("--compile", action="store_true", help="kernels, feeding: with torch.compile")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="feeding, radgraph: processes (%(default)s)"
    )
    parser.add_argument("--reports", type=int, nargs="+", default=(2_000, 8_000), help="radgraph: how many (2000 8000)")
    parser.add_argument("--gpu", type=float, default=2700, help="scale: images that a GPU trains a second (2700)")
    parser.add_argument("--gpus", type=int, nargs=2, default=(4, 32), help="scale: for MIMIC and ten million (4 32)")
    parser.add_argument(
        "--images", type=int, nargs="+", default=scale.LISTS, help="scale: in the lists of a start (377110 10000000)"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for name in options.parts or PARTS:
        print(f"\n{name}:", flush=True)
        PARTS[name](options)


if __name__ == "__main__":
    main()
