"""PixelCounts of masks, worked by hand."""

import numpy as np
import pytest

from mavl.metrics.segmentation import METRICS, PixelCounts, best_threshold, count, summarize

PREDICTED = np.array(
    [
        [[1, 1], [0, 0]],  # half right
        [[0, 0], [0, 0]],  # misses a mask
        [[0, 0], [0, 0]],  # rightly nothing
        [[0, 1], [0, 0]],  # wrongly something
        [[1, 0], [1, 0]],  # all right
    ]
)
MASKS = np.array([[[1, 0], [1, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]], [[1, 0], [1, 0]]])


def test_dice_and_iou_of_each_image():
    overlap = count(PREDICTED, MASKS)
    assert overlap.dice.tolist() == [0.5, 0, 1, 0, 1]
    # (1 + 1) / (3 + 1), (0 + 1) / (1 + 1), 1, (0 + 1) / (1 + 1), 1
    assert overlap.iou.tolist() == [0.5, 0.5, 1, 0.5, 1]


def test_means_over_all_over_positives_and_over_empty_masks():
    """50 images each of Dice 1/2 and 0, with a mask; 50 of 1 and 25 of 0, without one."""
    often = [50, 50, 50, 25, 0]
    result = summarize(count(PREDICTED.repeat(often, axis=0), MASKS.repeat(often, axis=0)), resamples=200)
    values = {name: result.means[name].value for name in METRICS}
    expected = {
        "dice": (25 + 50) / 175,
        "dice_positive": 25 / 100,
        "dice_empty": 50 / 75,
        "iou": (50 + 50 + 12.5) / 175,
    }
    assert values == pytest.approx(expected)
    assert (result.images, result.positives) == (175, 100)
    for interval in result.means.values():
        assert 0 <= interval.low < interval.value < interval.high <= 1


def test_without_an_empty_mask_its_mean_is_undefined():
    means = summarize(count(PREDICTED[:2], MASKS[:2]), resamples=20).means
    assert np.isnan(means["dice_empty"].value)
    assert np.isnan(means["dice_empty"].low)
    assert means["dice_positive"].value == means["dice"].value == 0.25


def test_images_of_a_patient_are_drawn_together():
    # 30 patients with 16 equal images each, every second one at 1, the others at 0: four times as wide as of images
    both = np.repeat(np.arange(30) % 2, 16)
    overlap = PixelCounts(np.ones(480), np.ones(480), both)
    patients = summarize(overlap, groups=np.arange(30).repeat(16).tolist(), resamples=2000).means["dice"]
    alone = summarize(overlap, resamples=2000).means["dice"]
    assert patients.value == alone.value == 0.5
    assert (patients.high - patients.low) / (alone.high - alone.low) == pytest.approx(4, rel=0.1)


def test_fewer_than_twenty_five_patients_give_no_interval():
    overlap = PixelCounts(np.ones(50), np.ones(50), np.arange(50) % 3 == 0)
    few, enough = (summarize(overlap, groups=(np.arange(50) % n).tolist()).means["dice"] for n in (24, 25))
    assert (few.value, np.isnan([few.low, few.high]).all()) == (0.34, True)
    assert enough.low < 0.34 < enough.high


def test_the_best_threshold_of_a_mean_mask_equals_a_search_by_hand():
    rng = np.random.default_rng(0)
    mean_mask = rng.random((6, 7)) ** 3 * 0.4
    masks = rng.random((5, 6, 7)) < mean_mask * 2
    masks[0] = False
    candidates = np.arange(100) / 100 * mean_mask.max()
    dice = [count(np.broadcast_to(mean_mask > t, masks.shape), masks).dice.mean() for t in candidates]
    assert best_threshold(mean_mask, masks) == candidates[np.argmax(dice)]


def test_a_mean_mask_of_nothing_predicts_nothing():
    nothing = np.zeros((3, 3))
    assert not (nothing > best_threshold(nothing, [np.eye(3)])).any()


def test_any_other_mean_mask_predicts_something_even_where_most_masks_are_empty():
    mean_mask = np.array([[0, 0.1], [0.2, 0.4]])
    assert (mean_mask > best_threshold(mean_mask, [np.zeros((2, 2))] * 9 + [np.eye(2)])).any()
