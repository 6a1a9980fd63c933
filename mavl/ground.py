"""Zero-shot grounding of a benchmark: settings -> heatmaps measured against masks, in a result folder.

A case is a finding that is present in an image and has a mask there; only such count. What is kept of each image is its
maps on the model's grid and its metrics; maps of the masks' size are made one case at a time.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mavl.config import dump
from mavl.data.images import read_image
from mavl.data.masks import resize_mask
from mavl.data.pretraining import write_left_out
from mavl.data.splits import Split
from mavl.evaluation import (
    EvaluationError,
    Subject,
    Thresholds,
    describe,
    no_validation,
    open_split,
    prepare,
    result_folder,
    without_bad_images,
)
from mavl.heatmaps import centre_map, enlarge, heatmaps, random_map, used_aspects
from mavl.localization import METRICS, Localization, measure, released_thresholds, summarize, sweep
from mavl.progress import progress_bar
from mavl.settings import GroundingSettings
from mavl.vocab import PRESENT

MAPS = ("model", "random", "centre")
"""What is measured: the model's map, and two that know nothing of the image (mavl.heatmaps)."""

ALL = "all"
"""Stands for a finding where all cases are meant."""

RELEASED_PATCHES = 14 * 14
"""The grid that the released thresholds were made for."""

GALLERY_PIXELS = (600, 600)
NO_GRIDS = np.empty((0, 0, 0, 0), np.float32)


