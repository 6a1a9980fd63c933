"""Calibration: planted distortions are undone, errors worked by hand, thresholds at the point that they promise."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from mavl.metrics.calibration import calibration_errors, decision_curve, fit_calibration, net_benefit, threshold_at


def draw(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn with these probabilities."""
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(-1, 1.5, n))
    return (rng.random(n) < p).astype(int), p


def test_a_planted_logistic_distortion_is_undone():
    labels, p = draw(40_000)
    distorted = expit(2.5 * logit(p) + 1.5)
    assert calibration_errors(labels, distorted, resamples=0).ece.value > 0.1
    found = fit_calibration(labels[:20_000], distorted[:20_000], "platt")
    assert (found.slope, found.offset) == pytest.approx((1 / 2.5, -1.5 / 2.5), abs=0.03)
    after = calibration_errors(labels[20_000:], found(distorted[20_000:]), resamples=0)
    assert after.ece.value < 0.02
    np.testing.assert_allclose(found(distorted), p, atol=0.02)


def test_temperature_is_the_slope_alone_and_of_any_numbers_too():
    labels, p = draw(20_000)
    found = fit_calibration(labels, expit(3 * logit(p)), "temperature")
    assert (found.slope, found.offset) == pytest.approx((1 / 3, 0), abs=0.02)
    of_scores = fit_calibration(labels, 10 * logit(p) + 40, "platt")
    assert not of_scores.of_logits
    np.testing.assert_allclose(of_scores(10 * logit(p) + 40), p, atol=0.02)


def test_platt_is_a_logistic_regression_on_many_images():
    labels, p = draw(5_000, 3)
    found = fit_calibration(labels, p, "platt")
    other = LogisticRegression(C=1e9).fit(logit(p)[:, None], labels)
    assert (found.slope, found.offset) == pytest.approx((other.coef_[0, 0], other.intercept_[0]), abs=0.01)


def test_labels_that_scores_separate_give_finite_probabilities_and_order_stays():
    labels = np.array([1, 1, 0, 0, -1])
    found = fit_calibration(labels, np.array([0.9, 0.8, 0.2, 0.1, 0.5]), "platt")
    assert 0.5 < found(np.array([0.9]))[0] < 1
    turned = fit_calibration(labels, np.array([0.1, 0.2, 0.8, 0.9, 0.5]), "platt")
    assert np.all(np.diff(turned(np.linspace(0, 1, 5))) >= 0)
    with pytest.raises(ValueError, match="with and without"):
        fit_calibration(np.array([1, 1]), np.array([0.1, 0.2]), "platt")


def test_errors_of_ten_images_worked_by_hand():
    """One image in each of ten bins: the mean distance of probability and label, and their mean square."""
    labels = np.array([0, 0, 1, 0, 1, 1, 0, 1, 1, 1, -1])
    p = np.array([0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0, 0.5])
    errors = calibration_errors(labels, p, resamples=10)
    gaps = np.abs(p - labels)[:-1]
    assert errors.ece.value == pytest.approx(gaps.mean())
    assert errors.brier.value == pytest.approx(brier_score_loss(labels[:-1], p[:-1])) == pytest.approx((gaps**2).mean())
    assert np.isnan(errors.brier.low)  # fewer than 25 images
    assert errors.reliability.number.tolist() == [1] * 10
    assert errors.reliability.frequency.tolist() == labels[:-1].tolist()


def test_the_interval_of_brier_holds_its_value_in_about_95_of_100():
    truth = float(np.mean([np.mean(p * (1 - p)) for p in (draw(20_000, seed)[1] for seed in range(20))]))
    held = 0
    for seed in range(100):
        labels, p = draw(300, 1000 + seed)
        brier = calibration_errors(labels, p, resamples=200, seed=seed).brier
        held += brier.low <= truth <= brier.high
    assert 88 <= held <= 100


def test_net_benefit_of_acting_on_all_on_none_and_on_the_right_ones():
    labels, p = np.array([1, 0, 0, 0, -1]), np.array([0.9, 0.1, 0.1, 0.1, 0.9])
    assert net_benefit(labels, p, np.array([0.2])) == pytest.approx([1 / 4])
    assert net_benefit(labels, np.ones(5), np.array([0.2])) == pytest.approx([(1 - 3 * 0.25) / 4])
    assert net_benefit(labels, np.zeros(5), np.array([0.2])) == pytest.approx([0])


def test_a_decision_curve_of_right_probabilities_is_above_both_simple_rules():
    labels, p = draw(5_000, 7)
    curve = decision_curve(labels, p)
    at = {round(t, 2): i for i, t in enumerate(curve.thresholds)}
    assert curve.everyone[at[0.2]] == pytest.approx(labels.mean() - (1 - labels.mean()) * 0.25)
    assert (curve.model >= np.maximum(curve.everyone, 0) - 0.005).all()
    assert curve.model[at[0.3]] > max(curve.everyone[at[0.3]], 0) + 0.02


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 1.0])
def test_thresholds_reach_what_is_wished_and_the_next_one_does_not(wanted):
    labels, p = draw(400, 5)
    present, absent = p[labels == 1], p[labels == 0]
    threshold = threshold_at(labels, p, sensitivity=wanted)
    assert (present >= threshold).mean() >= wanted
    higher = np.sort(present[present > threshold])[:1]
    assert not len(higher) or (present >= higher[0]).mean() < wanted
    threshold = threshold_at(labels, p, specificity=wanted)
    assert (absent < threshold).mean() >= wanted
    lower = np.sort(p[p < threshold])[-1]
    assert (absent < lower).mean() < wanted


def test_a_threshold_without_the_label_that_it_depends_on_is_none():
    assert np.isnan(threshold_at(np.array([0, 0]), np.array([0.1, 0.2]), sensitivity=0.9))
    assert np.isnan(threshold_at(np.array([1, 1]), np.array([0.1, 0.2]), specificity=0.9))
    with pytest.raises(ValueError, match="one of"):
        threshold_at(np.array([1]), np.array([0.1]))
