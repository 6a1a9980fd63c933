"""Paired differences of AUROC, against scikit-learn and by simulation."""

import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.metrics import roc_auc_score

from mavl.metrics.comparison import compare_auroc, delong, holm


def test_the_difference_is_that_of_the_mean_areas_of_each_set():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (60, 2))
    first, second = ([rng.random((60, 2)) for _ in range(2)] for _ in range(2))
    found = compare_auroc(labels, first, second, ["a", "b"], resamples=50)
    areas = np.array(
        [[[roc_auc_score(labels[:, c], s[:, c]) for c in (0, 1)] for s in side] for side in (first, second)]
    )
    by_class = areas.mean(axis=1)
    assert [found.classes[name].value for name in "ab"] == pytest.approx(by_class[0] - by_class[1])
    assert (found.first, found.second) == pytest.approx(by_class.mean(axis=1))
    assert found.mean.value == pytest.approx(found.first - found.second)
    assert found.mean.low < found.mean.value < found.mean.high


def test_equal_scores_differ_by_nothing_and_unlabelled_images_count_nothing():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(-1, 2, (200, 1)), rng.random((200, 1))
    same = compare_auroc(labels, [scores], [scores], ["a"], resamples=20).classes["a"]
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = np.where(labels == -1, rng.random((200, 1)), scores)
    assert compare_auroc(labels, [scores], [worse], ["a"], resamples=20).classes["a"].value == 0


def test_a_class_of_one_label_is_in_no_mean_and_few_groups_have_no_interval():
    rng = np.random.default_rng(2)
    labels = np.column_stack([rng.integers(0, 2, 100), np.zeros(100, int), np.r_[np.ones(5, int), np.zeros(95, int)]])
    scores = [rng.random((100, 3)) for _ in range(2)]
    found = compare_auroc(labels, scores[:1], scores[1:], ["known", "none", "few"], resamples=50)
    assert np.isnan(found.classes["none"].value)
    assert not np.isnan(found.classes["few"].value)
    assert np.isnan(found.classes["few"].low)
    assert found.mean.value == pytest.approx((found.classes["known"].value + found.classes["few"].value) / 2)


def test_the_interval_is_that_of_patients():
    """Each patient's image ten times: the interval is that of one image each, not a third as wide."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, (80, 1))
    scores = [labels + rng.normal(0, width, (80, 1)) for width in (1, 2)]
    once = compare_auroc(labels, scores[:1], scores[1:], ["a"], resamples=400).classes["a"]
    repeated = [np.repeat(each, 10, axis=0) for each in (labels, *scores)]
    patients = np.repeat(np.arange(80), 10)
    often = compare_auroc(repeated[0], repeated[1:2], repeated[2:], ["a"], groups=patients, resamples=400).classes["a"]
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=1e-9)


def test_the_interval_holds_no_difference_in_about_95_of_100():
    """Two models of equal area whose errors are correlated; with pairs taken apart it would hold it in all."""
    holds = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels = (rng.random((150, 1)) < 0.4).astype(int)
        shared = labels + rng.normal(0, 1, (150, 1))
        scores = [shared + rng.normal(0, 0.5, (150, 1)) for _ in range(2)]
        interval = compare_auroc(labels, scores[:1], scores[1:], ["a"], resamples=200, seed=seed).classes["a"]
        holds += interval.low <= 0 <= interval.high
    assert 88 <= holds <= 99


def draw(rng: np.random.Generator, gap: float = 0.0, n: int = 150) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels [n, 1] and the scores of two models with errors in common; the first is better by a gap."""
    labels = (rng.random((n, 1)) < 0.4).astype(int)
    shared = labels + rng.normal(0, 1, (n, 1))
    return labels, [shared + gap * labels + rng.normal(0, 0.5, (n, 1)), shared + rng.normal(0, 0.5, (n, 1))]


def test_p_values_are_uniform_where_nothing_differs_and_small_at_a_planted_gap():
    null: dict[str, list[float]] = {"bootstrap": [], "delong": []}
    found = 0
    for seed in range(500):
        labels, [first, second] = draw(np.random.default_rng(seed))
        null["bootstrap"].append(compare_auroc(labels, [first], [second], ["a"], resamples=200, seed=seed).p["a"])
        null["delong"].append(delong(labels[:, 0], first[:, 0], second[:, 0]))
        labels, [first, second] = draw(np.random.default_rng(seed), gap=0.6)
        found += delong(labels[:, 0], first[:, 0], second[:, 0]) < 0.05
    assert {name: kstest(p, "uniform").pvalue > 0.05 for name, p in null.items()} == {"bootstrap": True, "delong": True}
    assert found >= 450  # the power at a difference of about 0.1


def test_delong_is_the_difference_over_its_deviation():
    """Worked by hand: one model is right on every pair, the other on one of four."""
    labels, first, second = np.array([1, 1, 0, 0]), np.array([4, 3, 2, 1.0]), np.array([4, 1, 3, 2.0])
    # shares of pairs won, of the present: (1, 1) and (1, 0), of the absent: (1, 1) and (0.5, 0.5)
    deviation = np.sqrt(np.var([0, 1], ddof=1) / 2 + 0)
    assert delong(labels, first, second) == pytest.approx(2 * norm.sf(0.5 / deviation))
    assert delong(labels, first, first) == 1
    assert np.isnan(delong(np.array([1, 0, 0]), first[:3], second[:3]))


def test_holm_multiplies_the_smallest_by_their_number():
    assert holm([0.04, 0.01, np.nan, 0.03]) == pytest.approx([0.06, 0.03, np.nan, 0.06], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
