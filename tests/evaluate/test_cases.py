"""Thresholds and metrics of maps and masks made by hand: 2 × 2 maps on as many pixels, so that nothing is between."""

from pathlib import Path

import numpy as np
import pytest

from mavl.config.evaluation import GroundingSettings
from mavl.data.benchmarks.masks import BoxMask
from mavl.data.benchmarks.splits import Split
from mavl.evaluate.cases import ALL, SPREADS, Grounded, choose_thresholds, localize_findings, measure_cases
from mavl.evaluate.subject import Thresholds
from mavl.metrics.grounding import released_thresholds
from tests.support.grounding import mean_sweep


def by_hand(grids: list, boxes_of: list[str], findings: tuple[str, ...] = ("mass",)) -> Grounded:
    """An image for each grid, with a mask of the finding in turn, from boxes of a 2 × 2 frame."""
    names = [findings[image % len(findings)] for image in range(len(grids))]
    masks = {
        finding: [
            BoxMask.parse(box, (2, 2)) if name == finding else None for name, box in zip(names, boxes_of, strict=True)
        ]
        for finding in findings
    }
    n = len(grids)
    labels = np.array([[int(name == finding) for finding in findings] for name in names], np.int8)
    rows, paths = [f"t.csv:{i}" for i in range(n)], [Path(f"{i}.png") for i in range(n)]
    split = Split("test", findings, paths, labels, ["p", *"pqrstuvw"][:n], rows, masks)
    maps = np.array(grids, np.float32).reshape(n, 1, 2, 2).repeat(len(findings), axis=1)
    return Grounded(split, list(enumerate(names)), maps, [])


SETTINGS = GroundingSettings(benchmark="", map_size=2, resamples=0)
LEFT, TOP = "0;0;1;2", "0;0;2;1"


def test_metrics_worked_by_hand():
    """Above 0.25: the left column, of which the mask has the upper pixel; the second map has nothing above 0.25."""
    grounded = by_hand([[0.4, 0.1, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]], [TOP, LEFT])
    thresholds = Thresholds({("model", "mass"): 0.25, ("random", "mass"): 0.25, ("centre", "mass"): 0.25}, "test", "")
    measured = measure_cases(SETTINGS, grounded, thresholds)
    first, second = measured.of(ALL, "model").to_dict("records")
    assert (first["dice"], first["iou"], first["recall"], first["precision"]) == (0.5, pytest.approx(1 / 3), 0.5, 0.5)
    assert (second["dice"], second["recall"]) == (0, 0)
    assert np.isnan(second["precision"])
    for protocol, precision in (("sound", 0.5), ("released", np.nan)):
        settings = SETTINGS.model_copy(update={"protocol": protocol})
        found = localize_findings(settings, ["mass", "edema"], measured, thresholds)
        assert list(found) == ["mass", ALL]
        means = found["mass"]["model"].means
        assert means["precision"].value == pytest.approx(precision, nan_ok=True)
        assert means["dice"].value == 0.25
        assert found["mass"]["model"].threshold == 0.25
        assert found["mass"]["model"].groups == 1  # both images are of one patient


def test_the_released_threshold_is_the_first_best_of_the_released_sweep():
    grounded = by_hand([[0.05, 0.02, 0.05, 0.02], [0.07, 0.06, 0.01, 0.01], [0.05, 0.05, 0.03, 0.03]], [LEFT, TOP, TOP])
    settings = SETTINGS.model_copy(update={"protocol": "released"})
    thresholds = choose_thresholds(settings, grounded, None, "unused")
    # From 0.03 to below 0.05 all three are found exactly; 0.03 itself is not above 0.03.
    assert thresholds.values["model", "mass"] == pytest.approx(0.03, abs=1.1e-5)
    assert thresholds.source == "test"
    images = [(str(i), *(x[1]["model"], x[0])) for i in range(3) for x in [grounded.compare(i, settings)]]
    swept = mean_sweep(images, released_thresholds())
    at = swept["dice"][np.searchsorted(released_thresholds(), thresholds.values["model", "mass"] - 1e-9)]
    assert at == swept["dice"].max() == 1


def test_each_finding_has_its_own_threshold():
    low, high = [0.004, 0.001, 0.004, 0.001], [0.09, 0.02, 0.09, 0.02]
    grounded = by_hand([low, high], [LEFT, LEFT], ("mass", "edema"))
    settings = SETTINGS.model_copy(update={"protocol": "released"})
    values = choose_thresholds(settings, grounded, None, None).values
    assert values["model", "mass"] == pytest.approx(0.001, abs=1.1e-5)
    assert values["model", "edema"] == pytest.approx(0.02, abs=1.1e-5)


def test_the_sound_candidates_fit_the_grid():
    """Four patches have 49 times as much attention each as 196, far above the released candidates."""
    grounded = by_hand([[0.4, 0.2, 0.4, 0.2]], [LEFT])
    assert choose_thresholds(SETTINGS, grounded, grounded, None).values["model", "mass"] == pytest.approx(0.2, abs=1e-3)


def test_dice_over_thresholds_is_the_mean_of_the_cases():
    """Above half an even spread lie 3 pixels, 2 of the mask; above a whole one 2, one of it; above 16 of them none."""
    grounded = by_hand([[0.4, 0.15, 0.35, 0.1], [0.25, 0.25, 0.25, 0.25]], [TOP, TOP], ("mass", "edema"))
    dice = measure_cases(SETTINGS, grounded, Thresholds({}, None, "")).dice
    assert list(dice) == ["mass", ALL, "edema"]
    places = [0, int(np.searchsorted(SPREADS, 0.5)), int(np.searchsorted(SPREADS, 1.01)), len(SPREADS) - 1]
    np.testing.assert_allclose(dice["mass"]["model"][places], [2 / 3, 4 / 5, 1 / 2, 0])
    np.testing.assert_allclose(dice["edema"]["model"][places], [2 / 3, 2 / 3, 0, 0])
    np.testing.assert_allclose(dice[ALL]["model"], (dice["mass"]["model"] + dice["edema"]["model"]) / 2)
    assert set(dice[ALL]) == {"model", "random", "centre"}
