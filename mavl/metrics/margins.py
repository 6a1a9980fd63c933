"""Whether a model's maps say more than maps that know nothing of the image: differences case by case.

Model and baselines are measured on the same cases, so what counts is the interval of the difference, which is narrower
than the maps' own intervals suggest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mavl.metrics.grounding import METRICS, summarize
from mavl.metrics.intervals import Interval

COMPARED = {
    "pointing_game": "pointing game",
    "average_precision": "average precision",
    "best_dice": "largest Dice",
    "dice": "Dice at the threshold",
}
"""The metrics in which maps are compared, with their names in a sentence.

Of the others, the contrast has no sign, accuracy is mostly the background's, and the rest moves with Dice.
"""

Margins = dict[str, dict[str, Interval]]
"""{baseline: {metric of COMPARED: the mean of model minus baseline over the cases}}."""


@dataclass(frozen=True)
class Verdict:
    """Metrics of COMPARED, by how the model's maps do against every baseline.

    above: the interval of each difference is above 0; higher: only its mean is; not_above: some mean is not.
    A metric without a value, as without a threshold, is in none.
    """

    above: list[str]
    higher: list[str]
    not_above: list[str]

    @property
    def answer(self) -> str:
        """Whether they are above every baseline."""
        if not self.above:
            return "no"
        return "in part" if self.higher or self.not_above else "yes"

    @property
    def sentence(self) -> str:
        """Such as: above both baselines in pointing game; not above both baselines in largest Dice."""
        parts = {
            "above both baselines in": self.above,
            "higher than both baselines, but not beyond chance, in": self.higher,
            "not above both baselines in": self.not_above,
        }
        told = {what: [COMPARED[metric] for metric in metrics] for what, metrics in parts.items() if metrics}
        return "; ".join(f"{what} {', '.join(names)}" for what, names in told.items())


def margins(maps: dict[str, pd.DataFrame], resamples: int, seed: int) -> Margins:
    """{map: a row for each case, with METRICS, path and group}, the model's map first -> its margins.

    Intervals by bootstrap of the groups; none where they are one. A case without a value of either map does not count.
    """
    model, *baselines = maps
    cases = maps[model]
    told = {}
    for baseline in baselines:
        difference = summarize(
            cases["path"].tolist(),
            {metric: cases[metric].to_numpy(float) - maps[baseline][metric].to_numpy(float) for metric in METRICS},
            resamples=resamples if cases["group"].nunique() > 1 else 0,
            groups=cases["group"].tolist(),
            seed=seed,
        )
        told[baseline] = {metric: difference.means[metric] for metric in COMPARED}
    return told


def compare_to_baselines(margins: Margins) -> Verdict:
    """What the margins say."""
    found: dict[str, list[str]] = {"above": [], "higher": [], "not_above": []}
    for metric in COMPARED:
        differences = [of_baseline[metric] for of_baseline in margins.values()]
        if any(difference.value != difference.value for difference in differences):
            continue
        found[_standing(differences)].append(metric)
    return Verdict(**found)


def _standing(differences: Sequence[Interval]) -> str:
    if all(difference.low > 0 for difference in differences):
        return "above"
    return "higher" if all(difference.value > 0 for difference in differences) else "not_above"
