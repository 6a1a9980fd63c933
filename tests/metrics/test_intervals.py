"""Resampling, and the intervals from its values or from an estimate, against SciPy and numbers worked by hand."""

import numpy as np
import pytest
from scipy.stats import binomtest

from mavl.metrics.intervals import bootstrap, bootstrap_interval, group_index
from mavl.metrics.score_intervals import Area, Share, Size, mean_interval, score_interval

MANY = 10**9
PRESENT = Share(lambda size: size.positives)


def bounds(interval):
    return pytest.approx((interval.low, interval.high), abs=1e-6)


def test_weights_count_whole_groups():
    groups = group_index(["q", "p", "q", "r"], 4)
    assert groups.tolist() == [0, 1, 0, 2]
    weights = bootstrap(lambda weights: weights, groups, 200, 0)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


@pytest.mark.parametrize("missing", [None, float("nan"), np.nan])
def test_a_group_without_a_key_is_refused(missing):
    with pytest.raises(ValueError, match=r"rows without a key: \[1\]"):
        group_index(["p", missing, "q"], 3)


def test_a_value_in_the_middle_of_its_resamples_has_their_percentiles():
    samples = np.arange(1.0, 1000.0)
    assert bounds(bootstrap_interval(500.0, np.append(samples, np.nan), MANY)) == (0.025 * 998 + 1, 0.975 * 998 + 1)


def test_a_value_below_most_resamples_moves_its_interval_down():
    # 16 % of the resamples are below: the bias is -1 standard deviation, the tails are at -3.96 and -0.04 of them.
    samples = np.linspace(0, 1, 100_001)
    interval = bootstrap_interval(0.158655, samples, MANY)
    assert (interval.low, interval.high) == pytest.approx((3.7e-5, 0.484), abs=1e-3)


def test_equal_resamples_give_a_point():
    assert vars(bootstrap_interval(0.5, np.full(10, 0.5), 10)) == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert np.isnan(bootstrap_interval(0.5, np.full(10, np.nan), 10).low)


def test_few_images_widen_the_interval_by_students_t():
    # 25 images: 2.0639 · sqrt(25 / 24) = 2.1065 standard deviations, below which lies 0.01758
    samples = np.linspace(0, 1, 100_001)
    interval = bootstrap_interval(0.5, samples, 25)
    assert (interval.low, interval.high) == pytest.approx((0.01758, 0.98242), abs=1e-4)


@pytest.mark.parametrize(("hits", "number"), [(0, 2), (1, 2), (2, 2), (3, 10), (19, 20)])
def test_shares_have_the_intervals_of_scipy(hits, number):
    size = Size(number, 7)
    exact = binomtest(hits, number).proportion_ci(method="exact")
    assert bounds(PRESENT.interval(hits / number, size)) == (exact.low, exact.high)
    wilson = binomtest(hits, number).proportion_ci(method="wilson")
    assert bounds(score_interval(hits / number, lambda p: PRESENT.variance(p, size))) == (wilson.low, wilson.high)


@pytest.mark.parametrize(("positives", "negatives"), [(2, 98), (10, 10), (1, 5)])
def test_at_one_half_the_variance_of_auroc_is_that_of_mann_and_whitney(positives, negatives):
    variance = Area().variance(0.5, Size(positives, negatives))
    assert variance == pytest.approx((positives + negatives + 1) / (12 * positives * negatives))


def test_the_bounds_of_auroc_are_196_standard_deviations_away():
    size = Size(5, 95)
    for value in (0.0, 0.6, 0.97, 1.0):
        interval = Area().interval(value, size)
        assert 0 <= interval.low <= value <= interval.high <= 1
        for bound in {interval.low, interval.high} - {0.0, 1.0}:
            assert abs(value - bound) == pytest.approx(1.959964 * Area().variance(bound, size) ** 0.5, rel=1e-5)


def test_independent_classes_count_together_and_equal_ones_once():
    size, rng = Size(10, 5), np.random.default_rng(0)
    once = PRESENT.variance
    equal = rng.normal(size=(300, 1)).repeat(3, axis=1)
    assert (
        bounds(mean_interval(PRESENT, np.full(3, 0.7), [size] * 3, equal))
        == tuple(vars(score_interval(0.7, lambda p: once(p, size))).values())[1:]
    )
    apart = np.eye(3)[np.arange(300) % 3]  # correlations of -1/2 count as none
    assert (
        bounds(mean_interval(PRESENT, np.array([0.6, 0.7, 0.8]), [size] * 3, apart))
        == tuple(vars(score_interval(0.7, lambda p: once(p, Size(30, 15)))).values())[1:]
    )
