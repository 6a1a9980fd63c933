"""A metric is declared once, as a `Metric`: its column, its number format and the function that computes it.

Every task has a dict of its metrics (`METRICS` in mavl.metrics.classification, grounding and segmentation). The tables,
the CSV and JSON files and the pages take names, headings and formats from there, so an entry is all a new metric needs.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isnan
from typing import Any

from mavl.metrics.intervals import FEWEST, Interval
from mavl.metrics.score_intervals import Estimate


def percent(value: float) -> str:
    """The value in percent with one decimal, such as 12.3; a dash for NaN."""
    return "–" if isnan(value) else f"{100 * value:.1f}"


def ratio(value: float) -> str:
    """The value with two decimals, such as 1.25; a dash for NaN."""
    return "–" if isnan(value) else f"{value:.2f}"


@dataclass(frozen=True)
class Metric:
    """One column of a result."""

    name: str  # key in code, CSV and JSON
    heading: str  # of the column, short enough for a terminal of 80 columns
    title: str  # in a sentence
    function: Callable[[Any], Any]  # computes the values; its argument is described at each METRICS
    note: str = ""  # explanation below a table (the title if empty)
    format: Callable[[float], str] = percent
    needs_threshold: bool = False  # NaN without one
    interval: bool = True  # whether there is an interval and a mean over the classes
    estimate: Estimate | None = None  # what gives the interval; None: the bootstrap
    fewest: int = FEWEST  # images or groups of each label that its bootstrap needs

    def bounds(self, interval: Interval) -> str:
        """The bounds of the interval, such as 12.3–45.6; empty where it has none."""
        return "" if isnan(interval.low) else f"{self.format(interval.low)}–{self.format(interval.high)}"


def by_name(*metrics: Metric) -> dict[str, Metric]:
    """{name: metric}, in the given order, which is that of the columns in the files."""
    return {metric.name: metric for metric in metrics}


def columns(metrics: Mapping[str, Metric], names: Iterable[str]) -> list[Metric]:
    """The named metrics in the order of a table: first those that need no threshold."""
    return sorted((metrics[name] for name in names), key=lambda metric: metric.needs_threshold)
