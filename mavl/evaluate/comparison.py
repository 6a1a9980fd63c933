"""Result folders of one benchmark -> a leaderboard, and the paired differences of all models to the first.

The folders are those of zero_shot_classify.py and of finetune_cls.py, with the score of every image. Images are matched
by the file and line of their list; nothing is computed again but AUROC on resampled patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from mavl.config.evaluation import Published, PublishedFigures
from mavl.config.loader import load
from mavl.files import csv_text
from mavl.metrics.classification import Evaluation
from mavl.metrics.comparison import Difference, compare_auroc, delong, holm
from mavl.progress import plural
from mavl.report.classification import SCORES, read_results
from mavl.report.tables import RESULTS

CONDITIONS = ("benchmark", "version", "split")
"""What `about` of all results must agree on."""

DEFAULTS = {"version": 1, "split": "test"}
"""Of results that do not state them."""


class ComparisonError(ValueError):
    """Results that cannot be compared; the message says which, and why."""


@dataclass(frozen=True)
class Contestant:
    """A result. images [n]: file and line of the list; labels, scores [n, C]; groups [n], None where there are none."""

    name: str
    folder: Path
    about: dict
    evaluation: Evaluation
    images: list[str]
    labels: np.ndarray
    scores: np.ndarray
    groups: list[str] | None

    @property
    def findings(self) -> list[str]:
        return [result.name for result in self.evaluation.classes]

    def select(self, images: Sequence[str], findings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(labels, scores) of these images and findings."""
        place = {image: row for row, image in enumerate(self.images)}
        rows, columns = [place[image] for image in images], [self.findings.index(name) for name in findings]
        return self.labels[np.ix_(rows, columns)], self.scores[np.ix_(rows, columns)]


