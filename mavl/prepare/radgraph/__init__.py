"""Labels of MIMIC-CXR's reports: RadGraph's graphs, or the released label files, -> a label store and its manifests.

    python prepare_data.py radgraph --graphs <RadGraph>/MIMIC-CXR_graphs.json --root <MIMIC-CXR-JPG> --out data_file
    python prepare_data.py radgraph --released <folder of the released files> --root <MIMIC-CXR-JPG> --out data_file
    python prepare_data.py radgraph --verify --out data_file

Reads the graphs once, in pieces, and from MIMIC-CXR-JPG's folder the split and the metadata CSV. Writes, in --out,

    landmark_observation_adj_mtx.npy     int8 [studies, 51, 75]: 1 present, 0 absent, -1 not said; a memory map
    rad_graph_metric_{train,validate,test}.json     image below --root -> row of its study, and its view
    statistics.csv, statistics.png       in how many studies each finding is present, and absent, at each anatomy
    problems.csv                         everything wrong with graphs and images, a line each
    summary.json                         numbers of all these
    parts/                               notes by which a second run does again only what changed

which are what `data: {source: mimic}` of a training config reads. Killed, the same command goes on where it was. Some
minutes for all of MIMIC-CXR on two cores, 0.9 GB of disk. Exit code 0, or 1 where --verify finds damage.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

from mavl.config.cli import positive
from mavl.files import whole_file
from mavl.prepare.problems import problem_list
from mavl.prepare.radgraph.json_parts import cut
from mavl.prepare.radgraph.labels import LABELS, PARTS, LabelFolder, Totals, fill
from mavl.prepare.radgraph.manifests import MANIFESTS, Pair, pairs, write_manifests
from mavl.prepare.radgraph.mimic import FRONTAL, SPLITS, Report, Views, check_table, find_table, images
from mavl.prepare.radgraph.parts import label_graphs
from mavl.prepare.radgraph.released import check_there, convert, matrix_parts, released_pairs
from mavl.prepare.radgraph.statistics import draw_picture, write_table
from mavl.prepare.sole_writer import sole_writer

PART_ROWS = 256
TABLE, PICTURE, PROBLEMS, SUMMARY = "statistics.csv", "statistics.png", "problems.csv", "summary.json"
WRITTEN = (LABELS, *MANIFESTS.values(), TABLE, PICTURE, PROBLEMS, SUMMARY)
VIEWS = {"frontal": FRONTAL, "all": None}


class ArgumentsError(ValueError):
    """Arguments that do not go together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--graphs", type=Path, metavar="FILE", help="MIMIC-CXR_graphs.json of RadGraph 1.0.0")
    source.add_argument("--released", type=Path, metavar="FOLDER", help=f"of the released {LABELS} and manifests")
    parser.add_argument("--root", type=Path, metavar="FOLDER", help="MIMIC-CXR-JPG, with its split and metadata CSV")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="what is written, and gone on with")
    parser.add_argument("--views", choices=VIEWS, default="frontal", help="images to list: PA and AP (default), or all")
    parser.add_argument("--images", default="files", metavar="NAME", help="folder of p10, p11, … below --root (files)")
    parser.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--verify", action="store_true", help="read every label again, after a source if one is given")


def run(arguments: argparse.Namespace) -> int:
    """0 whatever the problems of the source, which a person has to weigh; 1 where labels are damaged."""
    if arguments.graphs or arguments.released:
        _check(arguments)
        arguments.out.mkdir(parents=True, exist_ok=True)
        with sole_writer(arguments.out):
            _write(arguments)
    elif not arguments.verify:
        raise ArgumentsError("nothing to read: give --graphs or --released; or --verify")
    return 1 if arguments.verify and _verify(arguments.out) else 0


