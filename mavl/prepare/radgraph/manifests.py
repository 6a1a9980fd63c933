"""rad_graph_metric_{train,validate,test}.json, as in the release: image -> row of its study in the label file."""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, NamedTuple

from mavl.prepare.problems import Problem, Report
from mavl.prepare.radgraph.mimic import SPLITS, MimicImage

MANIFESTS = {split: f"rad_graph_metric_{split}.json" for split in SPLITS}


class Pair(NamedTuple):
    """An image and its row. path: below the folder of the images."""

    path: str
    split: str
    view: str | None
    row: int


def pairs(images: Iterable[MimicImage], studies: array, report: Report) -> Iterator[Pair]:
    """The images whose study has a graph. studies: the study id of each row, 0 where unknown.

    Reported: studies without a graph, graphs without an image, and studies with several graphs: the first counts.
    """
    rows: dict[int, int] = {}
    repeated, without, shown = set(), set(), bytearray(len(studies))
    for row, study in enumerate(studies):
        if study and rows.setdefault(study, row) != row:
            repeated.add(study)
    for study in sorted(repeated):
        report(Problem("study with two graphs", "the first one counts", f"s{study}"))
    for image in images:
        row = rows.get(image.study)
        if row is None:
            without.add(image.study)
        else:
            shown[row] = True
            yield Pair(image.path, image.split, image.view, row)
    for study in sorted(without):
        report(Problem("study without graph", "its images are left out", f"s{study}"))
    for study in sorted(study for study, row in rows.items() if not shown[row]):
        report(Problem("graph without images", "", f"s{study}"))


def write_manifests(
    files: Mapping[str, IO[str]], found: Iterable[Pair], views: tuple[str, ...] | None
) -> tuple[Counter[str], Counter[str]]:
    """Write the manifest of each split, with the images of these views (None: of all).

    Returns: numbers of images by split, and of images left out by view.
    """
    images, left_out = Counter(), Counter()
    for pair in found:
        if views is not None and pair.view not in views:
            left_out[pair.view or "unknown"] += 1
            continue
        entry = json.dumps({"labels_id": pair.row, "view": pair.view})
        before = "," if images[pair.split] else "{"
        files[pair.split].write(f"{before}\n{json.dumps(pair.path)}: {entry}")
        images[pair.split] += 1
    for split, file in files.items():
        file.write("\n}\n" if images[split] else "{}\n")
    return images, left_out
