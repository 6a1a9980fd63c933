"""Images, decoded once and kept small, for loaders that would else wait for full-size JPEGs.

    python prepare_data.py store configs/MAVL_resnet.yaml --root <MIMIC-CXR-JPG> --out stores/mimic
    python prepare_data.py store configs/benchmarks/rsna.yaml --root <RSNA> --out stores/rsna --size 1024
    python prepare_data.py store <folder> list.csv 'more/*.png' --root <folder of all> --out stores/mine --encoding raw
    python prepare_data.py store --verify --out stores/mimic

Reads images by folder, pattern, CSV list, manifest (JSON) or any config: then all that its run would read. Writes grey
images of 8 bits, their shorter side 512 pixels, into shards of --out; smaller ones stay as they are. Training reads
them with `data.store: stores/mimic`, evaluation with `store: stores/mimic`, under the same root.

JPEG takes about 40 KB an image, raw 310 KB and no decoding; docs/scale.md has the time that films take. The same
command goes on after a kill, tries again what could not be read (unreadable.csv), and adds images that are new. Exit
code 0: all images are there, or verified; 1: some are unreadable, or damaged.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from mavl.config.cli import positive
from mavl.data.images.inputs import Failure
from mavl.data.images.store import INDEX_FILE, Store, StoreSettings, verify
from mavl.prepare.store.sources import SourceError, find_sources
from mavl.prepare.store.writer import SHARD_IMAGES, UNREADABLE, write_store

SHOWN = 20
DEFAULTS = StoreSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="image, folder, pattern, CSV, manifest or config")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the store")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="folder of the data set, as a run will be given it")
    parser.add_argument("--size", type=int, default=DEFAULTS.size, help="pixels of the side (%(default)s)")
    parser.add_argument("--side", choices=("shortest", "longest"), default=DEFAULTS.side, help="(%(default)s)")
    parser.add_argument("--encoding", choices=("jpeg", "raw"), default=DEFAULTS.encoding, help="(%(default)s)")
    parser.add_argument("--quality", type=int, default=DEFAULTS.quality, help="of JPEG, to 100 (%(default)s)")
    parser.add_argument("--shard_images", type=positive, help=f"images a shard ({SHARD_IMAGES}, more for millions)")
    parser.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--verify", action="store_true", help="read every byte of the store again, after the inputs")


def run(arguments: argparse.Namespace) -> int:
    if not arguments.inputs and not arguments.verify:
        raise SourceError("nothing to store: name images, a folder, a list or a config; or --verify")
    problems = _write(arguments) if arguments.inputs else []
    if arguments.verify:
        problems += _verify(arguments)
    return 1 if problems else 0


def _write(arguments: argparse.Namespace) -> list[Failure]:
    settings = _settings(arguments)
    sources, without = find_sources(arguments.inputs, arguments.root)
    written = write_store(
        arguments.out, settings, sources, workers=arguments.workers, shard_images=arguments.shard_images
    )
    print(f"{arguments.out}: {written.images} of {len(sources)} images, {written.fresh} of them new")
    _show(without, "name means no image", "names mean no image")
    listed = f"could not be read; all are in {arguments.out / UNREADABLE}"
    _show(written.unreadable, f"image {listed}", f"images {listed}")
    return without + written.unreadable


def _settings(arguments: argparse.Namespace) -> StoreSettings:
    try:
        return StoreSettings(**{name: getattr(arguments, name) for name in StoreSettings.model_fields})
    except ValidationError as error:
        wrong = [f"--{problem['loc'][0]} {problem['input']}: {problem['msg'].lower()}" for problem in error.errors()]
        raise SourceError("; ".join(wrong)) from error


def _verify(arguments: argparse.Namespace) -> list[str]:
    if not (arguments.out / INDEX_FILE).exists():
        Store(arguments.out)  # which says what it lacks
    problems = verify(arguments.out, arguments.workers, show=True)
    fix = "delete the shards that are named (the folder, where it is no shard) and give the command that made them"
    _show(problems, f"fault; {fix}", f"faults; {fix}")
    if not problems:
        print(f"{arguments.out}: every byte is as it was written")
    return problems


def _show(problems: Sequence[Failure | str], one: str, several: str) -> None:
    if problems:
        print(f"{len(problems)} {one if len(problems) == 1 else several}", *problems[:SHOWN], sep="\n  ")
