"""The tables of the study of text encoders, computed by hand."""

import pandas as pd

from benchmarks.encoders import FOLDS, HEADS, WORDINGS, table
from mavl.data.phantom import FINDINGS
from mavl.vocab import HEALTHY

SHIFT = {"books": 0.2, "descriptions": 0.1, "names": 0.05, "shuffled": 0.0}


def run(contender: str, fold: int, seed: int, base: float) -> dict:
    """AUROC of trained findings base + shift of the wording; of the unseen ones 0.6, 0.7 and 0.8, whatever the text."""
    unseen = dict(zip(FOLDS[fold], (0.6, 0.7, 0.8), strict=True))
    names = [name for name in FINDINGS if name not in HEALTHY]
    figures = {
        f"{wording} {head} {name}": unseen.get(name, base + SHIFT[wording] + (0.1 if head == "supervised" else 0))
        for wording in WORDINGS
        for head in HEADS
        for name in names
    }
    return {"contender": contender, "fold": fold, "seed": seed, **figures}


def test_means_are_over_findings_and_differences_are_paired():
    runs = pd.DataFrame([run("random", 0, 0, 0.4), run("random", 0, 1, 0.5), run("MiniLM, mean", 0, 0, 0.45)])
    trained, unseen = table(runs).split("unseen findings")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in trained.splitlines()
        if line.startswith("| random |")
    ]
    means = ["75.0 ± 0.0", "65.0 ± 0.0", "60.0 ± 0.0", "55.0 ± 0.0", "20.0 ± 0.0", "0.0 ± 0.0"]
    assert rows[0] == ["random", "2", "supervised", *means]
    [of_minilm] = [line for line in trained.splitlines() if "MiniLM, mean | 1 | contrastive" in line]
    assert of_minilm.split("|")[-2].strip() == "5.0 ± 0.0"  # of the run with the same fold and seed
    half = 4.303 * 0.1 / 3**0.5 * 100  # Student's t of two degrees of freedom
    [of_unseen] = [line for line in unseen.splitlines() if "random | 2 | supervised" in line]
    assert of_unseen.split("|")[4].strip() == f"70.0 ± {half:.1f}"
    assert of_unseen.split("|")[-3].strip() == "0.0 ± 0.0"
