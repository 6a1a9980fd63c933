"""What the ROC and precision-recall plots show of an evaluation."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mavl.metrics.classification import evaluate
from mavl.report.pictures.figures import plot_curves, save_figure

NAMES = ["edema", "hernia", "mass [round]"]
LABELS = np.array([[1, 0, 1], [0, 0, 0], [1, 0, -1], [0, 0, 1], [0, 0, 0]])
SCORES = np.array([[0.9, 0.5, 0.4], [0.8, 0.5, 0.3], [0.7, 0.5, 0.1], [0.7, 0.5, 0.2], [0.2, 0.5, 0.1]])


@pytest.fixture(scope="module")
def evaluation():
    """edema: AUROC 0.75, F1 2/3 at 0.7; hernia has no positive; mass: 3 of 4 pairs right, F1 0.8 at 0.2, n 4."""
    return evaluate(LABELS, SCORES, NAMES, threshold_source="test", resamples=50)


@pytest.fixture
def axes(monkeypatch):
    """The axes of the figures that are saved, in order."""
    saved, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **b: saved.append(self.axes[0]) or save(self, *a, **b))
    return saved


def entries(axes) -> list[str]:
    return [text.get_text().replace("\u2007", "") for text in axes.get_legend().get_texts()]


def test_curves_are_named_with_their_areas(evaluation, axes, tmp_path):
    plot_curves(LABELS, SCORES, evaluation, tmp_path)
    roc, precision_recall = axes
    assert [entry.split(" ")[0] for entry in entries(roc)] == ["75.0", "75.0", "75.0", "undefined:"]
    assert [entry.split("  ")[-1] for entry in entries(roc)[:3]] == ["mean of 2", "edema", "mass [round]"]
    edema = next(line for line in roc.lines if "edema" in line.get_label())
    assert np.trapezoid(edema.get_ydata(), edema.get_xdata()) == 0.75
    # edema: recall 1/2 at precision 1, recall 1 at precision 2/4
    edema = next(line for line in precision_recall.lines if "edema" in line.get_label())
    assert np.trapezoid(edema.get_ydata(), edema.get_xdata()) == 0.75
    prevalences = {line.get_ydata()[0] for line in precision_recall.lines if line.get_linestyle() == ":"}
    assert prevalences == {2 / 5, 2 / 4}
    with Image.open(tmp_path / "roc.png") as image:
        assert min(image.size) > 600
    assert {path.name for path in tmp_path.iterdir()} == {"roc.png", "pr.png"}


def test_names_are_text_in_figures(axes, tmp_path):
    names = ["$\\frac$", "a_{$^", "b\x00\ud800"]
    plot_curves(LABELS, SCORES, evaluate(LABELS, SCORES, names, resamples=0), tmp_path)
    shown = " ".join(entries(axes[0]))
    assert "$\\frac$" in shown
    assert "b\\x00\\ud800" in shown


def test_classes_never_trained_on_are_marked(evaluation, axes, tmp_path):
    plot_curves(LABELS, SCORES, evaluation, tmp_path, new=["edema", "hernia"])
    for plot in axes:
        shown = [entry.split("  ")[-1] for entry in entries(plot)]
        assert {"edema †", "mass [round]", "† never trained on"} <= set(shown)


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_equal_scores_have_curves(score, tmp_path):
    labels = np.array([[1], [0], [1]])
    plot_curves(labels, np.full((3, 1), score), evaluate(labels, np.full((3, 1), score), ["a"], resamples=0), tmp_path)
    assert (tmp_path / "roc.png").stat().st_size > 5000


def test_one_class_has_no_mean_beside_it(axes, tmp_path):
    labels, scores = np.array([[1], [0], [1]]), np.array([[0.3], [0.2], [0.1]])
    plot_curves(labels, scores, evaluate(labels, scores, ["a"], resamples=0), tmp_path)
    assert [entry.split("  ")[-1] for entry in entries(axes[0])] == ["a"]


def test_of_many_classes_only_the_best_and_the_worst_are_named(axes, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (200, 60))
    scores = labels * np.linspace(0, 3, 60) + rng.normal(size=(200, 60))
    names = [f"c{i}" for i in range(60)]
    many = evaluate(labels, scores, names, resamples=0)
    plot_curves(labels, scores, many, tmp_path)
    ranked = [result.name for result in sorted(many.classes, key=lambda result: -result.metrics["auroc"].value)]
    named = [entry.split("  ")[-1] for entry in entries(axes[0])]
    assert named == ["mean of 60", *ranked[:5], "(50 between)", *ranked[-5:]]
    mean = axes[0].lines[1]
    area = np.trapezoid(mean.get_ydata(), mean.get_xdata())
    assert area == pytest.approx(many.means["auroc"].value, abs=2e-3)


def test_nothing_defined_still_gives_plots(axes, tmp_path):
    blank = evaluate(LABELS * 0, SCORES, NAMES, resamples=0)
    plot_curves(LABELS * 0, SCORES, blank, tmp_path)
    assert entries(axes[0]) == ["undefined: edema, hernia, mass [round]"]
    assert (tmp_path / "pr.png").exists()


def test_the_suffix_decides_on_the_format(tmp_path):
    save_figure(Figure(figsize=(2, 1)), tmp_path / "empty.svg", dpi=50)
    assert (tmp_path / "empty.svg").read_text(encoding="utf-8").startswith("<?xml")