@dataclass(frozen=True)
class Grounded:
    """The cases of a split, and what the model says of their images.

    cases: (image, finding) pairs, by image; grids [n, C, h, w], float32, attention mass of the split's images and
    findings; left_out: a line for each image or mask that cannot be used.
    """

    split: Split
    cases: list[tuple[int, str]]
    grids: np.ndarray
    left_out: list[str]

    def compare(self, case: int, settings: GroundingSettings) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A case's mask, bool [S, S], and its MAPS, float32 [S, S], the baselines from grids like the model's."""
        image, finding = self.cases[case]
        grid = self.grids[image, self.split.findings.index(finding)]
        # The noise of a case is the same whatever other cases there are.
        seed = (settings.seed, crc32(f"{self.split.paths[image].name} {finding}".encode()))
        grids = np.stack([grid, random_map(grid.shape, seed), centre_map(grid.shape)])
        size = settings.map_size
        maps = enlarge(torch.from_numpy(grids)[None], (size, size))[0].numpy()
        return resize_mask(self.split.mask(image, finding), size), dict(zip(MAPS, maps, strict=True))


@dataclass(frozen=True)
class Result:
    """What a run wrote into `folder`. localizations: {finding or ALL: {one of MAPS: Localization}}."""

    localizations: dict[str, dict[str, Localization]]
    about: dict
    folder: Path


def run(settings: GroundingSettings) -> Result | None:
    """Evaluate as the settings say; the main process writes and returns the result, the others return None."""
    subject = prepare(settings)
    if subject.benchmark.masks is None:
        raise EvaluationError(f"{settings.benchmark}: names no masks, so there is nothing to compare heatmaps with")
    tested = ground_split(settings, subject, settings.split)
    if not tested.cases:
        asked = ", ".join(tested.split.findings)
        raise EvaluationError(
            f"{subject.benchmark.name}: no image of its {settings.split} split has a mask of {asked}; only positive "
            "images count. " + "; ".join(tested.left_out[:3])
        )
    reason = no_validation(settings, subject.benchmark)
    use_validation = settings.protocol == "sound" and reason is None
    validation = ground_split(settings, subject, "valid") if use_validation else None
    if not subject.accelerator.is_main_process:
        return None
    thresholds = choose_thresholds(settings, tested, validation, reason)
    table = measure_cases(settings, tested, thresholds)
    localizations = localize_findings(settings, tested.split.findings, table, thresholds)
    about = describe(
        settings,
        subject,
        thresholds,
        tested.left_out,
        aspects=used_aspects(subject.bank.aspects, settings.map_aspects, settings.aggregation),
        aggregation=settings.aggregation,
        layers=settings.layers or "all",
        map_size=settings.map_size,
        grid=tested.grids.shape[-2:],
        without_cases=[finding for finding in tested.split.findings if finding not in localizations],
    )
    folder = result_folder(settings, subject.benchmark, settings.aggregation)
    _write(folder, settings, subject, tested, table, localizations, about)
    return Result(localizations, about, folder)


def ground_split(settings: GroundingSettings, subject: Subject, name: str) -> Grounded:
    """Find the cases of a split and compute the maps of their images; bad images as `max_bad_share` says."""
    split = open_split(settings, subject.benchmark, name)
    positive = {image for image, _ in _present(split)}
    split = split.without(set(range(len(split))) - positive)
    if not positive:
        return Grounded(split, [], NO_GRIDS, [])
    split, left_out = without_bad_images(settings, split, subject.accelerator.is_main_process)
    cases, unseen = _find_cases(split, settings.map_size)

    def compute(batch: dict) -> dict[str, Tensor]:
        output = subject.model(batch["image"], subject.bank.vectors, return_attention=True)
        chosen = {"aspects": settings.map_aspects, "aggregation": settings.aggregation, "layers": settings.layers}
        return {"maps": heatmaps(output, subject.bank, split.findings, **chosen)}

    grids = subject.predict(settings, split, compute)["maps"] if cases else NO_GRIDS
    return Grounded(split, cases, grids, left_out + unseen)


def choose_thresholds(
    settings: GroundingSettings, tested: Grounded, validation: Grounded | None, reason: str | None
) -> Thresholds:
    """For each map and finding the threshold with the largest mean Dice, on validation (sound) or test (released).

    The released candidates were made for a 14 × 14 grid. The sound protocol scales them for other grids, whose patches
    have another share of the attention. reason: why there is no validation.
    """
    if settings.protocol == "released":
        note = f"best mean Dice on the {len(tested.cases)} test cases themselves (released protocol)"
        return Thresholds(_best_thresholds(settings, tested, released_thresholds()), "test", note)
    if validation is None:
        return Thresholds(None, None, f"none: {reason}")
    left_out = {"valid": validation.left_out}
    if not validation.cases:
        return Thresholds(None, None, "none: no image of the validation split has a mask", left_out)
    candidates = released_thresholds() * RELEASED_PATCHES / np.prod(validation.grids.shape[-2:])
    values = _best_thresholds(settings, validation, candidates)
    note = f"best mean Dice on the {len(validation.cases)} cases of the validation split, for each finding"
    chosen, asked = {finding for _, finding in values}, {finding for _, finding in tested.cases}
    if missing := [finding for finding in tested.split.findings if finding in asked - chosen]:
        note += f"; none for {', '.join(missing)}, of which it has no case"
    return Thresholds(values, "validation", note, left_out)


def measure_cases(settings: GroundingSettings, tested: Grounded, thresholds: Thresholds) -> pd.DataFrame:
    """A row for each case and map: path, row, group, finding, map, threshold (NaN without one) and METRICS.

    group is the patient, or the image where the benchmark does not tell patients.
    """
    split, lines = tested.split, []
    for case, mask, maps in _each(settings, tested, "measuring"):
        image, finding = tested.cases[case]
        path = str(split.paths[image])
        group = path if split.groups is None else split.groups[image]
        place = {"path": path, "row": split.rows[image], "group": group, "finding": finding}
        for name, heatmap in maps.items():
            threshold = (thresholds.values or {}).get((name, finding))
            measured = measure(heatmap, mask, threshold, path)
            lines.append({**place, "map": name, "threshold": threshold, **measured})
    return pd.DataFrame(lines).astype({"threshold": float})


def localize_findings(
    settings: GroundingSettings, findings: Sequence[str], table: pd.DataFrame, thresholds: Thresholds
) -> dict[str, dict[str, Localization]]:
    """For each of these findings with a case, then for ALL, the means of each map with intervals by group."""
    with_case = set(table["finding"])
    localizations: dict[str, dict[str, Localization]] = {}
    for finding in [*(finding for finding in findings if finding in with_case), ALL]:
        of_finding = table if finding == ALL else table[table["finding"] == finding]
        for name in MAPS:
            rows = of_finding[of_finding["map"] == name]
            shared = rows["threshold"].unique()
            threshold = float(shared[0]) if len(shared) == 1 and not np.isnan(shared[0]) else None
            localizations.setdefault(finding, {})[name] = summarize(
                rows["path"].tolist(),
                {metric: rows[metric].to_numpy(dtype=float) for metric in METRICS},
                threshold,
                threshold_source=thresholds.source,
                nan_policy="propagate" if settings.protocol == "released" else "omit",
                resamples=settings.resamples if rows["group"].nunique() > 1 else 0,
                groups=rows["group"].tolist(),
                seed=settings.seed,
            )
    return localizations


def _present(split: Split) -> Iterator[tuple[int, str]]:
    """(image, finding) of each finding that is present in an image and may have a mask there."""
    for image, labels in enumerate(split.labels == PRESENT):
        for finding, present in zip(split.findings, labels, strict=True):
            if present and split.masks[finding][image] is not None:
                yield image, finding


def _find_cases(split: Split, size: int) -> tuple[list[tuple[int, str]], list[str]]:
    """The cases whose mask has a pixel at this size, and a line for each of the others."""
    cases, unseen = [], []
    for image, finding in _present(split):
        mask = split.mask(image, finding)
        if resize_mask(mask, size).any():
            cases.append((image, finding))
        else:
            why = f"between the pixels of {size} × {size}: raise map_size" if mask.any() else "empty"
            unseen.append(f"{split.rows[image]}: the mask of {finding} is {why}")
    return cases, unseen


def _each(
    settings: GroundingSettings, grounded: Grounded, description: str
) -> Iterator[tuple[int, np.ndarray, dict[str, np.ndarray]]]:
    """Every case's number, mask and maps, made as they are asked for."""
    for case in progress_bar(range(len(grounded.cases)), description=description, unit="case"):
        yield case, *grounded.compare(case, settings)


