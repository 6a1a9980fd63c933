"""A report's RadGraph graph -> its label matrix, sentence by sentence (SPEC §7). Pure functions.

A graph is an entry of RadGraph 1.0.0's MIMIC-CXR_graphs.json, {"text": tokens with spaces between, "entities": {id:
{"tokens", "label", "start_ix", "relations": [[kind, target id], …]}}}. Whatever is wrong with one becomes a `Problem`;
the rest of it still counts.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from mavl.prepare.problems import Problem
from mavl.prepare.radgraph.rules import UNSPECIFIED, anatomy_row, finding_column
from mavl.vocab import ABSENT, ANATOMIES, FINDINGS, PRESENT, UNKNOWN

SHAPE = (len(ANATOMIES), len(FINDINGS))
ANATOMY = "ANAT-DP"
OBSERVATIONS = {"OBS-DP": PRESENT, "OBS-DA": ABSENT, "OBS-U": UNKNOWN}
LOCATED_AT, MODIFY = "located_at", "modify"
RELATIONS = frozenset({LOCATED_AT, MODIFY, "suggestive_of"})
SENTENCE_ENDS = frozenset(".?!")

_fields = itemgetter("tokens", "label", "start_ix", "relations")


class _Entity(NamedTuple):
    words: str
    label: str
    sentence: int
    edges: list[tuple[str, str]]  # kind, target


def label_matrix(graph: object) -> tuple[np.ndarray, list[Problem]]:
    """The matrix int8 [51, 75] of what a report says, 1 present, 0 absent, -1 not said, and the graph's problems.

    An observation is noted where it is located, or at `unspecified` when no edge leaves it. With edges that lead to no
    place of its sentence (a size that only modifies, a relation that dangles) it is noted nowhere.
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
    """Id of an anatomy -> rows of the places it is part of: a root, which no edge leaves, with what modifies it."""
    anatomies = {key: entity for key, entity in entities.items() if entity.label == ANATOMY}
    groups = {key: [key] for key, entity in anatomies.items() if not entity.edges}
    for key, entity in anatomies.items():
        for kind, target in entity.edges:
            if kind == MODIFY and target in groups and entities[target].sentence == entity.sentence:
                groups[target].append(key)
    places = defaultdict(set)
    for group in groups.values():
        row = anatomy_row("|".join(entities[key].words for key in group))
        for key in group:
            places[key].add(row)
    return places


def _rows(entity: _Entity, entities: Mapping[str, _Entity], places: Mapping[str, set[int]]) -> set[int]:
    """The rows at which an observation is noted."""
    if not entity.edges:
        return {anatomy_row(UNSPECIFIED)}
    return {
        row
        for kind, target in entity.edges
        if kind == LOCATED_AT and target in places and entities[target].sentence == entity.sentence
        for row in places[target]
    }


# Reading, with an eye on what may be wrong ----------------------------------------------------------------------------


def _entities(graph: object, problems: list[Problem]) -> dict[str, _Entity]:
    """Entities by id, in the graph's order, which is the order in which the words of a place are joined."""
    if not isinstance(graph, dict):
        problems.append(Problem("report is no graph", type(graph).__name__))
        return {}
    text, raw = graph.get("text"), graph.get("entities")
    tokens = text.split(" ") if isinstance(text, str) and text.strip() else []
    if not isinstance(raw, dict):
        problems.append(Problem("report is no graph", f"its entities are a {type(raw).__name__}"))
        return {}
    if not tokens:
        problems.append(Problem("empty report"))
    elif not raw:
        problems.append(Problem("report without entities"))
    ends = [place for place, token in enumerate(tokens) if token in SENTENCE_ENDS]
    entities = {}
    for key, fields in raw.items():
        entity = _entity(key, fields, ends, problems)
        if entity is not None:
            entities[key] = entity
            start = fields["start_ix"]
            if tokens and not 0 <= start < len(tokens):
                problems.append(Problem("entity outside the text", f"entity {key} starts at token {start}"))
    problems += _dangling(entities)
    return entities


def _entity(key: str, fields: object, ends: list[int], problems: list[Problem]) -> _Entity | None:
    try:
        words, label, start, relations = _fields(fields)
        if not isinstance(start, int | float):
            raise TypeError(f"start_ix {start!r}")
        entity = _Entity(words.lower(), str(label), bisect_left(ends, start), _edges(key, relations, problems))
    except (AttributeError, KeyError, TypeError, RecursionError) as error:  # the last of showing what is nested
        problems.append(Problem("malformed entity", f"entity {key}: {type(error).__name__} {error}"))
        return None
    if entity.label != ANATOMY and entity.label not in OBSERVATIONS:
        problems.append(Problem("unknown label", f"{label} of entity {key}"))
    return entity


def _edges(key: str, relations: list, problems: list[Problem]) -> list[tuple[str, str]]:
    """TypeError when there is a relation that is no pair."""
    edges = []
    for relation in relations:
        if relation is None:  # how some entries of RadGraph say that there is none
            continue
        if not isinstance(relation, list) or len(relation) != 2:
            raise TypeError(f"relation {relation!r}")
        kind, target = relation
        edges.append((kind, str(target)))
        if kind not in RELATIONS:
            problems.append(Problem("unknown relation", f"{kind} of entity {key}"))
    return edges


def _dangling(entities: Mapping[str, _Entity]) -> Iterator[Problem]:
    for key, entity in entities.items():
        for kind, target in entity.edges:
            if target not in entities:
                yield Problem("dangling relation", f"entity {key} {kind} {target}")
