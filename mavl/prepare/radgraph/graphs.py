"""RadGraph's report graphs -> label matrices, sentence by sentence (MedKLIP, ICCV 2023).

A graph is a value of RadGraph 1.0.0's MIMIC-CXR_graphs.json, or of what the `radgraph` package returns, {"text": tokens
joined by spaces, "entities": {id: {"tokens", "label", "start_ix", "relations": [[kind, target id], …]}}}. Each fault of
a graph is a `Problem`; the rest of the graph still counts.
"""

import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mavl.prepare.processes import work_through
from mavl.prepare.radgraph.labels import BATCH, SHAPE, Labelled, Problem
from mavl.prepare.radgraph.reading import members
from mavl.prepare.radgraph.rules import anatomy_row, finding_column
from mavl.vocab import ABSENT, PRESENT, UNKNOWN, UNSPECIFIED

ANATOMY = "ANAT-DP"
OBSERVATIONS = {"OBS-DP": PRESENT, "OBS-DA": ABSENT, "OBS-U": UNKNOWN}
RADGRAPH_XL = {
    "Anatomy::definitely present": ANATOMY,
    "Observation::definitely present": "OBS-DP",
    "Observation::definitely absent": "OBS-DA",
    "Observation::uncertain": "OBS-U",
}
"""The labels of the later RadGraph-XL, by those of RadGraph 1.0.0."""

WITHOUT_LABEL = (
    *(f"Anatomy::{certainty}" for certainty in ("definitely absent", "uncertain")),
    *(
        f"{kind}::measurement::{certainty}"
        for kind in ("Anatomy", "Observation")
        for certainty in ("definitely present", "definitely absent", "uncertain")
    ),
)
"""Further labels of RadGraph-XL: anatomy that is not there is no place, and a measurement is no finding."""

UNKNOWN_LABEL, NO_GRAPH, NO_STUDY = "unknown label", "report is no graph", "name of no study"
"""Kinds of problems."""

LOCATED_AT, MODIFY = "located_at", "modify"
RELATIONS = (LOCATED_AT, MODIFY, "suggestive_of")
SENTENCE_ENDS = (".", "?", "!")

_STUDY = re.compile(r"(?:^|/)s(\d+)(?:\.txt)?$")  # p10/p10000032/s50414267.txt


class _Entity(NamedTuple):
    words: str
    label: str
    sentence: int
    relations: list[tuple[str, str]]  # kind, target


def mimic_study(name: str) -> str | None:
    """The study id, "50414267", of a name as in MIMIC-CXR_graphs.json; None for others."""
    study = _STUDY.search(name)
    return study[1] if study else None


def label_file(path: Path, workers: int, study_of: Callable[[str], str | None] = mimic_study) -> Iterator[Labelled]:
    """The labels of a whole graphs file, in order. study_of: the study id of a graph's name, or None.

    ReadingError where the file is damaged.
    """
    reports = members(path)
    return work_through(partial(_label_reports, study_of), iter(lambda: list(islice(reports, BATCH)), []), workers)


def _label_reports(study_of: Callable[[str], str | None], reports: list[tuple[str, bytes]]) -> Labelled:
    """reports: (name, JSON of the graph); a value that is no graph becomes a problem and no row."""
    matrices, studies, problems = [], [], []
    for name, text in reports:
        try:
            graph = json.loads(text)
            if not (isinstance(graph, dict) and isinstance(graph.get("entities"), dict)):
                raise ValueError("expected an object that has an object `entities`")
            matrix, found = label_matrix(graph)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(NO_GRAPH, name, str(error)))
            continue
        study = study_of(name)
        matrices.append(matrix)
        studies.append(study or "")
        if study is None:
            found.append((NO_STUDY, "expected one like p10/p10000032/s50414267.txt"))
        problems += [Problem(kind, name, detail) for kind, detail in found]
    return Labelled(np.array(matrices, dtype=np.int8).reshape(-1, *SHAPE), studies, problems)


def label_matrix(graph: dict) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """The labels int8 [51, 75] of a report, 1 present, 0 absent, -1 unknown, and the (kind, detail) of its problems.

    An observation counts at the places it is located at, or at `unspecified` when it has no relation. An observation
    whose relations lead to no place of its sentence (only `modify`, or a missing target) counts nowhere.
    """
    problems: list[tuple[str, str]] = []
    matrix = np.full(SHAPE, UNKNOWN, dtype=np.int8)
    entities = _entities(graph, problems)
    places = _places(entities)
    for entity in entities.values():
        value = OBSERVATIONS.get(entity.label, UNKNOWN)
        if value != UNKNOWN:
            located = {row for target in _targets(entity, LOCATED_AT, entities) for row in places.get(target, ())}
            column = finding_column(entity.words)
            for row in located if entity.relations else (anatomy_row(UNSPECIFIED),):
                matrix[row, column] = max(value, matrix[row, column])
    return matrix, problems


def _places(entities: Mapping[str, _Entity]) -> dict[str, set[int]]:
    """Anatomy id -> rows of its places. A place is a root, an anatomy without relations, and its modifiers."""
    anatomies = {key: entity for key, entity in entities.items() if entity.label == ANATOMY}
    groups = {key: [key] for key, entity in anatomies.items() if not entity.relations}
    for key, entity in anatomies.items():
        for target in _targets(entity, MODIFY, entities):
            if target in groups:
                groups[target].append(key)
    places = defaultdict(set)
    for group in groups.values():
        row = anatomy_row("|".join(entities[key].words for key in group))
        for key in group:
            places[key].add(row)
    return places


def _targets(entity: _Entity, kind: str, entities: Mapping[str, _Entity]) -> Iterator[str]:
    """The targets in the same sentence of an entity's relations of this kind."""
    for found, target in entity.relations:
        if found == kind and target in entities and entities[target].sentence == entity.sentence:
            yield target


def _entities(graph: dict, problems: list[tuple[str, str]]) -> dict[str, _Entity]:
    """Entities by id, in the graph's order, which is also the order of the words of a place."""
    text, entities = graph.get("text"), {}
    tokens = text.split(" ") if isinstance(text, str) and text.strip() else []
    if not tokens:
        problems.append(("empty report", ""))
    elif not graph["entities"]:
        problems.append(("report without entities", ""))
    ends = [place for place, token in enumerate(tokens) if token in SENTENCE_ENDS]
    for key, fields in graph["entities"].items():
        try:
            start, label = int(fields["start_ix"]), str(fields["label"])
            relations = [(str(kind), str(target)) for kind, target in filter(None, fields["relations"])]  # or [null]
            sentence = bisect_left(ends, start)
            entity = _Entity(fields["tokens"].lower(), RADGRAPH_XL.get(label, label), sentence, relations)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            problems.append(("malformed entity", f"entity {key}: {type(error).__name__} {error}"))
            continue
        entities[key] = entity
        if entity.label not in (ANATOMY, *OBSERVATIONS, *WITHOUT_LABEL):
            problems.append((UNKNOWN_LABEL, f"{label} of entity {key}"))
        if tokens and not 0 <= start < len(tokens):
            problems.append(("entity outside the text", f"entity {key} starts at token {start}"))
    for key, entity in entities.items():
        for kind, target in entity.relations:
            if kind not in RELATIONS:
                problems.append(("unknown relation", f"{kind} of entity {key}"))
            if target not in entities:
                problems.append(("dangling relation", f"entity {key} {kind} {target}"))
    return entities
