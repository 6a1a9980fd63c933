"""rad_graph_metric_{train,validate,test}.json, as in the release: image -> row of its study in the label file."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from mavl.config.data import SPLITS
from mavl.prepare.radgraph.labels import Problem
from mavl.prepare.radgraph.mimic import StudyImage

NO_IMAGE = "{}\n"
"""The manifest of a split without images."""

VIEWS = {"frontal": ("PA", "AP"), "all": None}
"""The views that each value of --views lists, None for all."""

Entry = tuple[str, str, str | None, int]
"""An image: its path below the folder of the images, its split, its view, and its row of the label file."""


def join_studies(
    images: Sequence[StudyImage], studies: Sequence[str], problems: list[Problem], prefix: str = ""
) -> list[Entry]:
    """The images whose study has a graph.

    studies: the study id of each row, "" where unknown. prefix: of the id in problems, as MIMIC-CXR writes s50414267.

    Reported: studies without a graph, graphs without an image, and studies with several graphs: the first counts.
    """
    rows: dict[str, int] = {}
    for row, study in enumerate(studies):
        if study and rows.setdefault(study, row) != row:
            problems.append(Problem("study with two graphs", f"{prefix}{study}", "the first one counts"))
    shown = {image.study for image in images}
    without = sorted(shown - rows.keys())
    problems += [Problem("study without graph", f"{prefix}{study}", "its images are left out") for study in without]
    problems += [Problem("graph without images", f"{prefix}{study}") for study in sorted(rows.keys() - shown)]
    return [(*image[:3], rows[image.study]) for image in images if image.study in rows]


def manifest_texts(
    entries: Iterable[Entry], views: Sequence[str] | None
) -> tuple[dict[str, str], dict[str, int], Counter[str]]:
    """The JSON of each split's manifest, with the images of these views (None: of all).

    Also returns the numbers of images by split, and of images left out by view.
    """
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    left_out = Counter()
    for path, split, view, row in entries:
        if views is None or view in views:
            lines[split].append(f"{json.dumps(path)}: {json.dumps({'labels_id': row, 'view': view})}")
        else:
            left_out[view or "unknown"] += 1
    texts = {split: "{\n" + ",\n".join(found) + "\n}\n" if found else NO_IMAGE for split, found in lines.items()}
    return texts, {split: len(found) for split, found in lines.items()}, left_out