def _write(arguments: argparse.Namespace) -> None:
    """Labels, then manifests, problems and statistics."""
    out, views = arguments.out, VIEWS[arguments.views]
    if arguments.graphs:
        source = arguments.graphs
        store = fill(out, source, cut(source, PART_ROWS), label_graphs, arguments.workers)
    else:
        source = arguments.released / LABELS
        store = fill(out, source, matrix_parts(source, PART_ROWS), convert, arguments.workers)
    totals = store.totals()
    if not totals.studies:
        raise ArgumentsError(f"{source}: holds no report")
    with problem_list(out / PROBLEMS) as problems:
        for problem in store.problems():
            problems.add(problem)
        written = write_manifests(out, _pairs(arguments, totals, problems.add), views)
    write_table(totals, out / TABLE)
    draw_picture(totals, out / PICTURE)
    summary = {
        "source": str(source),
        "studies": len(totals.studies),
        "present": int(totals.present.sum()),
        "absent": int(totals.absent.sum()),
        "views": arguments.views,
        "images": {split: written.images[split] for split in SPLITS},
        "left_out_by_view": dict(written.left_out.most_common()),
        "problems": dict(problems.counts.most_common()),
    }
    with whole_file(out / SUMMARY) as file:
        json.dump(summary, file, indent=2)
        file.write("\n")
    print("\n".join(_lines(summary, out)))


def _verify(out: Path) -> list[str]:
    if not (out / PARTS).is_dir():
        raise ArgumentsError(f"--out {out}: no {PARTS} there, so nothing to verify the labels by")
    damage = list(LabelFolder(out).verify())
    print(*damage or [f"{out / LABELS}: every label is as it was written"], sep="\n")
    return damage


def _check(arguments: argparse.Namespace) -> None:
    if arguments.root is None and (arguments.graphs or VIEWS[arguments.views]):
        raise ArgumentsError("--root is missing: splits and views of the images are in MIMIC-CXR-JPG's CSV files")
    if arguments.graphs and not arguments.graphs.is_file():
        raise ArgumentsError(f"--graphs {arguments.graphs}: no such file")
    if arguments.released:
        check_there(arguments.released)
    _check_apart(arguments)
    if arguments.root is not None:  # before the minutes of work, not after
        for name in ("metadata", *(["split"] if arguments.graphs else [])):
            check_table(arguments.root, name)


def _check_apart(arguments: argparse.Namespace) -> None:
    """Nothing that is read may be written over, under its name or through a link, or swept out of the parts."""
    out, released = arguments.out, arguments.released
    written = [out / name for name in WRITTEN if (out / name).exists()]
    for path in [arguments.graphs] if released is None else [released / name for name in (LABELS, *MANIFESTS.values())]:
        if any(map(path.samefile, written)) or path.resolve().parent == (out / PARTS).resolve():
            raise ArgumentsError(f"--out {out}: {path}, which is read, would be written over; choose another --out")


def _pairs(arguments: argparse.Namespace, totals: Totals, report: Report) -> Iterator[Pair]:
    if arguments.graphs:
        return pairs(images(arguments.root, arguments.images, report), totals.studies, report)
    views = Views(find_table(arguments.root, "metadata")) if arguments.root else None
    return released_pairs(arguments.released, arguments.images, views, len(totals.studies), report)


def _lines(summary: dict, out: Path) -> Iterator[str]:
    """The summary for a person."""
    said = f"{summary['present']:,} present, {summary['absent']:,} absent"
    yield f"{summary['studies']:,} studies; findings at anatomies: {said}"
    yield "images: " + ", ".join(f"{number:,} {split}" for split, number in summary["images"].items())
    if summary["left_out_by_view"]:
        left = ", ".join(f"{number:,} {view}" for view, number in summary["left_out_by_view"].items())
        yield f"left out for their view: {left}"
    found = ", ".join(f"{number:,} {kind}" for kind, number in summary["problems"].items())
    yield f"problems: {found} ({out / PROBLEMS})" if found else "problems: none"
    yield f"labels and manifests: {out}"
