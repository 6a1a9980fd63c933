"""Localisation against the released sweep, numbers worked by hand, a plain loop over thresholds, and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn import metrics as sklearn_metrics

from mavl.metrics.grounding import METRICS, measure_and_sweep, released_thresholds, sweep
from tests.support.grounding import best_threshold, localize, mean_sweep, measure

THRESHOLD_METRICS = [name for name, metric in METRICS.items() if metric.needs_threshold]
HEATMAP = np.array([[0.9, 0.8, 0.1], [0.5, 0.5, 0.1], [0.3, 0.1, 0.0]], np.float32)
MASK = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 0]])
CONSTANT = np.full((3, 3), 0.1, np.float32)


def only(value):
    return pytest.approx(value, abs=1e-12)


@st.composite
def tied_images(draw):
    """A map on a coarse grid, so that most pixels are tied, and a mask that is not empty; of one shape."""
    shape = draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=6))
    heatmap = draw(arrays.arrays(np.float32, shape, elements=st.sampled_from([-0.1, 0.0, 0.1, 0.2, 0.7])))
    return heatmap, draw(arrays.arrays(bool, shape).filter(np.any))


def looped(heatmap, mask, threshold):
    """THRESHOLD_METRICS at one threshold of the map's type, from the sets of pixels."""
    predicted = heatmap > threshold
    both, either, n = (predicted & mask).sum(), (predicted | mask).sum(), predicted.sum()
    precision = both / n if n else np.nan
    return (
        both / either,
        2 * both / (n + mask.sum()),
        both / mask.sum(),
        precision,
        (predicted == mask).sum() / mask.size,
    )


@pytest.fixture(scope="module")
def golden(shared):
    return dict(np.load(shared("goldens/grounding.npz")))


@pytest.fixture(scope="module")
def positives(golden):
    rows = zip(golden["labels"][:, 0], golden["maps"], golden["masks"], strict=True)
    return [(f"{row}.png", heatmap, mask) for row, (label, heatmap, mask) in enumerate(rows) if label]


class TestReleased:
    def test_thresholds_are_those_of_the_release_to_the_last_bit(self, golden):
        thresholds = released_thresholds()
        assert len(thresholds) == 9990
        np.testing.assert_array_equal(thresholds[::37], golden["table"][:, 0])

    def test_means_at_every_tabulated_threshold(self, golden, positives):
        # Some of the pixels equal the float32 of a threshold: compared as float64, the table is missed by 1e-4.
        table = golden["table"]
        means = mean_sweep(positives, table[:, 0])
        assert np.isnan(table[:, 5]).any()
        for column, metric in enumerate(THRESHOLD_METRICS, start=2):
            np.testing.assert_allclose(means[metric], table[:, column], atol=1e-6, rtol=0, err_msg=metric)
        hits = sum(measure(heatmap, mask)["pointing_game"] for _, heatmap, mask in positives)
        assert (table[:, 1] == hits).all()

    def test_best_threshold_and_the_metrics_there(self, golden, positives):
        best = dict(zip(golden["best_names"], golden["best"], strict=True))
        threshold = best_threshold(positives, released_thresholds())
        assert threshold == best.pop("threshold")
        best["pointing_game"] = best.pop("pointing")
        means = localize(positives, threshold, threshold_source="test", nan_policy="propagate", resamples=0).means
        assert {metric: means[metric].value for metric in best} == pytest.approx(best, abs=1e-6)

    def test_largest_f1_of_each_image(self, golden, positives):
        largest = [measure(heatmap, mask)["best_dice"] for _, heatmap, mask in positives]
        np.testing.assert_allclose(largest, golden["max_f1"], atol=1e-6, rtol=0)


