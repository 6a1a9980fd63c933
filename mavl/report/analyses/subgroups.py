"""Results by subgroups of patients: two tables of a result folder, and what the page shows of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mavl.metrics.subgroups import Diagnosis, FindingBySubgroup
from mavl.report.tables import write_rows

SUBGROUPS, DIAGNOSES = "subgroups.csv", "diagnoses.csv"


def write_subgroups(findings: Sequence[FindingBySubgroup], diagnoses: Sequence[Diagnosis], folder: Path) -> None:
    """Write the tables that have a row."""
    rows: list[dict[str, Any]] = []
    for of in findings:
        for each in of.subgroups:
            place = {"attribute": of.attribute, "finding": of.finding, "subgroup": each.name}
            counts = {"n": each.n, "positives": each.positives}
            gap = of.gap if of.gap and each.name == of.gap.higher else None
            row = place | counts | {"auroc": each.auroc, "missed": each.missed, "flagged": each.flagged}
            rows.append(row | {"higher_than": gap.lower if gap else "", **_gap(gap)})
    if rows:
        write_rows(rows, folder / SUBGROUPS)
    if diagnoses:
        write_rows([vars(each) for each in diagnoses], folder / DIAGNOSES)


def _gap(gap: Any) -> dict[str, Any]:
    names = ("by", "by_low", "by_high")
    values = (gap.difference.value, gap.difference.low, gap.difference.high) if gap else ("", "", "")
    return dict(zip(names, values, strict=True))
