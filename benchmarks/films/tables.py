"""Markdown tables of the trainings: the test, the comparisons, findings never trained on, tuberculosis."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.films.arms import COMPARED, DONE, HELD, MAVL, PLAIN, folder, trained_findings, without
from benchmarks.films.asked import BOOKS, Asked
from mavl.checkpoint import BEST
from mavl.metrics.classification import evaluate
from mavl.metrics.comparison import compare_auroc
from mavl.metrics.intervals import Interval
from mavl.model.scores import HEADS
from mavl.text.books import Books
from mavl.text.wordings import built_in_wordings

OTHERS = 20
"""Findings of the books, never trained on, whose words a finding is asked by as a control."""


def shown(interval: Interval, sign: str = "") -> str:
    bounds = "" if np.isnan(interval.low) else f" ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"
    return f"{interval.value:{sign}.3f}{bounds}"


def write(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| --- " * len(rows[0]) + "|", *lines[1:]])


def seeds_of(out: Path, arm: str) -> list[int]:
    return [seed for seed in range(10) if (folder(out, arm, seed) / DONE).exists()]


def plain_scores(run: Path, findings: Sequence[str]) -> np.ndarray:
    """Of the test images [n, C], from the table that fine-tuning wrote."""
    table = pd.read_csv(run / "scores.csv")
    return table[[f"{name}_score" for name in findings]].to_numpy()


def trained(out: Path, root: Path) -> str:
    """The test of MAVL and of what it is compared with, and the differences."""
    findings = [name for name in trained_findings() if name != "normal"]
    collected: dict[str, list[np.ndarray]] = {}
    labels = groups = None
    for arm in (MAVL, *COMPARED):
        for seed in seeds_of(out, arm):
            asked = Asked(folder(out, arm, seed) / BEST, "nih128", root)
            split = asked.split.select(findings)
            labels, groups = split.labels, split.groups
            for head, values in asked.scores(findings).items():
                collected.setdefault(f"{arm}, {head}", []).append(values)
    assert labels is not None
    for arm in PLAIN:
        for seed in seeds_of(out, arm):
            collected.setdefault(arm, []).append(plain_scores(folder(out, arm, seed), findings))
    return f"{_by_finding(labels, collected, findings, groups)}\n\n{_differences(labels, collected, findings, groups)}"


def _by_finding(labels: np.ndarray, collected: dict, findings: Sequence[str], groups: Sequence | None) -> str:
    names = [*(f"{MAVL}, {head}" for head in HEADS), *PLAIN]
    each = {
        name: [evaluate(labels, scores, findings, groups=groups) for scores in collected[name]]
        for name in names
        if name in collected
    }
    rows = [["finding", "films with it", *(f"{name} ({len(of)} seeds)" for name, of in each.items())]]
    for c, finding in enumerate(findings):
        means = [_mean_interval([evaluation.classes[c].metrics["auroc"] for evaluation in of]) for of in each.values()]
        rows.append([finding, str(int((labels[:, c] == 1).sum())), *map(shown, means)])
    means = [_mean_interval([evaluation.means["auroc"] for evaluation in of]) for of in each.values()]
    seeds = [", ".join(f"{evaluation.means['auroc'].value:.3f}" for evaluation in of) for of in each.values()]
    return write([*rows, ["mean", "", *map(shown, means)], ["mean of each seed", "", *seeds]])


def _mean_interval(intervals: Sequence[Interval]) -> Interval:
    """The mean of the values, and of the bounds, of several trainings."""
    return Interval(*np.mean([[each.value, each.low, each.high] for each in intervals], axis=0))


def _differences(labels: np.ndarray, collected: dict, findings: Sequence[str], groups: Sequence | None) -> str:
    rows = [["MAVL", "compared with", "mean AUROC", "of the other", "difference"]]
    for head in HEADS:
        for other in (*PLAIN, *(f"{arm}, {head}" for arm in COMPARED)):
            if f"{MAVL}, {head}" in collected and other in collected:
                found = compare_auroc(labels, collected[f"{MAVL}, {head}"], collected[other], findings, groups=groups)
                rows.append([head, other, f"{found.first:.3f}", f"{found.second:.3f}", shown(found.mean, "+")])
    return write(rows)


def unseen(out: Path, root: Path) -> str:
    """Findings left out in turn, asked by their words, and the controls."""
    rows = [["finding (films)", "head", "own words", "name alone", "other words", "nearest trained", "own − nearest"]]
    for finding in HELD:
        if seeds := seeds_of(out, without(finding)):
            models = [Asked(folder(out, without(finding), seed) / BEST, "nih128", root) for seed in seeds]
            rows += _asked_by_words(models, finding)
    return write(rows)


def tuberculosis(out: Path, root: Path) -> str:
    """Another hospital's films and a disease never labelled, asked by its words."""
    rows = [["finding (films)", "head", "own words", "name alone", "other words", "nearest trained", "own − nearest"]]
    models = [Asked(folder(out, MAVL, seed) / BEST, "shenzhen", root) for seed in seeds_of(out, MAVL)]
    best = [["trained finding", *(f"AUROC for tuberculosis, {head}" for head in HEADS)]]
    labels, groups = models[0].split.labels, models[0].split.groups
    findings = models[0].trained.findings
    scores = [model.scores(findings) for model in models]
    for c, finding in enumerate(findings):
        areas = [
            _mean_interval(
                [evaluate(labels, each[head][:, [c]], [finding], groups=groups).means["auroc"] for each in scores]
            )
            for head in HEADS
        ]
        best.append([finding, *map(shown, areas)])
    return f"{write([*rows, *_asked_by_words(models, 'tuberculosis')])}\n\n{write(best)}"


