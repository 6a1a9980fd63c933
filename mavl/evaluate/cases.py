"""Cases of a benchmark with the model's maps -> thresholds, the metrics of every case, their means.

A case is a finding that is present in an image and has a mask there. Memory holds the maps of all images on the model's
grid; a map is enlarged to the size of the masks when its case is measured.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch

from mavl.backbones import PatchGrid
from mavl.config.evaluation import GroundingSettings
from mavl.data.benchmarks.masks import resize_mask
from mavl.data.benchmarks.splits import Split
from mavl.evaluate.subject import Thresholds
from mavl.metrics.grounding import METRICS, Localization, measure_and_sweep, released_thresholds, summarize, sweep
from mavl.metrics.margins import ALL, MAPS, SPREADS, Measured
from mavl.model.heatmaps import centre_map, enlarge, random_map
from mavl.progress import plural, progress_bar

RELEASED_PATCHES = 14 * 14
"""The grid that the released thresholds were made for."""


@dataclass(frozen=True)
class Grounded:
    """The cases of a split, and the maps of their images.

    cases: (image, finding) pairs, by image; grids [n, C, h, w], float32, attention mass of the split's images and
    findings; left_out: a line for each image or mask that cannot be used; patch_grid: positions of the patches (None
    for the corners of the grid on those of the image).
    """

    split: Split
    cases: list[tuple[int, str]]
    grids: np.ndarray
    left_out: list[str]
    patch_grid: PatchGrid | None = None

    def compare(self, case: int, settings: GroundingSettings) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A case's mask, bool [S, S], and its MAPS, float32 [S, S]; the noise is made on a grid like the model's."""
        image, finding = self.cases[case]
        grid = self.grids[image, self.split.findings.index(finding)]
        # the noise of a case does not depend on the other cases
        seed = (settings.seed, crc32(f"{self.split.paths[image].name} {finding}".encode()))
        size = (settings.map_size, settings.map_size)
        grids = torch.from_numpy(np.stack([grid, random_map(grid.shape, seed)]))
        # a blob made on the grid would have a plateau of several patches for its maximum
        blob = centre_map(size) * (np.prod(size) / grid.size)
        maps = [*enlarge(grids[None], size, self.patch_grid)[0].numpy(), blob.astype(np.float32)]
        mask = self.split.mask(image, finding)
        resized = resize_mask(mask, settings.map_size, centred=settings.protocol != "released")
        return resized, dict(zip(MAPS, maps, strict=True))


def choose_thresholds(
    settings: GroundingSettings, tested: Grounded, validation: Grounded | None, clause: str
) -> Thresholds:
    """For each map and finding the threshold with the largest mean Dice, on validation (sound) or test (released).

    The sound protocol scales the released candidates, which are for a 14 × 14 grid, to the attention of the patches of
    other grids. clause: why there is no validation, or what of it was left out, as test has it too.
    """
    if settings.protocol == "released":
        note = f"best mean Dice on the {plural(len(tested.cases), 'test case')} themselves (released protocol)"
        return Thresholds(_best_thresholds(settings, tested, released_thresholds()), "test", note)
    if validation is None:
        return Thresholds({}, None, f"none: {clause}")
    left_out = {"valid": validation.left_out}
    if not validation.cases:
        return Thresholds({}, None, f"none: no image of the validation split has a mask{clause}", left_out)
    candidates = released_thresholds() * RELEASED_PATCHES / np.prod(validation.grids.shape[-2:])
    values = _best_thresholds(settings, validation, candidates)
    number = plural(len(validation.cases), "case")
    note = f"best mean Dice on the {number} of the validation split, for each finding{clause}"
    without = {finding for _, finding in tested.cases} - {finding for _, finding in values}
    if missing := [finding for finding in tested.split.findings if finding in without]:
        note += f"; none for {', '.join(missing)}, of which it has no case"
    return Thresholds(values, "validation", note, left_out)


def measure_cases(settings: GroundingSettings, tested: Grounded, thresholds: Thresholds) -> Measured:
    """Measure every case's maps, at its finding's threshold where there is one."""
    split, lines = tested.split, []
    levels = SPREADS / np.prod(tested.grids.shape[-2:])
    dice: dict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(float))
    for case, mask, maps in _each(settings, tested, "measuring"):
        image, finding = tested.cases[case]
        path = str(split.paths[image])
        group = path if split.groups is None else split.groups[image]
        place = {"path": path, "row": split.rows[image], "group": group, "finding": finding}
        for name, heatmap in maps.items():
            threshold = thresholds.values.get((name, finding))
            values, swept = measure_and_sweep(heatmap, mask, threshold, levels, path)
            lines.append({**place, "map": name, "threshold": threshold, **values})
            dice[finding][name] += swept["dice"]
            dice[ALL][name] += swept["dice"]
    cases = Counter(finding for _, finding in tested.cases) | {ALL: len(tested.cases)}
    means = {finding: {name: total / cases[finding] for name, total in of.items()} for finding, of in dice.items()}
    return Measured(pd.DataFrame(lines).astype({"threshold": float}), means)


def localize_findings(
    settings: GroundingSettings, findings: Sequence[str], measured: Measured, thresholds: Thresholds
) -> dict[str, dict[str, Localization]]:
    """For each of these findings with a case, then for ALL, the means of each map with intervals by group."""
    localizations: dict[str, dict[str, Localization]] = {}
    for finding in [*(finding for finding in findings if finding in measured.dice), ALL]:
        for name in MAPS:
            rows = measured.of(finding, name)
            shared, groups = rows["threshold"].unique().tolist(), rows["group"].tolist()
            threshold = shared[0] if len(shared) == 1 and not np.isnan(shared[0]) else None
            localizations.setdefault(finding, {})[name] = summarize(
                {metric: rows[metric].to_numpy(dtype=float) for metric in METRICS},
                threshold,
                threshold_source=thresholds.source,
                nan_policy="propagate" if settings.protocol == "released" else "omit",
                resamples=settings.resamples if len(set(groups)) > 1 else 0,
                groups=groups,
                seed=settings.seed,
            )
    return localizations


def _each(
    settings: GroundingSettings, grounded: Grounded, description: str
) -> Iterator[tuple[int, np.ndarray, dict[str, np.ndarray]]]:
    """The number, mask and maps of every case."""
    for case in progress_bar(range(len(grounded.cases)), description=description, unit="case"):
        yield case, *grounded.compare(case, settings)


def _best_thresholds(
    settings: GroundingSettings, grounded: Grounded, candidates: np.ndarray
) -> dict[tuple[str, str], float]:
    """(map, finding) -> the candidate with the largest mean Dice; of several that reach it, the first."""
    dice: dict[tuple[str, str], Any] = defaultdict(float)
    for case, mask, maps in _each(settings, grounded, f"thresholds on {grounded.split.name}"):
        for name, heatmap in maps.items():
            dice[name, grounded.cases[case][1]] += sweep(heatmap, mask, candidates)["dice"]
    return {key: float(candidates[total.argmax()]) for key, total in dice.items()}
