"""What the reports share: tables for the terminal, CSV and JSON files, and the summary of several seeds."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mavl.files import whole_file, write_json
from mavl.metrics.intervals import Interval
from mavl.metrics.metric import Metric, percent

if TYPE_CHECKING:
    from rich.table import Table

TABLE, RESULTS = "results.csv", "results.json"
SUMMARY_TABLE, SUMMARY = "summary.csv", "summary.json"

SOURCES = {"test": "the test images themselves", "validation": "validation data"}
"""{threshold source: its name in a sentence}"""


def new_table(title: str, headings: Sequence[str], notes: Sequence[str] = ()) -> Table:
    """An empty table for 80 columns, with the notes below: names in the first column, numbers in the others."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, "bold"), box=SIMPLE_HEAD, show_edge=False, padding=0, pad_edge=False)
    table.caption, table.caption_justify = Text("\n".join(["", *notes]), "dim not italic"), "left"
    first, *others = headings
    table.add_column(first, min_width=8, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def add_row(table: Table, name: str, cells: Iterable[str], style: str = "") -> None:
    """A row with the name as it is, without markup."""
    from rich.text import Text

    table.add_row(Text(name), *cells, style=style)


def metric_headings(metrics: Sequence[Metric], bounded: Collection[str]) -> list[str]:
    """The headings of metrics; those with their names in `bounded` have a second column for the interval."""
    return [
        heading
        for metric in metrics
        for heading in ([metric.heading, "95 %"] if metric.name in bounded else [metric.heading])
    ]


def metric_cells(metrics: Sequence[Metric], means: Mapping[str, Interval], bounded: Collection[str]) -> Iterator[str]:
    """The cells below `metric_headings`; empty for a metric that `means` lacks."""
    for metric in metrics:
        found = means.get(metric.name)
        yield metric.format(found.value) if found else ""
        if metric.name in bounded:
            yield metric.bounds(found) if found else ""


def legend(metrics: Sequence[Metric], titles: bool = False) -> str:
    """One sentence that explains the headings of these metrics, or their titles, which need no more than the note."""
    names = {m.title: m.note for m in metrics if m.note} if titles else {m.heading: m.note or m.title for m in metrics}
    return "; ".join(f"{name}: {text}" for name, text in names.items()) + "."


def write_rows(rows: Sequence[dict], path: Path | str) -> None:
    """A CSV of these rows with the columns of the first; an interval takes three columns, NaN is an empty cell."""
    flat = [_flat(row) for row in rows]
    with whole_file(Path(path)) as file:
        writer = csv.DictWriter(file, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)


def dump_json(content: dict, path: Path | str) -> None:
    """Write `content` as JSON: dataclasses as objects, NaN and infinities as null, NumPy arrays as lists."""
    write_json(Path(path), _plain(content))


def plus_minus(figure: Mapping[str, float], format: Callable[[float], str] = percent) -> str:
    """A result of `mean_and_std` such as 81.2 ± 0.9; without the second part for one seed, a dash for none."""
    spread = "" if isnan(figure["std"]) else f" ± {format(figure['std'])}"
    return f"{format(figure['mean'])}{spread}"


def seeds_table(
    rows: Mapping[str, Mapping[str, dict]],
    metrics: Sequence[Metric],
    title: str,
    first: str,
    *,
    styles: Mapping[str, str],
    notes: Sequence[str] = (),
) -> Table:
    """A row for each name: mean ± standard deviation over the seeds.

    Args:
        rows: {name: {metric: result of mean_and_std}}.
        first: heading of the names.
        styles: {name: style}; a bold row is separated from those above.
    """
    table = new_table(title, [first, *(metric.heading for metric in metrics)], notes)
    for name, figures in rows.items():
        if styles.get(name) == "bold":
            table.add_section()
        add_row(table, name, (plus_minus(figures[m.name], m.format) for m in metrics), styles.get(name, ""))
    return table


def write_summary(summary: dict, rows: Mapping[str, Mapping[str, dict]], folder: Path) -> None:
    """The summary of the seeds as JSON, and its rows {name: {metric: mean_and_std}} as CSV."""
    dump_json(summary, folder / SUMMARY)
    ends = ("mean", "std")
    flat = [
        {"name": name} | {f"{metric}_{end}": figure[end] for metric, figure in figures.items() for end in ends}
        for name, figures in rows.items()
    ]
    write_rows(flat, folder / SUMMARY_TABLE)


def _flat(row: dict) -> dict:
    flat = {}
    for key, value in row.items():
        if isinstance(value, Interval):
            flat |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        else:
            flat[key] = value
    return {key: "" if isinstance(value, float) and isnan(value) else value for key, value in flat.items()}


def _plain(value: object) -> object:
    """`value` in the types of JSON."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
