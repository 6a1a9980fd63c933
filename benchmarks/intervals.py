"""How often the 95 % intervals contain the true value, by simulation: the tables of docs/protocols.md.

    python -m benchmarks.intervals            about half an hour on one core
    python -m benchmarks.intervals --repeats 100

Scores are normal, shifted for positives by what gives the true AUROC. Each cell is the range over true AUROCs of 0.6 to
0.95. The columns of AP and F1 have the bootstrap also where evaluations give no interval.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
from scipy.stats import norm

from mavl.metrics import classification, intervals
from mavl.metrics.classification import evaluate
from mavl.metrics.intervals import Interval, mean_intervals

AREAS = (0.6, 0.75, 0.9, 0.95)
POSITIVES = (2, 5, 10, 20, 25, 50)
MEANS = ((1, 1, 1, 2, 2, 2, 3, 3, 10, 20, 30), (1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3), (2,) * 11, (20,) * 11)
RESAMPLES = 400
CUT = 1.0
"""The threshold of the sensitivity."""

IMAGES_OF_A_PATIENT = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000)
    repeats = parser.parse_args().repeats
    rng = np.random.default_rng(0)
    heading("class", "AUROC", "sensitivity", "AP", "F1")
    for n in (100, 500):
        for positives in POSITIVES:
            for kind in ("", ", ties", ", patients"):
                covered = [of_class(n, positives, area, kind, repeats, rng) for area in AREAS]
                row(f"{n} images, {positives} positives{kind}", zip(*covered, strict=True))
    heading("mean of 11 classes", "equal AUROCs", "AUROCs of 0.6 to 0.97")
    for n in (100, 500):
        for positives in MEANS:
            for correlation in (0.0, 0.5):
                truths = [*([area] * 11 for area in AREAS), np.linspace(0.6, 0.97, 11)]
                *same, mixed = (of_mean(n, positives, areas, correlation, repeats // 4, rng) for areas in truths)
                name = f"{n} images; positives {', '.join(map(str, positives))}; correlation {correlation}"
                row(name, (same, [mixed]))
    heading("mean over cases", "of 0 and 1", "of Beta(1, 2)")
    for n in (5, 10, 25, 50):
        shares = of_values(rng.random((repeats, n)) < 0.2, 0.2), of_values(rng.beta(1, 2, (repeats, n)), 1 / 3)
        row(f"{n} cases", ([share] for share in shares))


def heading(*columns: str) -> None:
    print(f"\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")


def row(name: str, columns) -> None:
    cells = (f"{min(of):.3f}" + (f" to {max(of):.3f}" if len(of) > 1 else "") for of in columns)
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def samples(
    n: int, positives: int, area: float, kind: str, repeats: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """labels [n], scores [n, repeats], groups [n] or None."""
    labels, groups = np.arange(n) < positives, None
    scores = rng.standard_normal((n, repeats))
    if kind == ", patients":  # of one label, with scores that are correlated by 0.7
        labels, groups = np.repeat(labels, IMAGES_OF_A_PATIENT), np.arange(n).repeat(IMAGES_OF_A_PATIENT)
        scores = np.sqrt(0.7) * scores[groups] + np.sqrt(0.3) * rng.standard_normal((len(groups), repeats))
    scores = scores + labels[:, None] * np.sqrt(2) * norm.ppf(area)
    return labels.astype(int), np.round(scores * 2) / 2 if kind == ", ties" else scores, groups


def of_class(n: int, positives: int, area: float, kind: str, repeats: int, rng: np.random.Generator) -> list[float]:
    """Coverage of the intervals of AUROC and sensitivity, and of the bootstrap of AP and the largest F1."""
    labels, scores, groups = samples(n, positives, area, kind, repeats, rng)
    many = np.repeat(labels[:, None], repeats, axis=1), scores, [str(i) for i in range(repeats)]
    options = {
        "thresholds": [CUT] * repeats,
        "threshold_source": "validation",
        "groups": groups,
        "resamples": RESAMPLES,
    }
    found = evaluate(*many, **options).classes
    freed = {name: replace(metric, fewest=1) for name, metric in classification.METRICS.items()}
    with patch.dict(classification.METRICS, freed):
        resampled = evaluate(*many, **options).classes
    labels, scores, _ = samples(200 * n, 200 * positives, area, kind, 1, rng)
    options = {"thresholds": [CUT], "threshold_source": "validation", "resamples": 0}
    truth = evaluate(labels[:, None], scores, ["truth"], **options).classes[0].metrics
    columns = {"auroc": found, "sensitivity": found, "average_precision": resampled, "best_f1": resampled}
    return [coverage([of.metrics[name] for of in classes], truth[name].value) for name, classes in columns.items()]


def of_mean(
    n: int, positives: Sequence[int], areas: Sequence[float], correlation: float, repeats: int, rng: np.random.Generator
) -> float:
    """Coverage of the interval of the mean AUROC; the scores of the classes are correlated."""
    labels = np.stack([rng.permutation(n) < number for number in positives], axis=1).astype(int)
    shift, found = np.sqrt(2) * norm.ppf(areas), []
    for seed in range(repeats):
        shared, own = rng.standard_normal((n, 1)), rng.standard_normal((n, len(areas)))
        scores = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own + labels * shift
        found.append(evaluate(labels, scores, [*map(str, areas)], resamples=RESAMPLES, seed=seed).means["auroc"])
    return coverage(found, float(np.mean(areas)))


def of_values(values: np.ndarray, truth: float) -> float:
    """values [repeats, cases] -> coverage of the bootstrap interval of the mean over the cases."""
    with patch.object(intervals, "FEWEST", 0):
        found = mean_intervals(values.T.astype(float), [*range(len(values))], groups=None, resamples=RESAMPLES, seed=0)
    return coverage([*found.values()], truth)


def coverage(found: Sequence[Interval], truth: float) -> float:
    return float(np.mean([interval.low <= truth <= interval.high for interval in found]))


if __name__ == "__main__":
    main()
