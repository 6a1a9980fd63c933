"""Which image has which row of the label store: rad_graph_metric_{train,validate,test}.json, as in the release."""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mavl.files import whole_file
from mavl.prepare.problems import Problem
from mavl.prepare.radgraph.mimic import SPLITS, MimicImage, Report

NO_VIEW = "unknown"
MANIFESTS = {split: f"rad_graph_metric_{split}.json" for split in SPLITS}


class Pair(NamedTuple):
    """An image and its row. path: below the folder of the images."""

    path: str
    split: str
    view: str | None
    row: int


@dataclass
class Written:
    """Numbers of images by split, and of those left out by view."""

    images: Counter = field(default_factory=Counter)
    left_out: Counter = field(default_factory=Counter)


def pairs(images: Iterable[MimicImage], studies: array, report: Report) -> Iterator[Pair]:
    """The images whose study has a graph, with its row. studies: of each row, 0 where unknown.

    Reported: studies that have no graph, graphs that have no image, and studies that have two graphs, of which the
    first counts.
    """
    ids = np.array(studies, dtype=np.int64)
    order = np.argsort(ids, kind="stable")
    ids = ids[order]
    for study in np.unique(ids[1:][(ids[1:] == ids[:-1]) & (ids[1:] > 0)]):
        report(Problem("study with two graphs", "the first one counts", f"s{study}"))
    without = array("q")
    shown = ids == 0
    for image in images:
        place = int(np.searchsorted(ids, image.study))
        if place < len(ids) and ids[place] == image.study:
            shown[place] = True
            yield Pair(image.path, image.split, image.view, int(order[place]))
        else:
            without.append(image.study)
    shown[1:] |= ids[1:] == ids[:-1]
    for study in np.unique(np.array(without, dtype=np.int64)):
        report(Problem("study without graph", "its images are left out", f"s{study}"))
    for study in ids[~shown]:
        report(Problem("graph without images", "", f"s{study}"))


def write_manifests(folder: Path, found: Iterable[Pair], views: tuple[str, ...] | None) -> Written:
    """The three manifests, of the images that have one of these views (None: of all)."""
    written = Written()
    with ExitStack() as stack:
        files = {split: stack.enter_context(whole_file(folder / name)) for split, name in MANIFESTS.items()}
        for pair in found:
            if views is not None and pair.view not in views:
                written.left_out[pair.view or NO_VIEW] += 1
                continue
            entry = json.dumps({"labels_id": pair.row, "view": pair.view})
            before = "," if written.images[pair.split] else "{"
            files[pair.split].write(f"{before}\n{json.dumps(pair.path)}: {entry}")
            written.images[pair.split] += 1
        for split, file in files.items():
            file.write("\n}\n" if written.images[split] else "{}\n")
    return written
