"""A comparison of models on one benchmark: leaderboard and differences as tables, CSV, LaTeX, JSON and a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mavl.config.evaluation import Published
from mavl.files import printable, write_text
from mavl.metrics.classification import METRICS, Evaluation
from mavl.metrics.comparison import Difference
from mavl.metrics.intervals import FEWEST
from mavl.metrics.metric import percent
from mavl.progress import plural
from mavl.report import page
from mavl.report.folder import COMPARED
from mavl.report.tables import add_row, dump_json, new_table, write_rows

if TYPE_CHECKING:
    from rich.table import Table

LEADERBOARD, DIFFERENCES, LATEX, JSON, PAGE = COMPARED
SHOWN = ("auroc", "average_precision", "best_f1")
"""Metrics of a leaderboard, whose means do not need a threshold."""


class Contestant(Protocol):
    """A model with its result."""

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> dict: ...
    @property
    def evaluation(self) -> Evaluation: ...


class Pair(Protocol):
    """A model beside the first."""

    @property
    def name(self) -> str: ...
    @property
    def difference(self) -> Difference: ...
    @property
    def adjusted(self) -> dict[str, float]: ...
    @property
    def independent(self) -> dict[str, float]: ...


class Comparison(Protocol):
    """As of mavl.evaluate.comparison."""

    @property
    def contestants(self) -> Sequence[Contestant]: ...
    @property
    def findings(self) -> Sequence[str]: ...
    @property
    def pairs(self) -> Sequence[Pair]: ...
    @property
    def left_out(self) -> dict[str, list[str]]: ...
    @property
    def resamples(self) -> int: ...
    @property
    def warnings(self) -> Sequence[str]: ...
    @property
    def published(self) -> Sequence[Published]: ...


def ranked(comparison: Comparison) -> list[Contestant]:
    """By falling mean AUROC."""
    return sorted(comparison.contestants, key=lambda each: -each.evaluation.means["auroc"].value)


def leaderboard(comparison: Comparison, title: str) -> Table:
    """A row for each model, the best first."""
    table = new_table(title, ["model", *(text for name in SHOWN for text in (METRICS[name].heading, "95 %"))])
    for each in ranked(comparison):
        means = each.evaluation.means
        cells = [text for name in SHOWN for text in (percent(means[name].value), METRICS[name].bounds(means[name]))]
        add_row(table, each.name, *cells)
    if comparison.published:
        table.add_section()
        for figures in comparison.published:
            f1 = "" if figures.best_f1 is None else f"{figures.best_f1:.1f}"
            cells = [f"{figures.auroc:.1f}", "", "", "", f1, ""]
            add_row(table, f"{figures.model}, published ({figures.protocol}; {figures.source})", *cells, style="dim")
    return table


def differences(comparison: Comparison, pair: Pair) -> Table:
    """A row for each finding, and for the mean: AUROC of the model minus that of the first, in percentage points."""
    title = f"AUROC of {pair.name} minus that of {comparison.contestants[0].name}"
    table = new_table(title, ["finding", "points", "95 %", "p", "p, Holm", "p, DeLong"], [*notes(comparison)])
    for row in _rows(comparison, pair):
        cells = [_points(row["difference"]), _span(row["low"], row["high"])]
        cells += [_p(row[name]) for name in ("p", "p_holm", "p_delong")]
        add_row(table, row["finding"], *cells, style="bold" if row["finding"] == "mean" else "")
    return table


def notes(comparison: Comparison) -> Iterator[str]:
    """How the numbers were computed, and what to mind, one sentence each."""
    first = comparison.contestants[0].evaluation
    units = plural(first.images, "image") if first.groups is None else f"{plural(first.groups, 'group')} of images"
    yield f"95 % and p: bootstrap of {comparison.resamples} resamples of {units}, the same for both models."
    yield f"None below {FEWEST} of either label. Holm: adjusted for the number of findings."
    yield "DeLong: as if images were independent; too small where several are of one patient."
    for name, findings in comparison.left_out.items():
        yield f"Not in all results, and left out: {', '.join(findings)} ({name})."
    yield from comparison.warnings


def write(comparison: Comparison, folder: Path) -> None:
    """Write all files into a folder."""
    title = comparison.contestants[0].about["title"]
    rows = [{"model": each.name} | {name: each.evaluation.means[name] for name in SHOWN} for each in ranked(comparison)]
    published = [
        {"model": f"{each.model}, published", "published_auroc": each.auroc, "published_best_f1": each.best_f1}
        | {"protocol": each.protocol, "source": each.source}
        for each in comparison.published
    ]
    if published:
        rows[0] |= dict.fromkeys(list(published[0])[1:], "")
    write_rows([*rows, *published], folder / LEADERBOARD)
    write_rows([row for pair in comparison.pairs for row in _rows(comparison, pair)], folder / DIFFERENCES)
    write_text(folder / LATEX, latex(comparison))
    contestants = [{"name": each.name, "about": each.about} for each in comparison.contestants]
    pairs = [_rows(comparison, pair) for pair in comparison.pairs]
    about = {"title": title, "findings": list(comparison.findings), "left_out": comparison.left_out}
    dump_json(about | {"warnings": list(comparison.warnings), "models": contestants, "pairs": pairs}, folder / JSON)
    html = page.render(
        "comparison.html",
        title=title,
        models=ranked(comparison),
        shown=[METRICS[name] for name in SHOWN],
        published=comparison.published,
        pairs=[(pair.name, _rows(comparison, pair)) for pair in comparison.pairs],
        first=comparison.contestants[0].name,
        reach=_reach(comparison),
        notes=list(notes(comparison)),
        p=_p,
        points=_points,
        span=_span,
    )
    write_text(folder / PAGE, html)


def latex(comparison: Comparison) -> str:
    """The leaderboard as a tabular of booktabs, with the interval below each mean."""
    lines = [rf"\begin{{tabular}}{{l{'c' * len(SHOWN)}}}", r"\toprule"]
    lines += [" & ".join(["Model", *(METRICS[name].heading for name in SHOWN)]) + r" \\", r"\midrule"]
    for each in ranked(comparison):
        means = [each.evaluation.means[name] for name in SHOWN]
        bounds = [METRICS[name].bounds(mean) for name, mean in zip(SHOWN, means, strict=True)]
        shown = [rf" {{\small ({text})}}" if text else "" for text in bounds]
        cells = [f"{percent(mean.value)}{text}" for mean, text in zip(means, shown, strict=True)]
        lines.append(" & ".join([_escape(each.name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _escape(text: str) -> str:
    """Text for LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, "\\" + c if c in "&%$#_{}" else c) for c in printable(text))


