"""What the reports share: tables for the terminal, CSV and JSON files, and the summary of several seeds."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic_core import to_json

from mavl.files import csv_cell, csv_writer, distinct, parse_json, printable, whole_file, write_json
from mavl.metrics.intervals import Interval
from mavl.metrics.metric import Metric

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from mavl.data.benchmarks.splits import Split

TABLE, RESULTS = "results.csv", "results.json"
SUMMARY_TABLE, SUMMARY = "summary.csv", "summary.json"

NEW = "†"
"""The mark of a finding that the model was never trained on."""

SOURCES = {"test": "the test images themselves", "validation": "validation data"}
"""{threshold source: its name in a sentence}"""


def new_table(title: str, headings: Sequence[str], notes: Sequence[str] = ()) -> Table:
    """An empty table for 80 columns, with the notes below: names in the first column, numbers in the others."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(printable(title), "bold"), box=SIMPLE_HEAD, show_edge=False, padding=0, pad_edge=False)
    caption = printable("\n".join(["", *filter(None, notes)]))
    table.caption, table.caption_justify = Text(caption, "dim not italic"), "left"
    table.add_column(Text(printable(headings[0])), min_width=8, overflow="fold")
    for heading in headings[1:]:
        table.add_column(Text(printable(heading)), justify="right", no_wrap=True)
    return table


def add_row(table: Table, name: str, *cells: str, style: str = "") -> None:
    """A row of these texts, without markup."""
    from rich.text import Text

    table.add_row(*(Text(printable(text)) for text in (name, *cells)), style=style)


def metric_headings(metrics: Sequence[Metric], bounded: Collection[str]) -> list[str]:
    """The headings of metrics; those with their names in `bounded` have a second column for the interval."""
    return [text for metric in metrics for text in (metric.heading, "95 %")[: 1 + (metric.name in bounded)]]


def metric_cells(metrics: Sequence[Metric], means: Mapping[str, Interval], bounded: Collection[str]) -> Iterator[str]:
    """The cells below `metric_headings`; empty for a metric that `means` lacks."""
    for metric in metrics:
        found = means.get(metric.name)
        cells = (metric.format(found.value), metric.bounds(found)) if found else ("", "")
        yield from cells[: 1 + (metric.name in bounded)]


def legend(metrics: Sequence[Metric], titles: bool = False) -> str:
    """One sentence that explains the headings of these metrics, or their titles, which need no more than the note."""
    names = {m.title: m.note for m in metrics if m.note} if titles else {m.heading: m.note or m.title for m in metrics}
    return "; ".join(f"{name}: {text}" for name, text in names.items()) + "."


def write_rows(rows: Sequence[dict], path: Path | str) -> None:
    """A CSV of these rows with the columns of the first; an interval takes three columns, NaN is an empty cell."""
    flat = [_flat(row) for row in rows]
    with whole_file(Path(path)) as file:
        writer = csv_writer(file)
        writer.writerow(flat[0])
        writer.writerows([row.get(column, "") for column in flat[0]] for row in flat)


def write_images(split: Split, columns: Mapping[str, np.ndarray], path: Path, digits: int | None = 9) -> None:
    """A CSV with a line for each image: path, row, group if any, then these columns [n]; digits as of `write_frame`."""
    import pandas as pd

    groups = {} if split.groups is None else {"group": split.groups}
    lines = pd.DataFrame({"path": [str(path) for path in split.paths], "row": split.rows, **groups, **columns})
    if digits is None:
        lines = lines.astype(dict.fromkeys(lines.select_dtypes("floating"), float))
    write_frame(lines, path, digits)


def write_frame(frame: pd.DataFrame, path: Path, digits: int | None = 9) -> None:
    """A CSV of the frame without its index; NaN is an empty cell. digits: of numbers, None for all that they have."""
    with whole_file(path) as file:
        plain = frame.rename(columns=csv_cell).map(csv_cell)
        plain.to_csv(file, index=False, float_format=None if digits is None else f"%.{digits}g")


def dump_json(content: dict, path: Path | str) -> None:
    """Write `content` as JSON: dataclasses as objects, NaN and infinities as null, NumPy arrays as lists."""
    plain = to_json(content, inf_nan_mode="null", fallback=lambda array: array.tolist())
    write_json(Path(path), json.loads(plain))


def read_json(path: Path) -> dict:
    """The content of a file by `dump_json`, with its intervals as such."""

    def decode(pairs: list[tuple[str, Any]]) -> dict | Interval:
        entry = distinct(pairs)
        bounds = (np.nan if value is None else value for value in entry.values())
        return Interval(*bounds) if list(entry) == ["value", "low", "high"] else entry

    return parse_json(path.read_bytes(), str(path), decode)


def mean_and_std(seeds: Sequence[Interval | float | None]) -> dict[str, float | list[float]]:
    """Values of several seeds -> {mean, std of a sample, values}; NaN and None are undefined and not counted."""
    values = np.array([x.value if isinstance(x, Interval) else x for x in seeds], dtype=float)
    known = values[~np.isnan(values)]
    mean = known.mean() if len(known) else np.nan
    std = known.std(ddof=1) if len(known) > 1 else np.nan
    return {"mean": float(mean), "std": float(std), "values": values.tolist()}


def over_seeds(seeds: Sequence[Mapping[str, Mapping[str, Interval]]]) -> dict[str, dict[str, dict]]:
    """{row: {metric: Interval or value}} of each seed -> {row: {metric: mean_and_std}} of the metrics of all seeds."""
    return {
        row: {
            metric: mean_and_std([seed[row][metric] for seed in seeds])
            for metric in metrics
            if all(metric in seed[row] for seed in seeds)
        }
        for row, metrics in seeds[0].items()
    }


def show_seeds(
    summary: dict,
    rows: Mapping[str, Mapping[str, dict]],
    metrics: Sequence[Metric],
    folder: Path,
    *,
    headings: tuple[str, str],
    styles: Mapping[str, str],
    note: str = "",
) -> None:
    """Print the means over several seeds, and write them in any case: the summary as JSON, its rows as CSV.

    rows: the result of `over_seeds`; headings: of the table, and of the names of its rows; styles: {row: style}.
    """
    from rich.console import Console

    title, first = headings
    if (number := len(summary["seeds"])) > 1:
        title = f"{title}: mean ± standard deviation of {number} seeds"
        table = new_table(title, [first, *(metric.heading for metric in metrics)], [note])
        for row, figures in rows.items():
            if styles.get(row) == "bold":
                table.add_section()
            add_row(table, row, *(plus_minus(figures[m.name], m) for m in metrics), style=styles.get(row, ""))
        Console().print(table)
    dump_json(summary, folder / SUMMARY)
    flat = [
        {"name": row} | {f"{metric}_{end}": of[end] for metric, of in figures.items() for end in ("mean", "std")}
        for row, figures in rows.items()
    ]
    write_rows(flat, folder / SUMMARY_TABLE)
    print(f"summary: {folder / SUMMARY_TABLE}")


def plus_minus(figure: Mapping[str, float], metric: Metric) -> str:
    """A result of `mean_and_std` such as 81.2 ± 0.9; without the second part for one seed, a dash for none."""
    spread = "" if isnan(figure["std"]) else f" ± {metric.format(figure['std'])}"
    return f"{metric.format(figure['mean'])}{spread}"


def _flat(row: dict) -> dict:
    flat = {}
    for key, value in row.items():
        if isinstance(value, Interval):
            flat |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
        else:
            flat[key] = value
    return {key: "" if isinstance(value, float) and isnan(value) else value for key, value in flat.items()}
