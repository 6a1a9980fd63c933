"""A part of RadGraph's MIMIC-CXR_graphs.json -> rows of the label store."""

import re
from pathlib import Path

import numpy as np

from mavl.prepare.problems import Problem
from mavl.prepare.radgraph.graphs import SHAPE, label_matrix
from mavl.prepare.radgraph.json_parts import JsonPartsError, Part, Unreadable, members
from mavl.prepare.radgraph.labels import Labelled
from mavl.prepare.radgraph.mimic import ID_DIGITS

_STUDY = re.compile(rf"(?:^|/)s(\d{{1,{ID_DIGITS}}})\.txt$")  # p10/p10000032/s50414267.txt


def label_graphs(source: Path, part: Part) -> Labelled:
    """The matrices of a part's reports, in order. JsonPartsError where the file is not what RadGraph's is."""
    matrices, studies, problems = [np.empty((0, *SHAPE), dtype=np.int8)], [], []
    for key, graph in members(source, part):
        matrix, found = label_matrix(graph)
        if isinstance(graph, Unreadable):
            found = [Problem("report that cannot be read", graph.reason)]
        if isinstance(graph, dict) or (isinstance(graph, Unreadable) and graph.is_object):
            study = _STUDY.search(key)
            matrices.append(matrix[None])
            studies.append(int(study[1]) if study else 0)
            if study is None:
                found.append(Problem("name of no study", "expected one like p10/p10000032/s50414267.txt"))
        problems += [problem._replace(where=key) for problem in found]
    if len(studies) != part.rows:
        raise JsonPartsError(
            f"{source}: {part.rows} objects between bytes {part.start:,} and {part.end:,}, and {len(studies)} reports"
        )
    return Labelled(np.concatenate(matrices), studies, problems)
