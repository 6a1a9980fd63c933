"""The label file and manifests of MIMIC-CXR, from RadGraph's report graphs or from the released label files.

    python prepare_data.py radgraph --graphs <RadGraph>/MIMIC-CXR_graphs.json --root <MIMIC-CXR-JPG> --out data_file
    python prepare_data.py radgraph --released <folder of the released files> --root <MIMIC-CXR-JPG> --out data_file
    python prepare_data.py radgraph --verify --out data_file

Reads the graphs once, and the split and metadata CSV of MIMIC-CXR-JPG. Writes, in --out,

    landmark_observation_adj_mtx.npy     int8 [studies, 51, 75]: 1 present, 0 absent, -1 unknown; a memory map
    rad_graph_metric_{train,validate,test}.json     image below --root -> row of its study, and its view
    statistics.csv, statistics.png       number of studies with each finding present, and absent, at each anatomy
    problems.csv                         each fault of graphs and images
    summary.json                         the numbers of all these, and the checksum of the labels

A training config reads them with `data: {source: mimic}`. All files are replaced together at the end: a run that was
killed changes nothing, and starts again. A minute for all of MIMIC-CXR on two cores, 0.9 GB of disk. Exit code 0, or 1
where --verify finds damage.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from mavl.config.cli import positive
from mavl.files import whole_file
from mavl.prepare.problems import ProblemList, Report
from mavl.prepare.processes import sole_writer
from mavl.prepare.radgraph.graphs import label_file
from mavl.prepare.radgraph.labels import LABELS, Totals, checksum, write_labels
from mavl.prepare.radgraph.manifests import MANIFESTS, Pair, pairs, write_manifests
from mavl.prepare.radgraph.mimic import FRONTAL, SPLITS, Views, check_table, find_table, images
from mavl.prepare.radgraph.released import convert, released_pairs
from mavl.prepare.radgraph.statistics import draw_picture, write_table

TABLE, PICTURE, PROBLEMS, SUMMARY = "statistics.csv", "statistics.png", "problems.csv", "summary.json"
WRITTEN = {
    SUMMARY: "w",
    PROBLEMS: "w",
    TABLE: "w",
    PICTURE: "wb",
    **dict.fromkeys(MANIFESTS.values(), "w"),
    LABELS: "w+b",
}
"""File name -> mode."""
VIEWS = {"frontal": FRONTAL, "all": None}


class ArgumentsError(ValueError):
    """Arguments that do not go together, or name no file that can be read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--graphs", type=Path, metavar="FILE", help="MIMIC-CXR_graphs.json of RadGraph 1.0.0")
    source.add_argument("--released", type=Path, metavar="FOLDER", help=f"of the released {LABELS} and manifests")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="MIMIC-CXR-JPG, with its split and metadata CSV")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    parser.add_argument("--views", choices=VIEWS, default="frontal", help="images to list: PA and AP (default), or all")
    parser.add_argument("--images", default="files", metavar="NAME", help="folder of p10, p11, … below --root (files)")
    parser.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--verify", action="store_true", help="read every label again, after a source if one is given")


def run(arguments: argparse.Namespace) -> int:
    """0, also where the source has problems, which a person has to judge; 1 where labels are damaged."""
    if arguments.graphs or arguments.released:
        _check(arguments)
        arguments.out.mkdir(parents=True, exist_ok=True)
        with sole_writer(arguments.out):
            _write(arguments)
    elif not arguments.verify:
        raise ArgumentsError("nothing to read: give --graphs or --released; or --verify")
    return 0 if not arguments.verify or _verify(arguments.out) else 1


def _sources(arguments: argparse.Namespace) -> list[Path]:
    """The files with the labels, the largest one first."""
    if arguments.graphs:
        return [arguments.graphs]
    return [arguments.released / name for name in (LABELS, *MANIFESTS.values())]


def _check(arguments: argparse.Namespace) -> None:
    """ArgumentsError or MimicError, before the work, where an input cannot be read or a file must not be replaced."""
    out, root = arguments.out, arguments.root
    if root is None and (arguments.graphs or VIEWS[arguments.views]):
        raise ArgumentsError("--root is missing: splits and views of the images are in MIMIC-CXR-JPG's CSV files")
    written = [out / name for name in WRITTEN if (out / name).exists()]
    for path in _sources(arguments):
        if not path.is_file():
            expected = f"--released is the folder of {LABELS} and the three manifests"
            expected = "--graphs is RadGraph's MIMIC-CXR_graphs.json" if arguments.graphs else expected
            raise ArgumentsError(f"{path}: no such file; {expected}")
        if any(map(path.samefile, written)):  # also through a link
            raise ArgumentsError(f"--out {out}: {path}, which is read, would be written over; choose another --out")
    if out / LABELS in written and out / SUMMARY not in written:  # it may be the released one, a long download
        raise ArgumentsError(f"{out / LABELS} was not written by this command; choose another --out, or remove it")
    if root is not None:
        for name in ("metadata", *(["split"] if arguments.graphs else [])):
            check_table(root, name)


def _write(arguments: argparse.Namespace) -> None:
    out, source = arguments.out, _sources(arguments)[0]
    for name in WRITTEN:
        for draft in out.glob(f".{name}*.partial"):  # of a run that was killed
            draft.unlink()
    with ExitStack() as stack:
        files = {name: stack.enter_context(whole_file(out / name, mode)) for name, mode in WRITTEN.items()}
        problems = ProblemList(files[PROBLEMS])
        label = label_file if arguments.graphs else convert
        totals = write_labels(files[LABELS], label(source, arguments.workers), problems.add)
        if not totals.studies:
            raise ArgumentsError(f"{source}: holds no report")
        manifests = {split: files[name] for split, name in MANIFESTS.items()}
        listed, left_out = write_manifests(manifests, _pairs(arguments, totals, problems.add), VIEWS[arguments.views])
        write_table(totals, files[TABLE])
        draw_picture(totals, files[PICTURE])
        summary = {
            "source": str(source),
            "studies": len(totals.studies),
            "present": int(totals.present.sum()),
            "absent": int(totals.absent.sum()),
            "views": arguments.views,
            "images": {split: listed[split] for split in SPLITS},
            "left_out_by_view": dict(left_out.most_common()),
            "problems": dict(problems.counts.most_common()),
            "sha256": checksum(files[LABELS]),
        }
        text = json.dumps(summary, indent=2)
        files[SUMMARY].write(f"{text}\n")
    print(text)


def _pairs(arguments: argparse.Namespace, totals: Totals, report: Report) -> Iterator[Pair]:
    if arguments.graphs:
        return pairs(images(arguments.root, arguments.images, report), totals.studies, report)
    views = Views(find_table(arguments.root, "metadata")) if arguments.root else None
    return released_pairs(arguments.released, arguments.images, views, len(totals.studies), report)


def _verify(out: Path) -> bool:
    """Whether the label file has the checksum that summary.json holds."""
    try:
        expected = json.loads((out / SUMMARY).read_bytes())["sha256"]
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ArgumentsError(f"{out / SUMMARY}: holds no checksum of the labels; make them again") from error
    with open(out / LABELS, "rb") as file:
        same = checksum(file) == expected
    print(f"{out / LABELS}: " + ("every label is as it was written" if same else "damaged; make it again"))
    return same
