"""Subgroups: metrics of the right images, a planted gap found, none invented, and decisions counted by hand."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mavl.metrics.subgroups import by_subgroup, diagnosis


def draw(seed: int, worse: float = 1.0, n: int = 400) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels, scores and sex; the scores of women have so many times the noise."""
    rng = np.random.default_rng(seed)
    labels, sex = (rng.random(n) < 0.4).astype(int), rng.choice(["F", "M"], n)
    noise = np.where(sex == "F", worse, 1.0)
    return labels, labels + noise * rng.normal(0, 0.75, n), sex.tolist()


def test_each_subgroup_has_the_metrics_of_its_own_images():
    labels, scores, sex = draw(0)
    sex[:10] = [""] * 10
    found = by_subgroup(labels, scores, 0.5, "mass", "sex", sex, resamples=50)
    assert [each.name for each in found.subgroups] == ["F", "M"]
    for each in found.subgroups:
        inside = np.array([name == each.name for name in sex])
        present, absent = scores[inside & (labels == 1)], scores[inside & (labels == 0)]
        assert (each.n, each.positives) == (inside.sum(), len(present))
        assert each.auroc.value == pytest.approx(roc_auc_score(labels[inside], scores[inside]))
        assert each.missed.value == pytest.approx((present < 0.5).mean())
        assert each.flagged.value == pytest.approx((absent >= 0.5).mean())
        assert each.missed.low <= each.missed.value <= each.missed.high


def test_a_planted_gap_is_found():
    """About 0.83 and 0.73."""
    labels, scores, sex = draw(1, worse=1.55, n=3000)
    gap = by_subgroup(labels, scores, 0.5, "mass", "sex", sex, resamples=200).gap
    assert (gap.higher, gap.lower) == ("M", "F")
    assert gap.difference.value == pytest.approx(0.10, abs=0.03)
    assert gap.difference.low > 0


@pytest.mark.parametrize("kinds", [2, 4])
def test_where_none_differ_the_interval_holds_zero_in_at_least_90_of_100(kinds):
    held = 0
    for seed in range(100):
        labels, scores, _ = draw(seed, n=500)
        names = np.random.default_rng(seed + 1000).choice(list("abcd")[:kinds], 500).tolist()
        gap = by_subgroup(labels, scores, 0.5, "mass", "kind", names, resamples=100, seed=seed).gap
        held += gap.difference.low <= 0 <= gap.difference.high
    assert held >= 90


def test_small_subgroups_have_no_gap_and_images_of_a_patient_count_once():
    labels, scores, sex = draw(2, n=60)
    assert by_subgroup(labels, scores, 0.5, "mass", "sex", sex, resamples=20).gap is None
    labels, scores, sex = draw(3, n=100)
    repeated = [np.repeat(each, 10) for each in (labels, scores, np.array(sex))]
    patients = np.repeat(np.arange(100), 10)
    arguments = (*repeated[:2], 0.5, "mass", "sex", repeated[2].tolist())
    assert by_subgroup(*arguments, groups=patients, resamples=20).gap is None
    assert by_subgroup(*arguments, resamples=20).gap is not None


def test_under_and_overdiagnosis_counted_by_hand():
    labels = np.array([[1, 0], [0, 1], [0, 0], [0, 0], [1, 1], [0, -1], [0, 0]])
    scores = np.array([[0.9, 0.1], [0.1, 0.2], [0.1, 0.1], [0.8, 0.1], [0.2, 0.9], [0.9, 0.9], [0.9, 0.9]])
    names = ["F", "F", "F", "F", "M", "M", ""]
    women, men = diagnosis(labels, scores, np.array([0.5, 0.5]), "sex", names)
    assert (women.ill, women.healthy, women.underdiagnosed, women.overdiagnosed) == (2, 2, 0.5, 0.5)
    assert (men.ill, men.healthy, men.underdiagnosed) == (1, 0, 0.0)
    assert np.isnan(men.overdiagnosed)
    women, _ = diagnosis(labels, scores, np.array([0.5, np.nan]), "sex", names)
    assert (women.underdiagnosed, women.overdiagnosed) == (0.5, 0.5)
