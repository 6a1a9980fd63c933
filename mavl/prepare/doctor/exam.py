"""The examination of a plan: its lists are read, its files inspected and compared, and all faults collected."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mavl.data import DataError
from mavl.data.benchmarks.benchmark import examine_split
from mavl.data.benchmarks.folders import WHOLE, list_folder
from mavl.data.benchmarks.masks import Mask
from mavl.data.benchmarks.splits import MissingSplitError, Split
from mavl.prepare.doctor import checks
from mavl.prepare.doctor.images import ImageFacts, MaskFacts, inspect_image, inspect_mask, same_bytes
from mavl.prepare.doctor.mimic import read_mimic
from mavl.prepare.doctor.plan import Plan, check_paths
from mavl.prepare.doctor.report import Diagnosis
from mavl.progress import in_threads

DECODED = 500
"""Images of a split whose brightness is measured when not all are decoded."""

ORDER = ("train", "valid", "test", WHOLE)
"""The order of the splits in the report."""


def examine(plan: Plan, config: str, workers: int, limit: int | None, decode: bool) -> Diagnosis:
    """All faults of a plan's data; after an interrupt, those found until then.

    Args:
        config: name of the config for the report.
        limit: number of images of each split to inspect, None for all.
        decode: read every pixel, not only headers.
    """
    diagnosis = Diagnosis(config, plan.task, None if plan.root is None else str(plan.root))
    splits: list[Split] = []
    places: checks.Places = {}
    images: dict[Path, ImageFacts] = {}
    masks: dict[Mask | None, MaskFacts] = {}
    try:
        check_paths(plan, diagnosis)
        splits = sorted(_splits(plan, diagnosis), key=lambda split: ORDER.index(split.name))
        places = checks.places_of(splits, plan.root)
        checks.check_lists(splits, places, diagnosis)
        chosen = [split.without({*range(len(split))} - {*evenly_spaced(len(split), limit)}) for split in splits]
        _inspect(chosen, workers, decode, images, masks)
        checks.check_copies(same_bytes(images.values(), workers), places, diagnosis)
    except KeyboardInterrupt:
        diagnosis.complete = False
    for split in splits:
        if plan.labels_by_masks:
            split = checks.label_by_masks(split, masks)
        checks.check_masks(split, masks, images, diagnosis)
        diagnosis.splits[split.name] = counts = checks.count_labels(split)
        one_sided = [name for name, of in counts["findings"].items() if (of["present"] > 0) != (of["absent"] > 0)]
        if one_sided and not plan.labels_by_masks:
            diagnosis.notes.append(f"{split.name}: no AUROC without both labels of {', '.join(one_sided)}")
    checks.check_images(images, places, plan.keys.get("model.image_size"), diagnosis)
    _note_moved_files(plan, images.values(), diagnosis)
    good = sum(image.reason is None for image in images.values())
    diagnosis.examined = {
        "images named": len(places),
        "inspected": len(images),
        "decoded": sum(image.lightness is not None for image in images.values()),
        "masks": sum(mask.path is not None for mask in masks.values()),
    }
    if (decoded := diagnosis.examined["decoded"]) < good:
        more = "--decode reads all, and finds truncated files too"
        diagnosis.notes.append(f"brightness was measured on {decoded:,} of {good:,} images; {more}")
    return diagnosis


def _splits(plan: Plan, diagnosis: Diagnosis) -> Iterator[Split]:
    """The splits of the plan, as far as they can be read; their problems are reported."""
    if plan.root is not None and not plan.root.is_dir():
        return
    if plan.mimic is not None:
        yield from read_mimic(plan.mimic, plan.findings, plan.root, diagnosis)
    elif plan.folder is not None:
        try:
            yield from list_folder(plan.folder, next(iter(plan.findings), "finding")).values()
        except DataError as error:
            diagnosis.add("split_file", str(error))
    elif plan.benchmark is not None:
        for name in (*plan.splits, *plan.optional):
            try:
                split, problems = examine_split(plan.benchmark, name, plan.root)
            except MissingSplitError as error:
                if name in plan.optional:
                    diagnosis.notes.append(f"no {name} split: the evaluation has no thresholds")
                else:
                    diagnosis.add("missing_path", str(error))
                continue
            for problem in problems:
                diagnosis.add(problem.kind, str(problem))
            if split is not None:
                yield split.select(plan.findings or split.findings)


def _inspect(
    splits: Sequence[Split],
    workers: int,
    decode: bool,
    images: dict[Path, ImageFacts],
    masks: dict[Mask | None, MaskFacts],
) -> None:
    """Add the facts of every image and mask of the splits to `images` and `masks`."""
    small = {split.paths[position] for split in splits for position in evenly_spaced(len(split), DECODED)}
    paths = list(dict.fromkeys(path for split in splits for path in split.paths))
    facts = in_threads(lambda path: inspect_image(path, decode, path in small), paths, workers, "images")
    images.update(zip(paths, facts, strict=True))
    of_splits = [of_finding for split in splits for of_finding in (split.masks or {}).values()]
    files = list(dict.fromkeys(mask for of_finding in of_splits for mask in of_finding if mask is not None))
    masks.update(zip(files, in_threads(inspect_mask, files, workers, "masks"), strict=True))


def _note_moved_files(plan: Plan, images: Iterable[ImageFacts], diagnosis: Diagnosis) -> None:
    """Note where the first missing image, and the missing lists, may be instead."""
    root, benchmark = plan.root, plan.benchmark
    if root is None or not root.is_dir():
        return
    lists = [root / file for name, file in benchmark.splits.items() if name in plan.splits] if benchmark else []
    missing = [image.path for image in images if image.reason is not None and not image.path.exists()]
    for paths in (missing[:1], [path for path in lists if not path.exists()]):
        names = [path.relative_to(root) for path in paths if path.is_relative_to(root)]
        if names and (sister := renamed(root, names[0])):
            fix = f"rename or link it: ln -s {sister} {names[0].parts[0]}"
            diagnosis.notes.append(f"{names[0]} is missing in {root}; it lies in {sister}/: {fix}")
        elif names and (other := elsewhere(root, names)):
            fix = "correct --root, images.strip or images.path"
            diagnosis.notes.append(f"{names[0]} is missing in {root}, but {other} is there: {fix}")


def renamed(root: Path, name: Path) -> str | None:
    """The folder of the root that has a missing file in place of the folder with which the file's name begins."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if len(name.parts) > 1 else []
    return next((path.name for path in folders if path.joinpath(*name.parts[1:]).is_file()), None)


def elsewhere(root: Path, names: Sequence[Path]) -> Path | None:
    """Another place of the first of these files, which are all missing in the root.

    All of them are above the root, in one folder of it, or less deep in it; None where they are not.
    """
    folders = [*root.absolute().parents[:3], *sorted(path for path in root.iterdir() if path.is_dir())]
    places = [[folder / name for name in names] for folder in folders]
    depths = range(1, min(len(name.parts) for name in names))
    places += [[root / Path(*name.parts[depth:]) for name in names] for depth in depths]
    return next((paths[0] for paths in places if all(path.is_file() for path in paths)), None)


def evenly_spaced(length: int, number: int | None) -> list[int]:
    """`number` positions evenly spaced over a length; all of them where that is fewer, or None."""
    if number is None or number >= length:
        return list(range(length))
    return (np.arange(number) * length // number).tolist()