def _best_thresholds(
    settings: GroundingSettings, grounded: Grounded, candidates: np.ndarray
) -> dict[tuple[str, str], float]:
    """(map, finding) -> the candidate with the largest mean Dice; of several that reach it, the first."""
    dice: dict = defaultdict(float)
    for case, mask, maps in _each(settings, grounded, f"thresholds on {grounded.split.name}"):
        for name, heatmap in maps.items():
            dice[name, grounded.cases[case][1]] += sweep(heatmap, mask, candidates)["dice"]
    return {key: float(candidates[total.argmax()]) for key, total in dice.items()}


def _write(
    folder: Path,
    settings: GroundingSettings,
    subject: Subject,
    tested: Grounded,
    table: pd.DataFrame,
    localizations: dict[str, dict[str, Localization]],
    about: dict,
) -> None:
    from mavl import grounding_report as report  # matplotlib and rich only where they are needed

    dump(settings, folder / "config.yaml")
    table.to_csv(folder / "cases.csv", index=False, float_format="%.9g")
    report.write_csv(localizations, folder / "results.csv")
    report.write_json(localizations, folder / "results.json", about)
    write_left_out(folder / "left_out.json", about["left_out"])
    if settings.gallery:
        _write_gallery(folder / "gallery.png", settings.gallery, subject.benchmark.equalize, tested, table)


def _write_gallery(path: Path, most: int, equalize: bool, tested: Grounded, table: pd.DataFrame) -> None:
    """The best and the worst cases of the model by Dice: at the threshold or, without one, at each image's best."""
    from mavl.grounding_report import Shown, plot_gallery

    of_model = table[table["map"] == MAPS[0]].reset_index(drop=True)
    metric = "best_dice" if of_model["dice"].isna().all() else "dice"
    ranked = of_model[metric].sort_values(ascending=False, kind="stable").dropna()

    def shown(case: int) -> Shown:
        image, finding = tested.cases[case]
        picture = read_image(tested.split.paths[image], equalize=equalize)
        picture.thumbnail(GALLERY_PIXELS)
        grid = tested.grids[image, tested.split.findings.index(finding)]
        caption = f"{finding}: {metric.replace('_', ' ')} {ranked[case]:.2f}\n{tested.split.paths[image].name}"
        return Shown(picture, tested.split.mask(image, finding), grid, caption)

    half = (len(ranked) + 1) // 2
    best, worst = ranked.index[:half][:most], ranked.index[half:][::-1][:most]
    plot_gallery({"best": [shown(case) for case in best], "worst": [shown(case) for case in worst]}, path)
