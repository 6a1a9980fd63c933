"""The list of a split made of one file or several: rows chosen by their cells, other tables joined by a key."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import Field, model_validator

from mavl.data.benchmarks.rows import BenchmarkError, Problem
from mavl.data.benchmarks.tables import SplitName, Table, TableFormat, fold, of_split, read_table
from mavl.vocab import unknown_name

Cells = tuple[str | int | float, ...]


class Join(TableFormat):
    """Another table, whose columns are added to the rows that have the same text in a column.

    file: its path under the root. on: the column in the list; key: the column in this table, where its name is another.
    columns: those to add (all when empty). A column that both have stays as it is; where its cells differ is a problem.
    missing: rows without a partner are refused, get blank cells, or are dropped. many: a row for each partner; without
    it several partners with different cells are refused.
    """

    file: str
    on: str
    key: str | None = None
    columns: tuple[str, ...] = ()
    missing: Literal["refuse", "blank", "drop"] = "refuse"
    many: bool = False

    @model_validator(mode="after")
    def _has_names(self) -> Self:
        if not self.header:
            raise ValueError("a table to join needs the names of its columns in a header")
        return self


class ListFormat(TableFormat):
    """How the list of a split is written, and which of its rows are read.

    where: {column: texts} keeps the rows with one of these texts, in any case, or {column: {split: texts}} where the
    file holds several splits. join: other tables, one after the other; `where` may name their columns, too.
    """

    where: dict[str, Cells | dict[SplitName, Cells]] = Field(default_factory=dict)
    join: tuple[Join, ...] = ()


def read_list(file: Path, form: ListFormat, split: str, root: Path) -> Table:
    """The chosen rows of a split file with the columns of the joined tables.

    BenchmarkError for what cannot be read, and where no row is left; rows without a partner are problems of the table.
    """
    table = read_table(file, form)
    where = {column.strip(): of if isinstance(of, tuple) else of_split(of, split) for column, of in form.where.items()}
    table = _filtered(table, where)
    for join in form.join:
        if not (path := root / join.file).is_file():
            raise _unusable(path, "this table, which table.join names, is missing: check table.join, and root")
        table = _joined(table, join, read_table(path, join))
    for column in where:
        table.column(column)  # a column that is still missing becomes a problem
    return _filtered(table, where)


def _unusable(file: Path, text: str) -> BenchmarkError:
    return BenchmarkError([Problem("split_file", file, text)])


def _filtered(table: Table, where: Mapping[str, Cells]) -> Table:
    """The rows that have one of the texts in each column, of those columns that the table has."""
    for column, texts in where.items():
        if column not in table.cells.columns:
            continue
        wanted, cells = {fold(str(text)) for text in texts}, table.column(column)
        kept = [row for row, cell in enumerate(cells) if fold(cell) in wanted]
        if not kept:
            held = ", ".join(map(repr, list(dict.fromkeys(cells))[:8]))
            wished = ", ".join(map(repr, map(str, texts)))
            raise _unusable(table.file, f"table.where: no row has {wished} in column {column!r}, which holds {held}")
        table = table.take(kept)
    return table


def _joined(table: Table, join: Join, other: Table) -> Table:
    """A table with the columns of another one, a row for each partner."""
    keys, own = table.column(join.on), other.column(join.key or join.on)
    table.problems.extend(other.problems)
    if not keys or not own:
        return table
    added = _added_columns(table, join, other)
    partners: dict[str, list[int]] = {}
    cells = list(zip(*(other.column(column) for column in added), strict=True)) or [()] * len(other)
    for row, key in enumerate(own):
        partners.setdefault(key, []).append(row)
    pairs: list[tuple[int, int | None]] = []
    refused: set[str] = set()
    for row, key in enumerate(keys):
        of_key = partners.get(key, []) if key else []
        if len(of_key) > 1 and not join.many:
            if len({cells[place] for place in of_key}) > 1 and key not in refused:
                refused.add(key)
                places = " and ".join(other.place(place) for place in of_key[:2])
                fix = "set table.join.many for a row each, or table.join.columns to what is the same"
                table.report(row, "bad_row", f"{key!r} has different cells in {places}: {fix}")
            of_key = of_key[:1]
        if not of_key and join.missing == "refuse":
            fix = "set table.join.missing to blank or drop where that is right"
            table.report(row, "bad_row", f"{other.file.name} has no row of {key!r} ({join.on}): {fix}")
        if of_key or join.missing != "drop":
            pairs += [(row, place) for place in of_key or [None]]
    if not pairs:
        raise _unusable(other.file, f"none of its rows is of a {join.on} in {table.file.name}: check table.join.on")
    return _beside(table, other, added, cells, pairs)


def _added_columns(table: Table, join: Join, other: Table) -> list[str]:
    """The columns of the other table that the rows get, or are compared with."""
    names = [name for name in map(str, other.cells.columns) if name and name != (join.key or join.on).strip()]
    for name in join.columns:
        if name not in names:
            text = f"table.join.columns: {unknown_name('column', name, names)}"
            table.problems.append(Problem("column", other.file, text))
    return [name for name in names if not join.columns or name in join.columns]


def _beside(
    table: Table, other: Table, added: Sequence[str], cells: Sequence[tuple], pairs: Sequence[tuple[int, int | None]]
) -> Table:
    """The rows of the pairs with the added cells, blank where there is no partner; contrary cells are problems."""
    rows = table.take([row for row, _ in pairs])
    new: dict[str, list[str]] = {}
    for position, name in enumerate(added):
        column = ["" if place is None else cells[place][position] for _, place in pairs]
        if name not in table.cells.columns:
            new[name] = column
            continue
        for row, (mine, theirs) in enumerate(zip(rows.column(name), column, strict=True)):
            if pairs[row][1] is not None and fold(mine) != fold(theirs):
                place = f"{other.file.name}:{other.lines[pairs[row][1] or 0]}"
                fix = "give the right table.join.on, or table.join.columns without it"
                rows.report(row, "bad_row", f"{name} is {mine!r} here and {theirs!r} in {place}: {fix}")
                break
    beside = pd.DataFrame(new, index=rows.cells.index, dtype=object)
    return replace(rows, cells=pd.concat([rows.cells, beside], axis=1)) if new else rows