class TestByHand:
    def test_at_a_threshold(self):
        # Above 0.4: 0.9, 0.8 (mask), 0.5, 0.5 (mask); the mask's 0.3 is missed: 2 of 3 found, 2 of 4 right.
        values = measure(HEATMAP, MASK, 0.4)
        assert {metric: values[metric] for metric in THRESHOLD_METRICS} == {
            "iou": 2 / 5,
            "dice": 4 / 7,
            "recall": 2 / 3,
            "precision": 2 / 4,
            "accuracy": 6 / 9,
        }

    def test_without_a_threshold(self):
        # By falling heat, the mask's share of each run: 0 of 1, 1 of 1, 1 of 2, 1 of 1. Precision at the ends of those
        # that hold a mask's pixel: 1/2, 2/4, 3/5, each for a third of the recall. Dice there: 2/5, 4/7, 6/8.
        values = measure(HEATMAP, MASK)
        assert values["average_precision"] == only((1 / 2 + 2 / 4 + 3 / 5) / 3)
        assert values["best_dice"] == 6 / 8
        assert values["pointing_game"] == 0
        assert all(np.isnan(values[metric]) for metric in THRESHOLD_METRICS)

    def test_contrast_to_noise_has_no_sign(self):
        # Inside 1 and 3: mean 2, variance 1. Outside -2, 0, 0, 2: mean 0, variance 2. So 2 / sqrt(3).
        heatmap, mask = np.array([[1.0, 3, -2], [0, 0, 2]]), np.array([[1, 1, 0], [0, 0, 0]])
        assert measure(heatmap, mask)["contrast_to_noise"] == only(2 / np.sqrt(3))
        assert measure(-heatmap, mask)["contrast_to_noise"] == only(2 / np.sqrt(3))

    def test_contrast_to_noise_where_one_side_is_constant(self):
        mask = np.array([[1, 1, 0], [0, 0, 0]])
        varied_inside = np.array([[1.0, 3, 0], [0, 0, 0]])  # mean 2, variance 1, against 0 without any
        varied_outside = np.array([[2.0, 2, -2], [0, 0, 2]])  # mean 2 without variance, against 0 with 2
        assert measure(varied_inside, mask)["contrast_to_noise"] == only(2)
        assert measure(varied_outside, mask)["contrast_to_noise"] == only(2 / np.sqrt(2))

    @pytest.mark.parametrize("threshold", [np.nan, np.inf, -np.inf])
    def test_thresholds_that_are_no_numbers_are_refused(self, threshold):
        for call in (
            lambda: sweep(HEATMAP, MASK, [0.1, threshold]),
            lambda: measure_and_sweep(HEATMAP, MASK, threshold, [0.1]),
            lambda: measure_and_sweep(HEATMAP, MASK, None, [threshold]),
        ):
            with pytest.raises(ValueError, match="a threshold is NaN or infinite"):
                call()

    def test_pointing_game_counts_any_tied_maximum(self):
        tied = np.where(HEATMAP > 0.7, 0.9, HEATMAP)
        assert measure(tied, MASK)["pointing_game"] == 1

    def test_a_pixel_at_the_threshold_is_not_above_it(self):
        # 0.1 rounded to float32 is above the float64 0.1; the map's own type decides.
        assert sweep(CONSTANT, MASK, [0.1])["recall"] == 0
        assert sweep(CONSTANT.astype(np.float64), MASK, [0.1])["recall"] == 1
        assert sweep(np.full((3, 3), 0.5, np.float16), MASK, [0.5, 0.4999])["recall"].tolist() == [0, 1]


class TestEdges:
    def test_nothing_predicted_leaves_precision_undefined(self):
        values = measure(HEATMAP, MASK, 0.9)
        assert np.isnan(values["precision"])
        assert (values["iou"], values["dice"], values["recall"], values["accuracy"]) == (0, 0, 0, 6 / 9)

    def test_a_constant_map(self):
        values = measure(CONSTANT, MASK)
        assert (values["pointing_game"], values["contrast_to_noise"], values["best_dice"]) == (1, 0, 6 / 12)
        assert values["average_precision"] == only(3 / 9)

    def test_a_perfect_map_has_no_noise_to_divide_by(self):
        values = measure(MASK.astype(np.float32), MASK, 0.5)
        assert np.isnan(values.pop("contrast_to_noise"))
        assert set(values.values()) == {1.0}

    def test_a_mask_of_the_whole_image_has_no_outside(self):
        values = measure(HEATMAP, np.ones((3, 3)), 0.4)
        assert np.isnan(values.pop("contrast_to_noise"))
        assert values["average_precision"] == only(1)
        assert (values["precision"], values["accuracy"], values["recall"]) == (1, 4 / 9, 4 / 9)

    @pytest.mark.parametrize(
        ("heatmap", "mask", "message"),
        [
            (HEATMAP, np.zeros((3, 3)), "image 'a.png': the mask is empty"),
            (HEATMAP, np.ones((2, 3)), r"image 'a.png': heatmap \(3, 3\) and mask \(2, 3\)"),
            (np.where(HEATMAP == 0.3, np.nan, HEATMAP), MASK, "image 'a.png': the heatmap has pixels that are NaN"),
            (np.where(HEATMAP == 0.0, np.inf, HEATMAP), MASK, "image 'a.png': the heatmap has pixels that are NaN"),
        ],
    )
    def test_bad_images_are_named(self, heatmap, mask, message):
        heatmap = np.asarray(heatmap, np.float32)
        for use in (localize, lambda images: best_threshold(images, [0.1])):
            with pytest.raises(ValueError, match=message):
                use([("a.png", heatmap, mask)])


