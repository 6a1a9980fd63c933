"""Metrics against numbers worked by hand, against scikit-learn, and against a bootstrap that copies the images."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics as sklearn_metrics

from mavl.metrics.classification import METRICS, auroc, best_f1, evaluate
from mavl.metrics.intervals import bootstrap_interval
from mavl.metrics.ranking import Confusion, rank

# Falling: 0.9 present, 0.8 absent, 0.7 present and absent tied, 0.2 absent.
LABELS = np.array([1, 0, 1, 0, 0])
SCORES = np.array([0.9, 0.8, 0.7, 0.7, 0.2])
TWO = {"labels": np.stack([LABELS] * 2, axis=1), "scores": np.stack([SCORES, -SCORES], axis=1)}


INTERVALS = [name for name, metric in METRICS.items() if metric.interval]


@st.composite
def tied_samples(draw):
    """labels with both values, and scores on a coarse grid so that most are tied."""
    n = draw(st.integers(2, 40))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda values: len(set(values)) == 2))
    scores = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    return np.array(labels), np.array(scores) / 4


def reference_f1(labels, scores):
    """The largest F1 over scikit-learn's precision-recall curve, and the curve's thresholds."""
    precision, recall, thresholds = sklearn_metrics.precision_recall_curve(labels, scores)
    return (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max(), thresholds


def values(metrics, names=tuple(METRICS)):
    """The values of these metrics [names]."""
    return [metrics[name].value for name in names]


def at_best(labels, scores):
    """The largest F1, precision, recall and threshold there."""
    found = best_f1(labels, scores)
    return (*values(found.metrics, ("best_f1", "precision", "recall")), found.threshold)


def confusion(threshold, strict=False) -> Confusion:
    return rank(LABELS, SCORES).count([threshold], strict).cut


def counts(of: Confusion) -> tuple[int, ...]:
    return tuple(count.item() for count in vars(of).values())


def rates(of: Confusion, *names: str) -> tuple[float, ...]:
    return tuple(getattr(of, name).item() for name in names)


def bounds(interval):
    return interval.low, interval.high


class TestByHand:
    def test_auroc_counts_a_tie_as_half(self):
        # 0.9 beats three negatives; 0.7 loses one, ties one, beats one: (3 + 1.5) of 6 pairs.
        assert auroc(LABELS, SCORES) == 0.75

    def test_average_precision(self):
        # Recall 1/2 at precision 1, then recall 1 at precision 2 of 4.
        assert values(best_f1(LABELS, SCORES).metrics, ["average_precision"]) == [0.5 * 1 + 0.5 * 0.5]

    def test_best_f1_takes_the_lowest_of_tied_thresholds(self):
        # 0.9: 2·1/(2+1) = 2/3. 0.7: 2·2/(2+4) = 2/3 as well.
        assert at_best(LABELS, SCORES) == (2 / 3, 0.5, 1.0, 0.7)

    def test_confusion_at_a_threshold_that_is_a_score(self):
        at_least, above = confusion(0.7), confusion(0.7, strict=True)
        assert (counts(at_least), counts(above)) == ((2, 2, 2, 3), (1, 1, 2, 3))
        assert rates(at_least, "accuracy", "sensitivity", "specificity", "iou") == (3 / 5, 1, 1 / 3, 1 / 2)
        assert rates(above, "accuracy", "sensitivity", "specificity", "iou") == (3 / 5, 1 / 2, 2 / 3, 1 / 3)

    def test_confusion_between_and_beyond_the_scores(self):
        between, everything, nothing = map(confusion, (0.75, 0.0, 1.0))
        assert (counts(between), counts(everything), counts(nothing)) == ((1, 1, 2, 3), (2, 3, 2, 3), (0, 0, 2, 3))
        assert rates(nothing, "precision", "f1", "specificity") == (0.0, 0.0, 1.0)

    def test_all_scores_tied(self):
        labels, scores = np.array([1, 0, 0, 0]), np.full(4, 0.3)
        found = best_f1(labels, scores).metrics
        assert values(found, ("auroc", "average_precision", "best_f1")) == [0.5, 0.25, 2 / 5]

    def test_an_unlabelled_image_does_not_exist(self):
        labels, scores = np.array([1, -1, 0, 1, -1, 0, 0]), np.array([0.9, 5.0, 0.8, 0.7, -5.0, 0.7, 0.2])
        assert auroc(labels, scores) == 0.75
        assert at_best(labels, scores) == at_best(LABELS, SCORES)

    @pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1], [-1, -1, -1], [1, 1, -1]])
    def test_one_label_only_is_undefined(self, labels):
        scores = np.arange(len(labels), dtype=float)
        found = best_f1(labels, scores)
        assert np.isnan([auroc(labels, scores), found.threshold, *values(found.metrics)]).all()


class TestAgainstScikitLearn:
    @settings(max_examples=60, deadline=None)
    @given(tied_samples())
    def test_every_metric(self, sample):
        labels, scores = sample
        one = {"thresholds": [0.25], "threshold_source": "validation", "resamples": 0}
        [found] = evaluate(labels[:, None], scores[:, None], ["x"], **one).classes
        predicted, best = scores >= 0.25, scores >= best_f1(labels, scores).threshold
        assert {name: interval.value for name, interval in found.metrics.items()} == pytest.approx(
            {
                "auroc": sklearn_metrics.roc_auc_score(labels, scores),
                "average_precision": sklearn_metrics.average_precision_score(labels, scores),
                "best_f1": reference_f1(labels, scores)[0],
                "precision": sklearn_metrics.precision_score(labels, best),
                "recall": sklearn_metrics.recall_score(labels, best),
                "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
                "sensitivity": sklearn_metrics.recall_score(labels, predicted),
                "specificity": sklearn_metrics.recall_score(1 - labels, ~predicted),
            },
            abs=1e-12,
        )

    @settings(max_examples=60, deadline=None)
    @given(tied_samples())
    def test_the_threshold_of_the_best_f1_is_the_lowest(self, sample):
        labels, scores = sample
        largest, thresholds = reference_f1(labels, scores)
        f1_at = [sklearn_metrics.f1_score(labels, scores >= threshold) for threshold in thresholds]
        reached = [t for t, f1 in zip(thresholds, f1_at, strict=True) if f1 == pytest.approx(largest, abs=1e-9)]
        assert best_f1(labels, scores).threshold == min(reached)


class TestEvaluate:
    def test_values_are_those_of_each_class_and_means_are_plain(self):
        # The second class has the scores of the first in reverse; unlabelled images are ignored.
        labels = np.stack([LABELS, LABELS], axis=1)
        labels[1, 1] = -1
        scores = np.stack([SCORES, -SCORES], axis=1)
        result = evaluate(labels, scores, "ab", thresholds=[0.75, -0.8], threshold_source="validation")
        first, second = result.classes
        assert values(first.metrics) == pytest.approx([3 / 4, 3 / 4, 2 / 3, 1 / 2, 1, 3 / 5, 1 / 2, 2 / 3])
        # b: -0.2 absent, -0.7 present and absent, -0.9 present. Pairs: 0.5 of 4. Recall 1/2 at 1 of 3, 1 at 2 of 4.
        assert values(second.metrics) == pytest.approx([1 / 8, 5 / 12, 2 / 3, 1 / 2, 1, 1 / 4, 1 / 2, 0])
        assert [(each.n, each.positives, each.threshold) for each in result.classes] == [(5, 2, 0.75), (4, 2, -0.8)]
        assert second.threshold_source == "validation"
        assert values(result.means, INTERVALS) == pytest.approx([7 / 16, 7 / 12, 2 / 3, 17 / 40, 1 / 2, 1 / 3])
        assert [*result.means] == INTERVALS
        assert first.metrics["auroc"].low < 0.75 < first.metrics["auroc"].high
        assert (result.undefined, result.without_threshold, result.images, result.groups) == ([], [], 5, None)

    def test_undefined_classes_are_named_and_shift_no_other(self):
        labels = np.stack([np.zeros(5, int), LABELS, np.full(5, -1), LABELS, np.ones(5, int)], axis=1)
        scores = np.stack([SCORES, SCORES, SCORES, -SCORES, SCORES], axis=1)
        result = evaluate(labels, scores, ["none", "right", "blank", "wrong", "all"], threshold_source="test")
        assert result.undefined == ["none", "blank", "all"]
        areas = [of_class.metrics["auroc"].value for of_class in result.classes]
        np.testing.assert_equal(areas, [np.nan, 0.75, np.nan, 0.25, np.nan])
        assert [(of_class.n, of_class.positives) for of_class in result.classes[::2]] == [(5, 0), (0, 0), (5, 5)]
        assert result.means["auroc"].value == 0.5

    def test_perfect_scores_are_accurate_unless_the_threshold_is_strict(self):
        labels, scores = np.array([[1], [1], [0], [0]]), np.array([[0.9], [0.8], [0.3], [0.1]])
        sound, released = (evaluate(labels, scores, ["x"], threshold_source="test", strict=s) for s in (False, True))
        assert (sound.classes[0].threshold, sound.classes[0].metrics["best_f1"].value) == (0.8, 1.0)
        assert sound.classes[0].metrics["accuracy"].value == 1.0
        assert released.classes[0].metrics["accuracy"].value == 0.75  # the positive at the threshold is lost
        assert released.classes[0].metrics["sensitivity"].value == 0.5

    def test_without_a_threshold_only_the_metrics_that_need_one_are_missing(self):
        none = evaluate(**TWO, names=["x", "y"], resamples=20)
        assert none.without_threshold == ["x", "y"]
        assert none.classes[0].threshold_source is None
        assert np.isnan([none.classes[0].metrics["accuracy"].value, none.means["accuracy"].value]).all()
        one = evaluate(**TWO, names=["x", "y"], thresholds=[0.75, np.nan], threshold_source="validation", resamples=20)
        assert one.without_threshold == ["y"]
        assert one.means["accuracy"].value == one.classes[0].metrics["accuracy"].value == 3 / 5
        assert one.means["auroc"].value == none.means["auroc"].value == 0.5

    def test_float32_thresholds_still_include_the_image_they_came_from(self):
        scores = np.array([[0.1], [0.7], [0.3]], dtype=np.float32)
        threshold = best_f1([0, 1, 0], scores[:, 0]).threshold
        result = evaluate([[0], [1], [0]], scores, ["x"], thresholds=[threshold], threshold_source="validation")
        assert result.classes[0].metrics["accuracy"].value == 1.0

    @pytest.mark.parametrize(
        ("where", "value", "message"),
        [
            ("scores", np.nan, "score nan; scores must be finite"),
            ("scores", -np.inf, "score -inf"),
            ("labels", 2, "label 2.0; labels are 1, 0, or -1"),
            ("labels", np.nan, "label nan"),
        ],
    )
    def test_a_bad_entry_is_named(self, where, value, message):
        arrays = {key: array.astype(float) for key, array in TWO.items()}
        arrays[where][3, 1] = value
        with pytest.raises(ValueError, match=f"class 'b', row 3: {message}"):
            evaluate(**arrays, names=["a", "b"])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"names": ["a"]}, r"labels \(5, 2\) and scores \(5, 2\) .* the 1 classes of the names"),
            ({"scores": np.zeros((5, 3))}, r"scores \(5, 3\)"),
            ({"labels": LABELS}, r"labels \(5,\)"),
            ({"labels": np.zeros((0, 2)), "scores": np.zeros((0, 2))}, "not empty"),
            ({"thresholds": [0.5], "threshold_source": "test"}, "shorter"),
            ({"groups": ["p1", "p2"]}, "2 keys for 5 images"),
            ({"groups": ["p1", None, "p2", "p2", "p3"]}, r"rows without a key: \[1\]"),
        ],
    )
    def test_arguments_that_disagree(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            evaluate(**(TWO | {"names": ["a", "b"]} | arguments))


class TestBootstrap:
    def test_it_equals_a_bootstrap_that_copies_the_images(self):
        rng = np.random.default_rng(5)
        labels, scores = rng.integers(-1, 2, (400, 2)), rng.integers(0, 6, (400, 2)) / 6
        one = {"thresholds": [0.5, 0.2], "threshold_source": "validation"}
        result = evaluate(labels, scores, ["a", "b"], resamples=80, seed=9, **one)
        copies = [
            evaluate(labels[rows], scores[rows], ["a", "b"], resamples=0, **one)
            for rows in np.random.default_rng(9).integers(400, size=(80, 400))
        ]
        fewest = [min((labels[:, c] == 1).sum(), (labels[:, c] == 0).sum()) for c in range(2)]
        for name in ("average_precision", "best_f1"):
            for c, of_class in enumerate(result.classes):
                found = of_class.metrics[name]
                copied = np.array([copy.classes[c].metrics[name].value for copy in copies])
                assert found == bootstrap_interval(found.value, copied, fewest[c])
            mean = result.means[name]
            assert bounds(mean) == pytest.approx(
                bounds(
                    bootstrap_interval(mean.value, np.array([copy.means[name].value for copy in copies]), min(fewest))
                )
            )
        assert np.isnan(bounds(result.classes[0].metrics["precision"])).all()

    def test_classes_are_resampled_jointly(self):
        # The mean of two equal classes is as uncertain as one of them, that of independent ones less.
        rng = np.random.default_rng(2)
        labels, scores = np.tile(LABELS > 0, 20)[:, None], rng.normal(size=(100, 1))
        twice = evaluate(labels.repeat(2, axis=1), scores.repeat(2, axis=1), ["x", "y"], resamples=200)
        assert bounds(twice.means["auroc"]) == pytest.approx(bounds(twice.classes[0].metrics["auroc"]))
        apart = evaluate(labels.repeat(2, axis=1), np.c_[scores, rng.normal(size=(100, 1))], ["x", "y"], resamples=200)
        widths = [np.ptp(bounds(each)) for each in (apart.means["auroc"], apart.classes[0].metrics["auroc"])]
        assert widths[0] / widths[1] == pytest.approx(0.5**0.5, rel=0.1)

    def test_a_class_and_its_mirror_image_count_as_independent(self):
        # Every resample has the mean 1/2, but so few labels say little about a correlation.
        mirrored = evaluate(**TWO, names=["x", "y"], resamples=50)
        assert mirrored.means["auroc"].low < 0.3

    def test_images_of_one_patient_do_not_count_as_independent(self):
        rng = np.random.default_rng(1)
        labels = rng.integers(0, 2, (80, 1))
        scores = labels + rng.normal(size=(80, 1))
        patients = np.repeat([f"p{i}" for i in range(80)], 4)
        once = evaluate(labels, scores, ["x"])
        labels, scores = labels.repeat(4, axis=0), scores.repeat(4, axis=0)
        alone, together = evaluate(labels, scores, ["x"]), evaluate(labels, scores, ["x"], groups=patients)
        width = [np.ptp(bounds(result.classes[0].metrics["auroc"])) for result in (once, alone, together)]
        assert width[2] == pytest.approx(width[0], rel=0.1)
        assert width[1] < 0.6 * width[2]  # images fourfold would halve it
        assert together.groups == 80

    def test_one_positive_gives_no_interval_of_its_class_but_of_the_mean(self):
        labels, scores = np.array([[1, 1], [0, 1], [0, 0], [0, 0]]), np.array([[9, 9], [2, 8], [1, 7], [0, 0]]) / 10
        result = evaluate(labels, scores, ["one", "two"])
        one, two = (of_class.metrics["auroc"] for of_class in result.classes)
        assert (one.value, np.isnan(bounds(one)).all(), two.low < two.value) == (1.0, True, True)
        assert (result.too_few, result.means["auroc"].high) == (["one"], 1.0)
        assert two.low < result.means["auroc"].low < 1

    def test_two_images_of_one_patient_are_one_positive(self):
        labels, scores = np.array([[1], [1], [0], [0]]), np.array([[9], [8], [1], [0]]) / 10
        assert evaluate(labels, scores, ["x"], groups=["p", "p", "q", "r"]).too_few == ["x"]
        assert evaluate(labels, scores, ["x"], groups=["p", "s", "q", "r"]).too_few == []

    def test_few_patients_count_as_one_image_each(self):
        labels, scores = np.array([1, 1, 0, 0, 1]), np.array([9, 3, 5, 1, 7]) / 10
        once = evaluate(labels[:, None], scores[:, None], ["x"])
        often = evaluate(labels.repeat(3)[:, None], scores.repeat(3)[:, None], ["x"], groups=np.arange(5).repeat(3))
        assert often.classes[0].metrics["auroc"] == once.classes[0].metrics["auroc"]

    def test_with_two_positives_the_interval_of_auroc_covers(self):
        # Percentile bootstraps cover 0.5 to 0.6 here.
        rng, covered = np.random.default_rng(4), []
        labels = (np.arange(100) < 2).astype(int)
        scores = rng.standard_normal((100, 400)) + labels[:, None] * np.sqrt(2) * norm.ppf(0.9)
        names = [str(i) for i in range(400)]
        for of_class in evaluate(labels[:, None].repeat(400, axis=1), scores, names, resamples=2).classes:
            low, high = bounds(of_class.metrics["auroc"])
            covered.append(low <= 0.9 <= high)
        assert 0.93 <= np.mean(covered) <= 0.99

    def test_no_resamples_give_no_bounds(self):
        result = evaluate(LABELS[:, None], SCORES[:, None], ["x"], resamples=0)
        assert result.classes[0].metrics["auroc"].value == 0.75
        assert np.isnan([bounds(result.classes[0].metrics["auroc"]), bounds(result.means["auroc"])]).all()

    def test_the_seed_decides_and_the_slicing_does_not(self, monkeypatch):
        labels, scores = np.tile(LABELS, 8)[:, None], np.random.default_rng(0).normal(size=(40, 1))
        first = evaluate(labels, scores, ["x"], resamples=50, seed=1)
        assert evaluate(labels, scores, ["x"], resamples=50, seed=2).classes != first.classes
        monkeypatch.setattr("mavl.metrics.intervals.WEIGHTS_AT_ONCE", 3 * 40)
        assert repr(evaluate(labels, scores, ["x"], resamples=50, seed=1)) == repr(first)

    def test_memory_does_not_grow_with_the_resamples(self):
        rng = np.random.default_rng(0)
        labels, scores = rng.random((5_000, 2)) < 0.3, rng.normal(size=(5_000, 2))
        peak = {}
        for resamples in (60, 520):
            tracemalloc.start()
            evaluate(labels, scores, ["a", "b"], resamples=resamples)
            peak[resamples] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak[520] < 1.2 * peak[60]


@pytest.mark.parametrize("threshold", [np.inf, -np.inf])
def test_infinite_thresholds_are_refused_by_name(threshold):
    labels, scores = np.array([[1, 0], [0, 1]]), np.array([[0.9, 0.1], [0.2, 0.6]])
    with pytest.raises(ValueError, match="the threshold of 'b' is infinite: give a finite one, or NaN for none"):
        evaluate(labels, scores, ["a", "b"], thresholds=[0.5, threshold], threshold_source="validation", resamples=0)
