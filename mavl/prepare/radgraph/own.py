"""The split, view and study of each image of a table of any hospital, whose reports have graphs."""

from pathlib import Path
from typing import NamedTuple

from mavl.data.benchmarks.benchmark import view_column
from mavl.data.benchmarks.rows import raise_problems
from mavl.data.benchmarks.tables import TableFormat, normal_path, read_table
from mavl.prepare.radgraph.labels import TORN, Problem
from mavl.prepare.radgraph.mimic import UNREADABLE, StudyImage
from mavl.prepare.splits import SPLIT_NAMES, hashed_split, torn_groups


class Columns(NamedTuple):
    """Names of columns. patient: whose images a split by hash keeps together, those of a study without it."""

    image: str
    study: str | None = None
    patient: str | None = None
    split: str | None = None


def study_of(name: str) -> str:
    """The study of a graph's name, and of a cell of the study column: all of it but .txt at the end."""
    return name.removesuffix(".txt")


def read_table_of_images(file: Path, columns: Columns, seed: int, problems: list[Problem]) -> list[StudyImage]:
    """Each image of a table. A row with a fault is reported and left out, as is a repeated image.

    Without a study column the study of a row is its number, from 0, as the `radgraph` package names the graphs of a
    list. Without a split column a hash of the seed and the patient or study decides. BenchmarkError for a file that is
    no table and for columns that it does not have.
    """
    table = read_table(file, TableFormat())
    cells = {name: table.column(name) for name in filter(None, columns)}
    views = view_column(table)
    raise_problems(table.problems)
    found, groups = {}, []
    for row, path in enumerate(map(normal_path, cells[columns.image])):
        place, study = table.place(row), study_of(cells[columns.study][row]) if columns.study else str(row)
        group = (cells[columns.patient][row] if columns.patient else "") or study
        given = cells[columns.split][row] if columns.split else hashed_split(group, seed)
        split = SPLIT_NAMES.get(given.lower())
        if not path or not study:
            problems.append(Problem(UNREADABLE, place, "it names no image" if not path else "it names no study"))
        elif split is None:
            problems.append(Problem("unknown split", place, f"{given!r}; expected one of {', '.join(SPLIT_NAMES)}"))
        elif path in found:
            problems.append(Problem("image twice", path, f"again at {place}, as {split}; the first row counts"))
        else:
            found[path] = StudyImage(path, split, (views[row] or None) if views else None, study)
            groups.append((group, split))
    problems += [Problem(TORN, group, detail) for group, detail in torn_groups(groups)]
    return list(found.values())
