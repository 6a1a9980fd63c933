"""Attributes of images, such as sex, age or view, as subgroups: a column, its values by name, numbers in bands."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from mavl.config.loader import Settings
from mavl.data.benchmarks.rows import Problem
from mavl.data.benchmarks.tables import Column, Table
from mavl.files import printable
from mavl.vocab import unknown_name

MOST_SUBGROUPS = 30
"""More values than this are no subgroups: such as identifiers, or ages without bands."""


def _rising(bands: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(bands)):
        raise ValueError("the bands are not in rising order")
    return bands


class Attribute(Settings):
    """A column of the list. names: the subgroup that a text stands for, null for none; other texts are the subgroups.

    bands: numbers from which a new subgroup begins, as [40, 60]: below 40, 40 to below 60, 60 and above; a text that is
    no number is in none. unit: of the numbers, removed from the end of a text, as the Y of 058Y.
    """

    column: Column
    names: dict[str, str | None] = Field(default_factory=dict)
    bands: Annotated[tuple[float, ...], AfterValidator(_rising)] = ()
    unit: str = ""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.names and self.bands:
            raise ValueError("names and bands are two ways to make subgroups: keep one of them")
        return self

    def read(self, table: Table, attribute: str) -> list[str]:
        """The subgroup of each row, "" for none; a tolerated problem where the column is missing, or no subgroups."""
        names = [self.column] if isinstance(self.column, int | str) else self.column
        known = list(range(table.cells.shape[1]) if isinstance(self.column, int) else table.cells.columns)
        if not any(name in known for name in names):
            text = f"{attribute}: {unknown_name('column', str(names[0]), map(str, known))}"
            table.problems.append(Problem("metadata", table.file, text, tolerated=True))
            return [""] * len(table)
        texts = [" ".join(text.split()) for text in table.column(self.column)]
        named = {text.casefold(): name for text, name in self.names.items()}
        found = [self._band(text) if self.bands else named.get(text.casefold(), text) or "" for text in texts]
        found = [printable("" if name.casefold() in ("nan", "unknown") else name) for name in found]
        if (number := len(set(found))) > MOST_SUBGROUPS:
            fix = f"give metadata.{attribute} bands of numbers, or names of its values"
            table.report(0, "metadata", f"{attribute} has {number} different values: {fix}", tolerated=True)
            return [""] * len(found)
        return found

    def _band(self, text: str) -> str:
        try:
            number = float(text.removesuffix(self.unit).strip() if self.unit else text)
        except ValueError:
            return ""
        return band(number, self.bands)


def band(number: float, bands: Sequence[float]) -> str:
    """The name of the band of a number; "" for NaN.

    >>> [band(age, (40, 60)) for age in (39.5, 40, 59, 60)]
    ['below 40', '40 to 60', '40 to 60', '60 and above']
    """
    if number != number:
        return ""
    position = sum(number >= low for low in bands)
    if position == 0:
        return f"below {bands[0]:g}"
    return f"{bands[-1]:g} and above" if position == len(bands) else f"{bands[position - 1]:g} to {bands[position]:g}"
