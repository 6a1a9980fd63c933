"""rad_graph_metric_{train,validate,test}.json, as in the release: image -> row of its study in the label file."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, NamedTuple

from mavl.prepare.radgraph.labels import Problem
from mavl.prepare.radgraph.mimic import SPLITS, MimicImage

MANIFESTS = {split: f"rad_graph_metric_{split}.json" for split in SPLITS}


class Pair(NamedTuple):
    """An image and its row. path: below the folder of the images."""

    path: str
    split: str
    view: str | None
    row: int


def join_studies(images: Sequence[MimicImage], studies: Sequence[str], problems: list[Problem]) -> list[Pair]:
    """The images whose study has a graph. studies: the study id of each row, "" where unknown.

    Reported: studies without a graph, graphs without an image, and studies with several graphs: the first counts.
    """
    rows: dict[str, int] = {}
    for row, study in enumerate(studies):
        if study and rows.setdefault(study, row) != row:
            problems.append(Problem("study with two graphs", f"s{study}", "the first one counts"))
    shown = {image.study for image in images}
    without = sorted(shown - rows.keys())
    problems += [Problem("study without graph", f"s{study}", "its images are left out") for study in without]
    problems += [Problem("graph without images", f"s{study}") for study in sorted(rows.keys() - shown)]
    return [Pair(*image[:3], rows[image.study]) for image in images if image.study in rows]


def write_manifests(
    files: Mapping[str, IO[str]], pairs: Iterable[Pair], views: Sequence[str] | None
) -> tuple[Counter[str], Counter[str]]:
    """Write the manifest of each split, with the images of these views (None: of all).

    Returns: numbers of images by split, and of images left out by view.
    """
    entries: dict[str, list[str]] = {split: [] for split in files}
    left_out = Counter()
    for path, split, view, row in pairs:
        if views is None or view in views:
            entries[split].append(f"{json.dumps(path)}: {json.dumps({'labels_id': row, 'view': view})}")
        else:
            left_out[view or "unknown"] += 1
    for split, lines in entries.items():
        files[split].write("{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n")
    return Counter({split: len(lines) for split, lines in entries.items()}), left_out
