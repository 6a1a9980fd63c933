"""Resampling; the intervals are tested with the metrics."""

from mavl.metrics.intervals import bootstrap, group_index


def test_weights_count_whole_groups():
    groups = group_index(["q", "p", "q", "r"], 4)
    assert groups.tolist() == [0, 1, 0, 2]
    weights = bootstrap(lambda weights: weights, groups, 200, 0)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
