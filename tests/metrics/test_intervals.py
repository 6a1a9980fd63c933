"""Means over seeds; the intervals are tested with the metrics."""

import math

import pytest

from mavl.metrics.intervals import mean_and_std


def test_mean_and_deviation_over_seeds():
    found = mean_and_std([0.5, 0.7, 0.9])
    assert found == {"mean": pytest.approx(0.7), "std": pytest.approx(0.2), "values": [0.5, 0.7, 0.9]}
    one = mean_and_std([0.25, None, math.nan])  # undefined values are left out
    assert (one["mean"], one["values"][0]) == (0.25, 0.25)
    assert math.isnan(one["std"])
    assert math.isnan(mean_and_std([None])["mean"])
