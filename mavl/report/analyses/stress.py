"""Stress tests of a classification: a table for the terminal, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mavl.metrics.comparison import Difference
from mavl.metrics.metric import percent
from mavl.report.tables import add_row, dump_json, new_table, write_rows

if TYPE_CHECKING:
    from rich.table import Table

STRESS, JSON = "stress.csv", "stress.json"


class Stressed(Protocol):
    """As of mavl.evaluate.stress."""

    @property
    def name(self) -> str: ...
    @property
    def difference(self) -> Difference: ...
    @property
    def moved(self) -> float: ...
    @property
    def order(self) -> float: ...
    @property
    def denied(self) -> float | None: ...


class Result(Protocol):
    @property
    def tests(self) -> Sequence[Stressed]: ...
    @property
    def findings(self) -> Sequence[str]: ...
    @property
    def about(self) -> dict: ...
    @property
    def folder(self) -> Path: ...


def write(result: Result) -> None:
    """Write both files into the folder of the result."""
    write_rows([row for test in result.tests for row in _rows(result, test)], result.folder / STRESS)
    dump_json({"about": result.about, "tests": list(result.tests)}, result.folder / JSON)


def table(result: Result, title: str) -> Table:
    """A row for each test."""
    notes = ["AUROC: mean over the findings, in %. change: in points, by patient. moved: mean distance of two scores."]
    notes.append(
        "order: mean rank correlation with the plain scores. denied: films with a finding where 'no NAME' is as high."
    )
    table = new_table(title, ["stress", "AUROC", "plain", "change", "95 %", "moved", "order", "denied"], notes)
    for test in result.tests:
        mean = test.difference.mean
        bounds = "" if mean.low != mean.low else f"{100 * mean.low:+.1f} to {100 * mean.high:+.1f}"
        cells = [percent(test.difference.first), percent(test.difference.second), f"{100 * mean.value:+.1f}", bounds]
        cells += [f"{test.moved:.3f}", f"{test.order:.3f}", "" if test.denied is None else percent(test.denied)]
        add_row(table, test.name, *cells)
    return table


def _rows(result: Result, test: Stressed) -> list[dict[str, Any]]:
    of = test.difference
    rows = [(name, of.classes[name], of.p[name]) for name in result.findings]
    return [
        {"stress": test.name, "finding": name, "change": interval, "p": p}
        for name, interval, p in [*rows, ("mean", of.mean, of.p_mean)]
    ]
