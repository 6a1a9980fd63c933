"""Agreement of labels with those of another source: a label store, a CSV, or the terms of Open-I's coders.

A finding is present or it is not: absent, uncertain and not mentioned count alike.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mavl.config.data import LABELS, MANIFESTS
from mavl.data import DataError
from mavl.data.benchmarks.labels import ColumnLabels
from mavl.data.benchmarks.rows import raise_problems
from mavl.data.benchmarks.tables import TableFormat, normal_path, read_table
from mavl.data.labels import LabelStore, finding_labels
from mavl.data.samples import examine_manifest
from mavl.files import csv_writer, whole_file
from mavl.prepare.radgraph.labels import COMPARISON, DISAGREEMENTS, Problem
from mavl.prepare.radgraph.manifests import NO_IMAGE
from mavl.prepare.reports.agreement import HEADINGS, agreement_of, macro, micro, rounded
from mavl.prepare.reports.openi import is_openi, read_openi
from mavl.prepare.reports.protocol import Mention
from mavl.prepare.reports.rules import RuleLabeller
from mavl.prepare.reports.sources import Study
from mavl.progress import note, plural
from mavl.report.tables import add_row, new_table
from mavl.text.synonyms import resolve
from mavl.vocab import PRESENT, UnknownFindingError

TERMS = ("major", "automatic")


class Reference(NamedTuple):
    """Labels of another source. labels: {study: findings that are present}; findings: those that it may state."""

    name: str
    findings: frozenset[str]
    labels: dict[str, frozenset[str]]


def read_references(
    path: Path, studies: Sequence[Study], findings: Sequence[str], arguments: argparse.Namespace
) -> list[Reference]:
    """The references at a path; DataError where none of the studies or findings is in one."""
    if (path / LABELS).is_file():
        references = [_store(path, studies, findings)]
    elif is_openi(path):
        references = _coders(path, findings)
    elif path.is_file():
        references = [_table(path, studies, findings, arguments)]
    else:
        raise DataError(f"{path}: expected a folder with {LABELS}, a CSV of labels, or Open-I's reports")
    for reference in references:
        if not reference.findings:
            raise DataError(f"{path}: has none of the findings that are labelled")
        if not any(study.report.study in reference.labels for study in studies):
            raise DataError(
                f"{path}: has none of the {plural(len(studies), 'study')}; the first is {studies[0].report.study!r}"
            )
    return references


def _coders(path: Path, findings: Sequence[str]) -> list[Reference]:
    """The coders' terms of Open-I, `major` and `automatic`; findings that no term names are not compared."""
    problems: list[Problem] = []
    reports, named = read_openi(path, problems), RuleLabeller(findings)
    if problems:
        note(f"{path}: {plural(len(problems), 'problem')}; the first: {': '.join(problems[0])}")
    references = []
    for kind in TERMS:
        labels = {
            report.study: frozenset(finding for term in report.terms[kind] for finding in named.findings_in(term))
            for report in reports
        }
        if known := frozenset().union(*labels.values()):
            references.append(Reference(kind, known, labels))
    return references


def _store(folder: Path, studies: Sequence[Study], findings: Sequence[str]) -> Reference:
    """The labels of a label store, of the studies that share an image with it."""
    try:
        store, rows = LabelStore(folder / LABELS), {}
        number = len(store)
        for path in (folder / name for name in MANIFESTS.values()):
            if path.is_file() and path.stat().st_size > len(NO_IMAGE):
                entries, _ = examine_manifest(path, store.path, number)
                rows |= {normal_path(image): entry["labels_id"] for image, entry in entries.items()}
    except ValueError as error:
        raise DataError(f"{folder}: not a label store ({error})") from error
    names, labels = store.vocabulary.findings, {}
    for study in studies:
        found = next((rows[image.path] for image in study.images if image.path in rows), None)
        if found is not None:
            present = finding_labels(store[found]) == PRESENT
            labels[study.report.study] = frozenset(names[column] for column in np.flatnonzero(present))
    return Reference(folder.name, frozenset(names) & frozenset(findings), labels)