class TestSweep:
    @settings(deadline=None)
    @given(tied_images())
    def test_equals_a_loop_over_the_thresholds(self, image):
        heatmap, mask = image
        thresholds = np.array([0.7, -0.2, -0.1, 0.0, 0.05, 0.1, 0.1000000001, 0.2, 0.7000001, 2.0])  # in no order
        swept = np.stack(list(sweep(heatmap, mask, thresholds).values()), axis=1)
        expected = [looped(heatmap, mask, threshold) for threshold in thresholds.astype(np.float32)]
        np.testing.assert_array_equal(swept, expected)

    def test_equals_the_loop_where_every_pixel_is_at_a_released_threshold(self):
        rng = np.random.default_rng(0)
        heatmap = rng.choice(released_thresholds(), size=(224, 224)).astype(np.float32)  # every pixel at a threshold
        mask = np.zeros((224, 224), bool)
        mask[50:120, 30:90] = True
        swept = np.stack(list(sweep(heatmap, mask, released_thresholds()).values()), axis=1)
        some = slice(None, None, 111)
        expected = [looped(heatmap, mask, threshold) for threshold in released_thresholds()[some].astype(np.float32)]
        np.testing.assert_array_equal(swept[some], expected)

    def test_of_tied_thresholds_the_first_is_best(self):
        images = [("a", HEATMAP, MASK)]
        # Dice is 6/8 from the threshold 0.1 until 0.3, and lower before and after.
        assert best_threshold(images, [0.05, 0.1, 0.2, 0.29, 0.3]) == 0.1


class TestAgainstScikitLearn:
    @settings(deadline=None)
    @given(tied_images())
    def test_average_precision_and_largest_f1(self, image):
        heatmap, mask = image
        values, pixels = measure(heatmap, mask), (mask.ravel(), heatmap.ravel())
        precision, recall, _ = sklearn_metrics.precision_recall_curve(*pixels)
        assert values["average_precision"] == only(sklearn_metrics.average_precision_score(*pixels))
        assert values["best_dice"] == only((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def bounds(interval):
    return interval.low, interval.high


class TestMeans:
    IMAGES = (("found", HEATMAP, MASK), ("faint", HEATMAP / 10, MASK), ("flat", CONSTANT, MASK))

    def test_a_precision_that_is_undefined_is_left_out_and_counted(self):
        result = localize(iter(self.IMAGES), 0.4, threshold_source="validation", resamples=20)
        assert result.means["precision"].value == 2 / 4
        assert result.means["dice"].value == only(4 / 7 / 3)
        assert result.undefined == {"precision": 2}
        assert (result.cases, result.threshold, result.threshold_source) == (3, 0.4, "validation")

    def test_or_makes_the_mean_undefined_as_released(self):
        result = localize(self.IMAGES, 0.4, threshold_source="test", nan_policy="propagate", resamples=20)
        precision = result.means["precision"]
        assert np.isnan([precision.value, precision.low, precision.high]).all()
        assert result.means["dice"].value == only(4 / 7 / 3)
        assert result.undefined == {"precision": 2}

    def test_without_a_threshold_its_metrics_are_undefined(self):
        result = localize(self.IMAGES, resamples=20)
        assert result.undefined == dict.fromkeys(THRESHOLD_METRICS, 3)
        assert np.isnan(result.means["dice"].value)
        assert result.means["pointing_game"].value == 1 / 3

    def test_the_interval_of_a_mean_of_zeros_and_ones_is_binomial(self):
        # Recall 1 in 30 images and 0 in 10: the mean of a resample is a binomial share, 0.75 ± 1.96 * 0.0685.
        images = [(str(n), MASK.astype(np.float32) if n < 30 else -HEATMAP, MASK) for n in range(40)]
        recall = localize(images, 0.5, threshold_source="test", resamples=4000).means["recall"]
        assert recall.value == 0.75
        assert (recall.low, recall.high) == pytest.approx((0.616, 0.884), abs=0.03)

    def test_groups_are_resampled_whole(self):
        # 30 patients with four equal images: twice as wide as of images.
        images = [(str(n), MASK.astype(np.float32) if n % 2 else HEATMAP, MASK) for n in range(30) for _ in range(4)]
        alone, patients = localize(images), localize(images, groups=[name for name, *_ in images])
        assert (alone.groups, patients.groups) == (None, 30)
        width = [np.ptp(bounds(of.means["pointing_game"])) for of in (alone, patients)]
        assert width[1] / width[0] == pytest.approx(2, rel=0.15)

    def test_the_seed_decides_the_resamples(self):
        maps = np.random.default_rng(0).random((40, 3, 3))
        images = [(str(n), heatmap, MASK) for n, heatmap in enumerate(maps)]
        first, again, other = (localize(images, 0.2, threshold_source="test", seed=seed).means for seed in (3, 3, 4))
        assert first["average_precision"] == again["average_precision"]
        assert first["average_precision"].value == other["average_precision"].value
        assert bounds(first["average_precision"]) != bounds(other["average_precision"])

    def test_equal_seeds_give_equal_intervals_for_every_metric(self):
        first, again = (localize(self.IMAGES, 0.2, threshold_source="test", seed=3).means for _ in range(2))
        assert first == again
        assert list(first) == list(METRICS)