@dataclass(frozen=True)
class Pair:
    """A model beside the first. adjusted: p by finding (Holm); independent: that of DeLong, by finding."""

    name: str
    difference: Difference
    adjusted: dict[str, float]
    independent: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """contestants: as given; findings: those that all have; left_out: {name: findings that others lack}."""

    contestants: list[Contestant]
    findings: list[str]
    pairs: list[Pair]
    left_out: dict[str, list[str]]
    resamples: int
    seed: int
    published: tuple[Published, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """A line for each model that was trained on images of the benchmark's collection, by another list."""
        return [line for each in self.contestants if (line := shared_images(each))]


def compare(
    folders: Sequence[Path], *, resamples: int = 1000, seed: int = 0, published: Path | None = None
) -> Comparison:
    """Compare the results in these folders with that in the first; published: a file of published figures to show too.

    ComparisonError for a folder without a result, and for results of other benchmarks, versions, splits, images or
    labels.
    """
    contestants = [read_contestant(folder) for folder in folders]
    if len(contestants) < 2:
        raise ComparisonError("a comparison needs two result folders at least")
    contestants = _with_distinct_names(contestants)
    first = contestants[0]
    findings = [name for name in first.findings if all(name in each.findings for each in contestants)]
    if not findings:
        raise ComparisonError(f"no finding is in all results: {first.name} has {', '.join(first.findings)}")
    for other in contestants[1:]:
        _require_same(first, other, findings)
    labels, scores = first.select(first.images, findings)
    pairs = []
    for other in contestants[1:]:
        _, theirs = other.select(first.images, findings)
        options = {"groups": first.groups, "resamples": resamples, "seed": seed}
        difference = compare_auroc(labels, [theirs], [scores], findings, **options)
        columns = zip(findings, labels.T, theirs.T, scores.T, strict=True)
        independent = {name: delong(*of_finding) for name, *of_finding in columns}
        adjusted = dict(zip(findings, holm([difference.p[name] for name in findings]), strict=True))
        pairs.append(Pair(other.name, difference, adjusted, independent))
    lacking = {each.name: [name for name in each.findings if name not in findings] for each in contestants}
    left_out = {name: of for name, of in lacking.items() if of}
    figures = load(PublishedFigures, published).figures if published else {}
    of_benchmark = figures.get(first.about["benchmark"], ())
    return Comparison(contestants, findings, pairs, left_out, resamples, seed, of_benchmark)


def read_contestant(folder: Path) -> Contestant:
    """The result in a folder; ComparisonError where it has none, or its scores are not those of its table."""
    for name in (RESULTS, SCORES):
        if not (folder / name).is_file():
            raise ComparisonError(f"{folder}: {name} is missing: give the folder of a result")
    about, evaluation = read_results(folder)
    table = pd.read_csv(folder / SCORES, dtype={"path": str, "row": str, "group": str}, keep_default_na=False)
    names = [result.name for result in evaluation.classes]
    wanted = ["path", "row", *(f"{name}_{kind}" for name in names for kind in ("label", "score"))]
    if missing := [name for name in wanted if name not in table]:
        raise ComparisonError(f"{folder / SCORES}: no column {missing[0]!r}")
    try:
        labels = table[[f"{name}_label" for name in names]].to_numpy(np.int8)
        scores = table[[f"{name}_score" for name in names]].to_numpy(float)
    except ValueError as error:
        raise ComparisonError(f"{folder / SCORES}: {error}") from error
    for name, column, of_finding, result in zip(names, scores.T, labels.T, evaluation.classes, strict=True):
        if not np.isfinite(column).all():
            raise ComparisonError(f"{folder / SCORES}: a score of {name} is not a finite number")
        if ((of_finding != -1).sum(), (of_finding == 1).sum()) != (result.n, result.positives):
            raise ComparisonError(f"{folder}: {SCORES} and {RESULTS} have other numbers of labels of {name}")
    images = [
        f"{csv_text(row)}, {PurePath(csv_text(path)).name}" for path, row in zip(table.path, table.row, strict=True)
    ]
    if len(set(images)) < len(images):
        raise ComparisonError(f"{folder / SCORES}: an image is listed twice")
    groups = table.group.map(csv_text).tolist() if "group" in table else None
    name = " ".join(folder.resolve().parts[-2:])
    return Contestant(name, folder, about, evaluation, images, labels, scores, groups)


def shared_images(contestant: Contestant) -> str:
    """What a model has in common with the benchmark, if it states that it was trained on images of the same collection.

    The splits of one list share no patient, so that training on the list of the benchmark itself is no leak.
    """
    about, trained = contestant.about, contestant.about.get("trained_on") or {}
    collection = about.get("collection")
    if not collection or trained.get("collection") != collection or trained.get("list") == about["benchmark"]:
        return ""
    films = f"{plural(trained['images'], 'image')} of {trained['list']}"
    return (
        f"{contestant.name} was trained on {films}, which are of {collection} too: images or patients may be the same."
    )


def _with_distinct_names(contestants: Sequence[Contestant]) -> list[Contestant]:
    """Named by the parts of their paths that are not the same in all."""
    paths = [each.folder.resolve().parts for each in contestants]
    if len(set(paths)) < len(paths):
        twice = next(each for each in contestants if paths.count(each.folder.resolve().parts) > 1)
        raise ComparisonError(f"{twice.folder} is given twice")
    longest = max(map(len, paths))
    columns = zip(*(["/"] * (longest - len(path)) + [*path] for path in paths), strict=True)
    differing = [column for column in columns if len(set(column)) > 1]
    names = [" ".join(part for part in parts if part != "/") for parts in zip(*differing, strict=True)]
    return [replace(each, name=name) for each, name in zip(contestants, names, strict=True)]


def _require_same(first: Contestant, other: Contestant, findings: Sequence[str]) -> None:
    """ComparisonError where two results are not of the same benchmark, images and labels."""
    for key in CONDITIONS:
        ours, theirs = (each.about.get(key, DEFAULTS.get(key)) for each in (first, other))
        if ours != theirs:
            raise ComparisonError(f"{first.folder} is of {key} {ours!r}, {other.folder} of {theirs!r}")
    only = [sorted(set(a.images) - set(b.images)) for a, b in ((first, other), (other, first))]
    for these, holder, lacking in zip(only, (first, other), (other, first), strict=True):
        if these:
            raise ComparisonError(
                f"{holder.folder} has {plural(len(these), 'image')} that {lacking.folder} lacks, such as {these[0]}"
            )
    ours, theirs = first.select(first.images, findings)[0], other.select(first.images, findings)[0]
    if len(rows := np.argwhere(ours != theirs)):
        row, column = rows[0]
        raise ComparisonError(
            f"{plural(len(rows), 'label')} differ, the first of {findings[column]} in {first.images[row]}: "
            f"{ours[row, column]} in {first.folder}, {theirs[row, column]} in {other.folder}"
        )
