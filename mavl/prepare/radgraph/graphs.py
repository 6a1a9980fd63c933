"""RadGraph's report graphs -> label matrices, sentence by sentence (SPEC §7).

A graph is a value of RadGraph 1.0.0's MIMIC-CXR_graphs.json, {"text": tokens joined by spaces, "entities": {id:
{"tokens", "label", "start_ix", "relations": [[kind, target id], …]}}}. Each fault of a graph is a `Problem`; the rest
of the graph still counts.
"""

import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mavl.prepare.problems import Problem
from mavl.prepare.processes import work_through
from mavl.prepare.radgraph.labels import BATCH, SHAPE, Labelled
from mavl.prepare.radgraph.mimic import ID_DIGITS
from mavl.prepare.radgraph.reading import members
from mavl.prepare.radgraph.rules import UNSPECIFIED, anatomy_row, finding_column
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

ANATOMY = "ANAT-DP"
OBSERVATIONS = {"OBS-DP": PRESENT, "OBS-DA": ABSENT, "OBS-U": UNKNOWN}
LOCATED_AT, MODIFY = "located_at", "modify"
RELATIONS = frozenset({LOCATED_AT, MODIFY, "suggestive_of"})
SENTENCE_ENDS = frozenset(".?!")

_STUDY = re.compile(rf"(?:^|/)s(\d{{1,{ID_DIGITS}}})\.txt$")  # p10/p10000032/s50414267.txt
_fields = itemgetter("tokens", "label", "start_ix", "relations")


class _Entity(NamedTuple):
    words: str
    label: str
    sentence: int
    edges: list[tuple[str, str]]  # kind, target


def label_file(path: Path, workers: int) -> Iterator[Labelled]:
    """The labels of a whole graphs file, in order. ReadingError where the file is damaged."""
    reports = members(path)
    return work_through(_label_reports, iter(lambda: list(islice(reports, BATCH)), []), workers)


def _label_reports(reports: list[tuple[str, str]]) -> Labelled:
    """reports: (name, JSON text of the graph); a graph that is no object becomes a problem and no row."""
    matrices, studies, problems = [], [], []
    for name, text in reports:
        graph = json.loads(text)
        matrix, found = label_matrix(graph)
        if isinstance(graph, dict):
            study = _STUDY.search(name)
            matrices.append(matrix)
            studies.append(int(study[1]) if study else 0)
            if study is None:
                found.append(Problem("name of no study", "expected one like p10/p10000032/s50414267.txt"))
        problems += [problem._replace(where=name) for problem in found]
    return Labelled(np.array(matrices, dtype=np.int8).reshape(-1, *SHAPE), studies, problems)


def label_matrix(graph: object) -> tuple[np.ndarray, list[Problem]]:
    """The labels int8 [51, 75] of a report, 1 present, 0 absent, -1 unknown, and the problems of its graph.

    An observation counts at the places it is located at, or at `unspecified` when it has no relation. An observation
    whose relations lead to no place of its sentence (only `modify`, or a missing target) counts nowhere.
    """
    problems: list[Problem] = []
    matrix = np.full(SHAPE, UNKNOWN, dtype=np.int8)
    entities = _entities(graph, problems)
    places = _places(entities)
    for entity in entities.values():
        value = OBSERVATIONS.get(entity.label, UNKNOWN)
        if value != UNKNOWN:
            column = finding_column(entity.words)
            for row in _rows(entity, entities, places):
                matrix[row, column] = max(value, matrix[row, column])
    return matrix, problems


def _places(entities: Mapping[str, _Entity]) -> dict[str, set[int]]:
    """Anatomy id -> rows of its places. A place is a root, an anatomy without relations, and its modifiers."""
    anatomies = {key: entity for key, entity in entities.items() if entity.label == ANATOMY}
    groups = {key: [key] for key, entity in anatomies.items() if not entity.edges}
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


def _rows(entity: _Entity, entities: Mapping[str, _Entity], places: Mapping[str, set[int]]) -> set[int]:
    """The rows of an observation."""
    if not entity.edges:
        return {anatomy_row(UNSPECIFIED)}
    return {row for target in _targets(entity, LOCATED_AT, entities) for row in places.get(target, ())}


def _targets(entity: _Entity, kind: str, entities: Mapping[str, _Entity]) -> Iterator[str]:
    """The targets in the same sentence of an entity's relations of this kind."""
    for found, target in entity.edges:
        if found == kind and target in entities and entities[target].sentence == entity.sentence:
            yield target


def _entities(graph: object, problems: list[Problem]) -> dict[str, _Entity]:
    """Entities by id, in the graph's order, which is also the order of the words of a place."""
    if not isinstance(graph, dict) or not isinstance(graph.get("entities"), dict):
        problems.append(Problem("report is no graph", "expected an object that has an object `entities`"))
        return {}
    text, entities = graph.get("text"), graph["entities"]
    tokens = text.split(" ") if isinstance(text, str) and text.strip() else []
    if not tokens:
        problems.append(Problem("empty report"))
    elif not entities:
        problems.append(Problem("report without entities"))
    ends = [place for place, token in enumerate(tokens) if token in SENTENCE_ENDS]
    read = {}
    for key, fields in entities.items():
        entity = _entity(key, fields, ends, problems)
        if entity is not None:
            read[key] = entity
            start = fields["start_ix"]
            if tokens and not 0 <= start < len(tokens):
                problems.append(Problem("entity outside the text", f"entity {key} starts at token {start}"))
    for key, entity in read.items():
        for kind, target in entity.edges:
            if target not in read:
                problems.append(Problem("dangling relation", f"entity {key} {kind} {target}"))
    return read


def _entity(key: str, fields: Any, ends: list[int], problems: list[Problem]) -> _Entity | None:
    """ends: the positions of the tokens that end a sentence. None for an entity that has a fault."""
    try:
        words, label, start, relations = _fields(fields)
        if not isinstance(start, int | float):
            raise TypeError(f"start_ix {start!r}")
        entity = _Entity(words.lower(), str(label), bisect_left(ends, start), _edges(key, relations, problems))
    except (AttributeError, KeyError, TypeError, RecursionError) as error:  # RecursionError of a deep value's repr
        problems.append(Problem("malformed entity", f"entity {key}: {type(error).__name__} {error}"))
        return None
    if entity.label != ANATOMY and entity.label not in OBSERVATIONS:
        problems.append(Problem("unknown label", f"{label} of entity {key}"))
    return entity


def _edges(key: str, relations: list, problems: list[Problem]) -> list[tuple[str, str]]:
    """(kind, target) of each relation. TypeError where a relation is no pair."""
    edges = []
    for relation in relations:
        if relation is None:  # in some RadGraph files, an entity without relations has [null]
            continue
        if not isinstance(relation, list) or len(relation) != 2:
            raise TypeError(f"relation {relation!r}")
        kind, target = relation
        edges.append((kind, str(target)))
        if kind not in RELATIONS:
            problems.append(Problem("unknown relation", f"{kind} of entity {key}"))
    return edges