def _rows(comparison: Comparison, pair: Pair) -> list[dict[str, Any]]:
    """The differences of a pair; the last row is the mean."""
    first, of = comparison.contestants[0].name, pair.difference
    rows = [
        (name, of.classes[name], of.p[name], pair.adjusted[name], pair.independent[name])
        for name in comparison.findings
    ]
    rows.append(("mean", of.mean, of.p_mean, float("nan"), float("nan")))
    return [
        {
            **{"model": pair.name, "minus": first, "finding": name},
            **{"difference": interval.value, "low": interval.low, "high": interval.high},
            **{"p": p, "p_holm": adjusted, "p_delong": independent},
        }
        for name, interval, p, adjusted, independent in rows
    ]


def _reach(comparison: Comparison) -> float:
    """The largest bound of a difference, to scale the drawing of intervals."""
    rows = [row for pair in comparison.pairs for row in _rows(comparison, pair)]
    bounds = [abs(row[name]) for row in rows for name in ("difference", "low", "high") if row[name] == row[name]]
    return max([*bounds, 0.01])


def _points(value: float) -> str:
    return "" if value != value else f"{100 * value:+.1f}"


def _span(low: float, high: float) -> str:
    return "" if low != low else f"{100 * low:+.1f} to {100 * high:+.1f}"


def _p(value: float) -> str:
    """Three digits, or < 0.001; empty for none."""
    return "" if value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"