def _asked_by_words(models: Sequence[Asked], finding: str) -> list[list[str]]:
    """Rows of a finding that the models were not trained with, one for each head."""
    split = models[0].split.select([finding])
    labels, groups = split.labels, split.groups
    aspects = models[0].model.aspects
    [names] = built_in_wordings(BOOKS, [finding], aspects, ["names"])
    unrelated = [name for name in BOOKS.sentences if name != finding and name not in models[0].trained.findings]
    chosen = np.random.default_rng(0).choice(unrelated, OTHERS, replace=False).tolist()
    of_wording: dict[str, dict[str, list[np.ndarray]]] = {}
    nearest = []
    for model in models:
        own = model.words(finding)
        nearest.append(model.nearest(own))
        wordings = {"own": [own], "names": [model.words(finding, names.books)]}
        wordings["other"] = [
            model.words(finding, Books({finding: BOOKS.sentences[name]}, BOOKS.hashes)) for name in chosen
        ]
        for wording, texts in wordings.items():
            for text in texts:
                for head, values in model.scores([finding], text).items():
                    of_wording.setdefault(head, {}).setdefault(wording, []).append(values)
        for head, values in model.scores([nearest[-1]]).items():
            of_wording[head].setdefault("nearest", []).append(values)
    rows = []
    for head, of in of_wording.items():
        areas = {
            wording: _mean_interval(
                [evaluate(labels, each, [finding], groups=groups).means["auroc"] for each in values]
            )
            for wording, values in of.items()
        }
        found = compare_auroc(labels, of["own"], of["nearest"], [finding], groups=groups)
        others = [evaluate(labels, each, [finding], resamples=0).means["auroc"].value for each in of["other"]]
        cells = [
            shown(areas["own"]),
            shown(areas["names"]),
            f"{np.mean(others):.3f} ({min(others):.3f} to {max(others):.3f})",
        ]
        near = f"{shown(areas['nearest'])} {'/'.join(dict.fromkeys(nearest))}"
        title = f"{finding} ({int((labels == 1).sum())} of {len(labels)})"
        rows.append([title, head, *cells, near, shown(found.mean, "+")])
    return rows
