"""The maps of a model against maps made without the image: metrics of every case, and differences case by case.

Model and baselines are measured on the same cases, so the relevant interval is that of the difference. It is narrower
than the intervals of the maps suggest.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mavl.metrics.grounding import METRICS
from mavl.metrics.intervals import Interval, mean_intervals

MAPS = ("model", "random", "centre")
"""The maps that are measured: that of the model, and two baselines made without the image (mavl.model.heatmaps)."""

ALL = "all"
"""Takes the place of a finding where all cases are meant."""

SPREADS = np.geomspace(1 / 16, 16, 129)
"""Thresholds of the Dice curves, in multiples of a uniform map, evenly spaced on a logarithmic scale."""

COMPARED = ("pointing_game", "average_precision", "best_dice", "dice")
"""The metrics in which maps are compared.

Of the others, the contrast has no sign, accuracy depends mostly on the background, and the rest changes with Dice.
"""

Margins = dict[str, dict[str, Interval]]
"""{baseline: {metric of COMPARED: mean difference of model and baseline over the cases}}."""


@dataclass(frozen=True)
class Measured:
    """The metrics of every case, and the Dice over thresholds.

    table: a row for each case and map: path, row, group, finding, map, threshold (NaN without one) and METRICS; group
    is the patient, or the image if the benchmark has no patient ids. dice: {finding or ALL: {one of MAPS: [K], mean
    over its cases at each of SPREADS}}.
    """

    table: pd.DataFrame
    dice: dict[str, dict[str, np.ndarray]]

    def of(self, finding: str, name: str) -> pd.DataFrame:
        """The rows of one map and of one finding, or of ALL; the index is the number of the case."""
        rows = self.table.loc[self.table["map"] == name].reset_index(drop=True)
        return rows if finding == ALL else rows.loc[rows["finding"] == finding]


@dataclass(frozen=True)
class Comparison:
    """The metrics of COMPARED, by the result of the model's maps against every baseline.

    above: the interval of each difference is above 0; higher: only its mean is; not_above: some mean is not. A metric
    without a value, such as one that needs a threshold without one, is in none of the lists.
    """

    above: list[str]
    higher: list[str]
    not_above: list[str]

    @property
    def answer(self) -> str:
        """Whether the maps are above every baseline: yes, no, or in part."""
        return "no" if not self.above else "in part" if self.higher or self.not_above else "yes"

    @property
    def sentence(self) -> str:
        """Such as: above both baselines in pointing game; not above both baselines in largest Dice."""
        parts = {
            "above both baselines in": self.above,
            "higher than both baselines, but not beyond chance, in": self.higher,
            "not above both baselines in": self.not_above,
        }
        titles = {result: ", ".join(METRICS[name].title for name in names) for result, names in parts.items()}
        return "; ".join(f"{result} {names}" for result, names in titles.items() if names)


def margins(maps: dict[str, pd.DataFrame], resamples: int, seed: int) -> Margins:
    """{map: a row for each case, with METRICS and group}, the model's map first -> its margins.

    The bootstrap resamples the groups, as of `mean_intervals`. A case where one of the two maps has no value does not
    count.
    """
    (_, model), *baselines = maps.items()
    groups, found = model["group"].tolist(), {}
    for name, rows in baselines:
        differences = np.stack([model[metric] - rows[metric] for metric in METRICS], axis=1)
        means = mean_intervals(differences, [*METRICS], groups=groups, resamples=resamples, seed=seed)
        found[name] = {metric: means[metric] for metric in COMPARED}
    return found


def compare_to_baselines(margins: Margins) -> Comparison:
    """Sort the metrics of COMPARED by their margins."""
    found = Comparison([], [], [])
    for metric in COMPARED:
        differences = [of_baseline[metric] for of_baseline in margins.values()]
        if all(difference.low > 0 for difference in differences):
            found.above.append(metric)
        elif all(difference.value > 0 for difference in differences):
            found.higher.append(metric)
        elif not any(np.isnan(difference.value) for difference in differences):
            found.not_above.append(metric)
    return found
