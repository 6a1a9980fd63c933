"""Differences between the maps of a model and the baselines, and the comparison based on them."""

import numpy as np
import pandas as pd
import pytest

from mavl.metrics.grounding import METRICS
from mavl.metrics.intervals import Interval
from mavl.metrics.margins import COMPARED, compare_to_baselines, margins

ABOVE, UNSURE, BELOW = Interval(0.2, 0.1, 0.3), Interval(0.2, -0.1, 0.3), Interval(-0.1, -0.2, 0.1)
UNDEFINED = Interval(np.nan, np.nan, np.nan)


PATIENTS = range(100)


def cases(values: list[float], groups) -> pd.DataFrame:
    """A row for each case, with this value of every metric."""
    columns = {"path": [f"{number}.png" for number in range(len(values))], "group": list(groups)}
    return pd.DataFrame(columns | dict.fromkeys(METRICS, values))


def test_margins_are_means_of_the_differences_of_each_case():
    maps = {
        "model": cases([0.9, 0.1, 0.5, np.nan] * 25, PATIENTS),
        "random": cases([0.8, 0.0, 0.4, 0.9] * 25, PATIENTS),
        "centre": cases([0.3, np.nan, 0.5, 0.9] * 25, PATIENTS),
    }
    found = margins(maps, resamples=200, seed=0)
    assert list(found) == ["random", "centre"]
    for metric in COMPARED:
        # Always 0.1 more, so without a spread, although the maps' own values range over 0.8.
        assert vars(found["random"][metric]) == pytest.approx({"value": 0.1, "low": 0.1, "high": 0.1})
        assert found["centre"][metric].value == pytest.approx(0.3)  # of 0.6 and 0
        assert 0.15 < found["centre"][metric].low < 0.3 < found["centre"][metric].high < 0.45


def test_cases_of_one_patient_give_no_interval():
    found = margins({"model": cases([0.9, 0.5], "aa"), "random": cases([0.1, 0.2], "aa")}, resamples=200, seed=0)
    assert found["random"]["dice"].value == pytest.approx(0.55)
    assert np.isnan(found["random"]["dice"].low)
    assert compare_to_baselines(found).higher == list(COMPARED)


def comparison_of(random: list[Interval], centre: list[Interval]):
    return compare_to_baselines(
        {"random": dict(zip(COMPARED, random, strict=True)), "centre": dict(zip(COMPARED, centre, strict=True))}
    )


def test_above_is_above_every_baseline_beyond_the_interval():
    comparison = comparison_of([ABOVE, ABOVE, ABOVE, ABOVE], [ABOVE, UNSURE, BELOW, UNDEFINED])
    assert comparison.above == ["pointing_game"]
    assert comparison.higher == ["average_precision"]
    assert comparison.not_above == ["best_dice"]
    assert comparison.answer == "in part"
    assert comparison.sentence == (
        "above both baselines in pointing game; higher than both baselines, but not beyond chance, in "
        "average precision; not above both baselines in largest Dice"
    )


def test_the_answer_is_yes_only_for_all_metrics_that_have_a_value():
    assert comparison_of([ABOVE] * 3 + [UNDEFINED], [ABOVE] * 3 + [UNDEFINED]).answer == "yes"
    assert comparison_of([ABOVE] * 4, [UNSURE] * 4).answer == "no"
    assert comparison_of([BELOW] * 4, [ABOVE] * 4).answer == "no"


def test_a_margin_of_0_is_none_and_an_interval_from_0_on_does_not_exclude_it():
    from_0, nothing = Interval(0.2, 0.0, 0.3), Interval(0.0, 0.0, 0.0)
    found = compare_to_baselines({"random": dict.fromkeys(COMPARED, ABOVE), "centre": dict.fromkeys(COMPARED, from_0)})
    assert (found.above, found.higher, found.not_above) == ([], [*COMPARED], [])
    found = compare_to_baselines({"random": dict.fromkeys(COMPARED, ABOVE), "centre": dict.fromkeys(COMPARED, nothing)})
    assert (found.above, found.higher, found.not_above) == ([], [], [*COMPARED])
