"""Small copies of images, decoded once, for loaders that would else wait for full-size files.

    python prepare_data.py store configs/MAVL_resnet.yaml --root <MIMIC-CXR-JPG> --out stores/mimic
    python prepare_data.py store configs/benchmarks/rsna.yaml --root <RSNA> --out stores/rsna --size 1024
    python prepare_data.py store <folder> list.csv 'more/*.png' --root <folder of all> --out stores/mine
    python prepare_data.py store --verify --out stores/mimic

Reads images by folder, pattern, CSV list, manifest (JSON) or any config: then all that its run would read, with its
lists and mask files. Writes each image under the path that it has in the root, as a grey JPEG whose shorter side is 512
pixels; smaller images keep their size. Names keep their suffix (x.dcm, x.png), since all readers go by the content. So
training, evaluation and doctor read the store with `--root stores/mimic`, and nothing else changes.

An image takes about 40 KB, and 50 ms of a core. The same command goes on after a kill, tries again what could not be
read (unreadable.csv), adds images that are new, and writes again those whose file has changed. --verify compares every
file with the length and the checksum that were written, and names those that are missing or damaged; delete the damaged
ones, and the first command makes them again. Exit code 1 when an image could not be read or --verify found something, 2
when nothing could be done.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from mavl.config.cli import positive
from mavl.data.images.inputs import Failure
from mavl.prepare.store.sources import SourceError, find_sources
from mavl.prepare.store.tree import UNREADABLE, StoreSettings, verify, write_store
from mavl.progress import plural

SHOWN = 20
DEFAULTS = StoreSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="image, folder, pattern, CSV, manifest or config")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the store")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="folder of the data set, as a run would get it")
    parser.add_argument("--size", type=positive, default=DEFAULTS.size, help="pixels of the side (%(default)s)")
    parser.add_argument("--side", choices=("shortest", "longest"), default=DEFAULTS.side, help="(%(default)s)")
    parser.add_argument("--quality", type=positive, default=DEFAULTS.quality, help="of JPEG, to 100 (%(default)s)")
    parser.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--verify", action="store_true", help="read every file of the store again, after the inputs")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.inputs and not arguments.verify:
        raise SourceError("nothing to store: name images, a folder, a list or a config; or --verify")
    problems = [*_write(arguments)] if arguments.inputs else []
    if arguments.verify:
        damaged = verify(arguments.out, arguments.workers, show=True)
        _show(damaged, "fault", "found; delete the files that are named, and give the command that made them")
        if not damaged:
            print(f"{arguments.out}: every file is as it was written")
        problems += damaged
    return 1 if problems else 0


def _write(arguments: argparse.Namespace) -> list[Failure]:
    if arguments.quality > 100:
        raise SourceError(f"--quality {arguments.quality}: at most 100")
    settings = StoreSettings(arguments.size, arguments.side, arguments.quality)
    sources = find_sources(arguments.inputs, arguments.root, arguments.out)
    written = write_store(arguments.out, settings, sources, workers=arguments.workers)
    copies = {0: "", 1: "; 1 list or mask"}.get(written.copies, f"; {written.copies:,} lists and masks")
    there = f"{written.fresh:,} written, {written.images - written.fresh:,} there already"
    print(f"{arguments.out}: {written.images:,} of {plural(len(sources.images), 'image')}: {there}{copies}")
    _show(written.unreadable, "file", f"could not be read; all are in {arguments.out / UNREADABLE}")
    return written.unreadable


def _show(problems: Sequence[Failure | str], noun: str, text: str) -> None:
    """Print a line with the number of problems, and the first of them."""
    if problems:
        print(f"{plural(len(problems), noun)} {text}", *problems[:SHOWN], sep="\n  ")
