"""The label file and manifests of MIMIC-CXR or of own images, from RadGraph's report graphs or the released labels.

    python prepare_data.py radgraph --graphs <RadGraph>/MIMIC-CXR_graphs.json --root <MIMIC-CXR-JPG> --out data_file
    python prepare_data.py radgraph --graphs graphs.json --csv images.csv --image-column image --out own_labels
    python prepare_data.py radgraph --released <folder of the released files> --root <MIMIC-CXR-JPG> --out data_file
    python prepare_data.py radgraph --verify --out data_file

Reads the graphs once, and the split and metadata CSV of MIMIC-CXR-JPG, or a table with a row for each image, whose
study is the name of its graph (--study-column), or else the row's number, from 0. Writes, in --out,

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
from collections import Counter
from pathlib import Path

from mavl.config.cli import positive
from mavl.config.data import LABELS, MANIFESTS
from mavl.files import read_json, whole_file, write_text
from mavl.prepare.radgraph.graphs import NO_GRAPH, NO_STUDY, UNKNOWN_LABEL, label_file
from mavl.prepare.radgraph.labels import (
    PROBLEMS,
    SUMMARY,
    Problem,
    checksum,
    replaced_together,
    write_labels,
    write_problems,
    write_statistics,
)
from mavl.prepare.radgraph.manifests import VIEWS, join_studies, manifest_texts
from mavl.prepare.radgraph.mimic import METADATA, read_images, read_views
from mavl.prepare.radgraph.own import Columns, read_table_of_images, study_of
from mavl.prepare.radgraph.released import convert, released_entries
from mavl.progress import plural


class ArgumentsError(ValueError):
    """Arguments that do not go together, or name no file that can be used."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--graphs", type=Path, metavar="FILE", help="MIMIC-CXR_graphs.json of RadGraph, or RadGraph-XL's"
    )
    source.add_argument("--released", type=Path, metavar="FOLDER", help=f"of the released {LABELS} and manifests")
    images = parser.add_mutually_exclusive_group()
    images.add_argument("--root", type=Path, metavar="FOLDER", help="MIMIC-CXR-JPG, with its split and metadata CSV")
    images.add_argument("--csv", type=Path, metavar="FILE", help="table of own images, with the columns below")
    parser.add_argument("--image-column", metavar="NAME", help="paths of the images below the config's data.root")
    parser.add_argument("--study-column", metavar="NAME", help="names of the graphs; without it the row's number")
    parser.add_argument("--patient-column", metavar="NAME", help="kept together where the split is by hash")
    parser.add_argument("--split-column", metavar="NAME", help="train, validate or test; without it by hash")
    parser.add_argument("--seed", type=int, default=0, help="of the split by a hash of patient or study (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    parser.add_argument("--views", choices=VIEWS, help="images to list: PA and AP, or all, the default with --csv")
    parser.add_argument("--images", default="files", metavar="NAME", help="folder of p10, p11, … below --root (files)")
    parser.add_argument("--workers", type=positive, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--verify", action="store_true", help="read every label again, after a source if one is given")


def run(arguments: argparse.Namespace) -> int:
    """0, also where the source has problems, which a person has to judge; 1 where labels are damaged."""
    if arguments.graphs or arguments.released:
        arguments.views = arguments.views or ("all" if arguments.csv else "frontal")
        _check(arguments)
        with replaced_together(arguments.out) as drafts:
            _write(arguments, drafts)
    elif not arguments.verify:
        raise ArgumentsError("nothing to read: give --graphs or --released; or --verify")
    return 0 if not arguments.verify or _verify(arguments.out) else 1


def _check(arguments: argparse.Namespace) -> None:
    """ArgumentsError, before the work, where an input is missing or a file must not be replaced."""
    out = arguments.out
    if arguments.csv and (arguments.released or not arguments.image_column):
        raise ArgumentsError("--csv takes --graphs and --image-column, the column with the paths of the images")
    if any(getattr(arguments, f"{name}_column") for name in Columns._fields) and not arguments.csv:
        raise ArgumentsError("--image-column and the other columns are those of --csv, which is missing")
    if arguments.root is None and not arguments.csv and (arguments.graphs or VIEWS[arguments.views]):
        raise ArgumentsError("--root is missing: splits and views of the images are in MIMIC-CXR-JPG's CSV files")
    if arguments.graphs:
        sources, expected = [arguments.graphs], "--graphs is RadGraph's MIMIC-CXR_graphs.json"
    else:
        sources = [arguments.released / name for name in (LABELS, *MANIFESTS.values())]
        expected = f"--released is the folder of {LABELS} and the three manifests"
    if missing := [path for path in sources if not path.is_file()]:
        raise ArgumentsError(f"{missing[0]}: no such file; {expected}")
    if arguments.released and arguments.released.resolve() == out.resolve():
        raise ArgumentsError(f"--out {out}: its files, which are read, would be written over; choose another --out")


def _write(arguments: argparse.Namespace, out: Path) -> None:
    """Write all files of a run into a folder of drafts."""
    root, problems = arguments.root, []
    source = arguments.graphs or arguments.released
    with whole_file(out / LABELS, "w+b") as file:
        if arguments.csv:
            columns = Columns(
                arguments.image_column, arguments.study_column, arguments.patient_column, arguments.split_column
            )
            images = read_table_of_images(arguments.csv, columns, arguments.seed, problems)
            studies, counts = write_labels(file, label_file(arguments.graphs, arguments.workers, study_of), problems)
            entries = join_studies(images, studies, problems)
        elif arguments.graphs:
            images = read_images(root, arguments.images, problems)
            studies, counts = write_labels(file, label_file(arguments.graphs, arguments.workers), problems)
            entries = join_studies(images, studies, problems, prefix="s")
        else:
            views = read_views(root, problems) if root else None
            studies, counts = write_labels(file, convert(arguments.released / LABELS), problems)
            entries = released_entries(arguments.released, arguments.images, views, len(studies), problems)
        if not any(of_name.any() for of_name in counts.values()):
            raise ArgumentsError(f"{source}: {_without_label(problems)}")
        texts, listed, left_out = manifest_texts(entries, VIEWS[arguments.views])
        if not any(listed.values()):
            raise ArgumentsError(f"{source}: {_without_image(problems, left_out, arguments)}")
        sha256 = checksum(file)
    for split, text in texts.items():
        write_text(out / MANIFESTS[split], text)
    write_statistics(out, counts, len(studies))
    write_problems(out, problems)
    summary = {
        "source": str(arguments.graphs or arguments.released / LABELS),
        "studies": len(studies),
        **{name: int(of_name.sum()) for name, of_name in counts.items()},
        "views": arguments.views,
        "images": listed,
        "left_out_by_view": dict(left_out.most_common()),
        "problems": dict(Counter(problem.kind for problem in problems).most_common()),
        "sha256": sha256,
    }
    text = json.dumps(summary, indent=2)
    write_text(out / SUMMARY, f"{text}\n")
    print(text)
    if left_out:
        print(f"{plural(left_out.total(), 'image')} of other views left out ({_counted(left_out, arguments)})")
    if problems:
        print(f"{plural(len(problems), 'problem')}, listed in {PROBLEMS}; the first: {': '.join(problems[0])}")


def _counted(views: Counter[str], arguments: argparse.Namespace) -> str:
    """The most frequent ones with their numbers and their source."""
    source = arguments.csv.name if arguments.csv else METADATA
    return f"{source}: " + ", ".join(f"{view} {number}" for view, number in views.most_common(5))


def _without_label(problems: list[Problem]) -> str:
    """Why a source gives no label at all."""
    first = {problem.kind: problem for problem in reversed(problems)}
    if found := first.get(UNKNOWN_LABEL):
        return (
            f"no entity has a label of RadGraph 1.0.0 (as OBS-DP) or of RadGraph-XL; {found.where} has {found.detail}"
        )
    if found := first.get(NO_GRAPH):
        return f"holds no report with a label of RadGraph; {found.where} is no graph ({found.detail})"
    return "holds no report with a label of RadGraph"


def _without_image(problems: list[Problem], left_out: Counter[str], arguments: argparse.Namespace) -> str:
    """Why no manifest of a source lists an image."""
    if left_out:
        views = f"{plural(left_out.total(), 'image')} of other views ({_counted(left_out, arguments)})"
        return f"{views}, and none to list; --views all lists them too"
    first = next((each for each in problems if each.kind == NO_STUDY), problems[0] if problems else None)
    if first and first.kind == NO_STUDY:
        return f"none of its reports belongs to an image of --root; {first.where!r} names no study, {first.detail}"
    odd = f"; {plural(len(problems), 'problem')}, the first: {': '.join(first)}" if first else ""
    images = f"--csv {arguments.csv}" if arguments.csv else f"--root {arguments.root}"
    return f"none of its reports belongs to an image of {images}{odd}"


def _verify(out: Path) -> bool:
    """Whether the label file has the checksum that summary.json holds."""
    try:
        expected = read_json(out / SUMMARY)["sha256"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise ArgumentsError(f"{out / SUMMARY}: holds no checksum of the labels; make them again") from error
    with open(out / LABELS, "rb") as file:
        same = checksum(file) == expected
    print(f"{out / LABELS}: " + ("every label is as it was written" if same else "damaged; make it again"))
    return same
