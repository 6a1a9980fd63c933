"""Reports with their images: from a table of any hospital, or from Open-I's XML."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from mavl.data import DataError
from mavl.data.benchmarks.benchmark import view_column
from mavl.data.benchmarks.rows import raise_problems
from mavl.data.benchmarks.tables import TableFormat, normal_path, read_table
from mavl.prepare.radgraph.labels import TORN, Problem
from mavl.prepare.reports.openi import read_openi
from mavl.prepare.reports.protocol import Report
from mavl.prepare.splits import SPLIT_NAMES, hashed_split, torn_groups


class Image(NamedTuple):
    """path: below the folder of the images; view: None where it is not known; split: "" where it is not given."""

    path: str
    view: str | None
    split: str = ""


@dataclass
class Study:
    """A study. group: what must not be in two splits, its patient or itself; terms: the coders', of Open-I."""

    report: Report
    group: str
    images: list[Image] = field(default_factory=list)
    terms: dict[str, list[str]] = field(default_factory=dict)


class Columns(NamedTuple):
    """Names of columns. text: one, or one for each section, whose names are then the sections' names."""

    image: str
    text: Sequence[str]
    study: str | None = None
    patient: str | None = None
    split: str | None = None


def read_csv(file: Path, columns: Columns, problems: list[Problem]) -> list[Study]:
    """The studies of a table, in order; without a study column each row is one.

    BenchmarkError for a file that is no table and for columns that it does not have. What cannot be used becomes a
    problem: a study without text, an unknown split, an image that an earlier row has.
    """
    table = read_table(file, TableFormat())
    cells = {name: table.column(name) for name in [columns.image, *columns.text, *filter(None, columns[2:])]}
    views = view_column(table)
    raise_problems(table.problems)
    images = [normal_path(name) for name in cells[columns.image]]
    names = cells[columns.study] if columns.study else [image or table.place(row) for row, image in enumerate(images)]
    groups = cells[columns.patient] if columns.patient else names
    splits = [text.lower() for text in cells[columns.split]] if columns.split else [""] * len(names)
    studies: dict[str, Study] = {}
    for row, name in enumerate(names):
        place = table.place(row)
        text = "\n\n".join(cells[column][row] for column in columns.text if cells[column][row])
        if not name:
            problems.append(Problem("row without study", place, f"column {columns.study!r} is empty"))
        elif columns.split and splits[row] not in SPLIT_NAMES:
            detail = f"{splits[row]!r}; expected one of {', '.join(SPLIT_NAMES)}"
            problems.append(Problem("unknown split", place, detail))
        elif text and name not in studies:
            sections = {column: cells[column][row] for column in columns.text} if len(columns.text) > 1 else {}
            studies[name] = Study(Report(name, place, text, sections), groups[row] or name)
        elif text and text != studies[name].report.text:
            detail = f"the text of {name} differs from that at {studies[name].report.where}, which counts"
            problems.append(Problem("study with two texts", place, detail))
    seen: dict[str, str] = {}
    for row, (name, image) in enumerate(zip(names, images, strict=True)):
        place, usable = table.place(row), not columns.split or splits[row] in SPLIT_NAMES
        if not name or not usable:
            continue
        if name not in studies:
            problems.append(Problem("empty report", place, f"of {name}; its image is left out"))
        elif not image:
            problems.append(Problem("row without image", place, "its report is labelled; no manifest lists it"))
        elif image in seen:
            problems.append(Problem("image twice", place, f"{image} again, first at {seen[image]}, which counts"))
        else:
            seen[image] = place
            view = (views[row] or None) if views else None
            studies[name].images.append(Image(image, view, SPLIT_NAMES.get(splits[row], "")))
    return list(studies.values())


def openi_studies(path: Path, problems: list[Problem]) -> list[Study]:
    """The studies of Open-I; what cannot be used becomes a problem.

    That is a report without text, or without image (it is labelled still), and an image that an earlier report has.
    """
    studies, seen = [], {}
    for each in read_openi(path, problems):
        text = "\n\n".join(f"{name.upper()}: {text}" for name, text in each.sections.items() if text)
        if not text:
            problems.append(Problem("empty report", each.where, f"{each.study} is left out"))
            continue
        if not each.images:
            problems.append(
                Problem("report without images", each.where, f"{each.study} is labelled; no manifest lists it")
            )
        names = dict.fromkeys(normal_path(f"{image}.png") for image in each.images)
        for name in names:
            if seen.setdefault(name, each.where) != each.where:
                detail = f"{name} again, first at {seen[name]}, which counts"
                problems.append(Problem("image twice", each.where, detail))
        images = [Image(name, None) for name in names if seen[name] == each.where]
        studies.append(Study(Report(each.study, each.where, text, each.sections), each.study, images, each.terms))
    return studies


def share_out(studies: Sequence[Study], seed: int) -> None:
    """Give every image without a split one by a hash of the seed and the study's group."""
    for study in studies:
        split = hashed_split(study.group, seed)
        study.images = [image if image.split else image._replace(split=split) for image in study.images]


def report_leaks(studies: Sequence[Study], problems: list[Problem]) -> None:
    """Add a problem for each group with images in several splits."""
    images = ((study.group, image.split) for study in studies for image in study.images)
    problems += [Problem(TORN, group, detail) for group, detail in torn_groups(images)]


def require(studies: Sequence[Study], source: Path, problems: Sequence[Problem]) -> None:
    """DataError where there is no study."""
    if not studies:
        first = f"; the first problem: {': '.join(problems[0])}" if problems else ""
        raise DataError(f"{source}: holds no report{first}")