def _table(file: Path, studies: Sequence[Study], findings: Sequence[str], arguments: argparse.Namespace) -> Reference:
    """The labels of a table with a column for each finding, by the study's or the image's name."""
    table = read_table(file, TableFormat())
    columns = list(map(str, table.cells.columns))
    identity = next(
        (name for name in (arguments.study_column, arguments.image_column) if name and name in columns), None
    )
    if identity is None:
        wanted = " or ".join(filter(None, (arguments.study_column, arguments.image_column))) or "image"
        raise DataError(f"{file}: has no column {wanted} to find the studies by; its columns are {', '.join(columns)}")
    column_of = {}
    for column in columns:
        try:
            column_of.setdefault(resolve(column, findings), column)
        except UnknownFindingError:
            continue
    known = list(column_of)
    names = [normal_path(name) if identity == arguments.image_column else name for name in table.column(identity)]
    matrix = ColumnLabels(kind="columns", columns=column_of).read(table, names, known)
    raise_problems(table.problems)
    present: dict[str, set[str]] = {}
    for name, row in zip(names, matrix, strict=True):
        present.setdefault(name, set()).update(known[column] for column in np.flatnonzero(row == PRESENT))
    labels = {}
    for study in studies:
        held = [name for name in (study.report.study, *(image.path for image in study.images)) if name in present]
        if held:
            labels[study.report.study] = frozenset().union(*(present[name] for name in held))
    return Reference(file.name, frozenset(known), labels)


def compare(
    out: Path,
    studies: Sequence[Study],
    mentions: Sequence[list[Mention]],
    findings: Sequence[str],
    references: Sequence[Reference],
) -> dict[str, Any]:
    """Write the agreement with each reference to a folder and print it; returns the numbers for the summary."""
    rows, different, summary = [], [], {}
    for reference in references:
        known = [finding for finding in findings if finding in reference.findings]
        pairs = [
            (study, found)
            for study, found in zip(studies, mentions, strict=True)
            if study.report.study in reference.labels
        ]
        ours = [{each.finding for each in found if each.status == "present"} for _, found in pairs]
        theirs = [reference.labels[study.report.study] for study, _ in pairs]
        ours, theirs = (np.array([[name in row for name in known] for row in side]) for side in (ours, theirs))
        found = agreement_of(ours, theirs, known)
        together, means = micro(found), macro(found)
        rows += [[reference.name, *each.cells()] for each in [*found, together]]
        rows.append([reference.name, "macro", "", "", "", "", *rounded(means.values())])
        different += _disagreements(reference, pairs, known)
        title = f"Agreement with {reference.name}: {plural(len(pairs), 'study')}, {plural(len(known), 'finding')}"
        _print(title, found, together, means)
        summary[reference.name] = {
            "studies": len(pairs),
            "micro_f1": round(together.f1, 4),
            "macro_f1": round(means["f1"], 4),
        }
    with whole_file(out / COMPARISON) as file:
        csv_writer(file).writerows([["reference", *HEADINGS], *rows])
    with whole_file(out / DISAGREEMENTS) as file:
        csv_writer(file).writerows(
            [["reference", "study", "finding", "label", "reference_label", "sentence"], *different]
        )
    return {"agreement": summary}


def _disagreements(
    reference: Reference, pairs: Sequence[tuple[Study, list[Mention]]], known: Sequence[str]
) -> list[list]:
    """(reference, study, finding, our label, its label, the first sentence that states ours) of each disagreement."""
    rows = []
    for study, mentions in pairs:
        for finding in known:
            of = [mention for mention in mentions if mention.finding == finding]
            of.sort(key=lambda mention: ("present", "uncertain", "absent").index(mention.status))
            ours, theirs = of[0].status if of else "not mentioned", finding in reference.labels[study.report.study]
            if (ours == "present") != theirs:
                stated = "present" if theirs else "not present"
                rows.append([reference.name, study.report.study, finding, ours, stated, of[0].sentence if of else ""])
    return rows


def _print(title: str, found: Sequence, together: Any, means: dict[str, float]) -> None:
    """Print the table of an agreement."""
    from rich.console import Console

    table = new_table(title, ["finding", "both", "only here", "only there", "precision", "recall", "F1", "kappa"])
    for each in [*found, together]:
        rates = (
            "–" if np.isnan(rate) else f"{rate:.3f}" for rate in (each.precision, each.recall, each.f1, each.kappa)
        )
        add_row(table, each.finding, str(each.both), str(each.labels_only), str(each.reference_only), *rates)
    add_row(table, "macro", "", "", "", *(f"{value:.3f}" for value in means.values()))
    Console().print(table)
