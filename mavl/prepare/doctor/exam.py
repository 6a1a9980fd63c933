"""The examination of a plan: its lists are read, its files inspected and compared, and all faults collected."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mavl.data import DataError
from mavl.data.benchmarks.benchmark import examine_split
from mavl.data.benchmarks.folders import WHOLE, list_folder
from mavl.data.benchmarks.masks import MaskFile
from mavl.data.benchmarks.splits import MissingSplitError, Split
from mavl.prepare.doctor.checks import check_images, check_masks, count_labels, inspected_masks, label_by_masks
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
    examination = Examination(plan, config, workers, limit, decode)
    try:
        examination.read_lists()
        examination.inspect_files()
        examination.compare_files()
    except KeyboardInterrupt:
        examination.diagnosis.complete = False
    examination.check()
    return examination.diagnosis


class Examination:
    """chosen: the splits, each with the positions of the images to inspect; images, masks: facts of inspected files."""

    def __init__(self, plan: Plan, config: str, workers: int, limit: int | None, decode: bool):
        self.plan, self.workers, self.limit, self.decode = plan, workers, limit, decode
        self.diagnosis = Diagnosis(config, plan.task, None if plan.root is None else str(plan.root))
        self.found, self.notes = self.diagnosis.found, self.diagnosis.notes
        self.chosen: list[tuple[Split, list[int]]] = []
        self.images: dict[Path, ImageFacts] = {}
        self.masks: dict[Path, MaskFacts] = {}

    def read_lists(self) -> None:
        """Read all lists and report their problems, and the patients and images that are in two of them."""
        self.notes += check_paths(self.plan, self.found)
        splits = sorted(self._splits(), key=lambda split: ORDER.index(split.name))
        self.chosen = [(split, evenly_spaced(len(split), self.limit)) for split in splits]
        images, patients = {}, {}
        for split in splits:
            for path, row in zip(split.paths, split.rows, strict=True):
                if images.setdefault(path, (split.name, row))[0] != split.name:
                    self.found.add("shared_image", f"{row}: {self._short(path)} is in {images[path][1]} too", path)
            for patient, row in dict(zip(split.groups or (), split.rows, strict=False)).items():
                if patient and patients.setdefault(patient, (split.name, row))[0] != split.name:
                    line = f"{row}: patient {patient} of {split.name} is in {patients[patient][0]} too"
                    self.found.add("shared_patient", f"{line} ({patients[patient][1]})")
        if len(splits) > 1 and not any(split.groups for split in splits):
            self.notes.append("no list names patients: whether splits share one was not checked")

    def inspect_files(self) -> None:
        """Inspect every image and mask file that was chosen."""
        self._inspect_images()
        masks = {
            mask: None
            for split, chosen in self.chosen
            for of_images in (split.masks or {}).values()
            for position in chosen
            if isinstance(mask := of_images[position], MaskFile)
        }
        for facts in in_threads(inspect_mask, list(masks), self.workers, "masks"):
            self.masks[facts.path] = facts

    def compare_files(self) -> None:
        """Report files with the same bytes."""
        places = self._places()
        for paths in same_bytes(self.images.values(), self.workers):
            splits = [set(places[path]) for path in paths]
            kind = "duplicate_image" if len(set.union(*splits)) == 1 else "leaked_image"
            self.found.add(kind, " = ".join(line for path in paths for line in places[path].values()), paths[0])

    def check(self) -> None:
        """Report the faults of the inspected files, count the labels, and add the notes."""
        views: dict[Path, str] = {}
        for split, chosen in self.chosen:
            masks = inspected_masks(split, self.masks)
            if self.plan.labels_by_masks:
                split = replace(split, labels=label_by_masks(masks))
            check_masks(split, masks, self.images, chosen, self.found)
            self.diagnosis.splits[split.name] = count_labels(split)
            one_sided = [
                finding
                for finding, labels in zip(split.findings, split.labels.T, strict=True)
                if len(np.unique(labels[labels >= 0])) == 1
            ]
            if one_sided and not self.plan.labels_by_masks:
                self.notes.append(f"{split.name}: no AUROC without both labels of {', '.join(one_sided)}")
            for path, view in zip(split.paths, split.views or [""] * len(split), strict=True):
                views.setdefault(path, view)
        places = {path: next(iter(lines.values())) for path, lines in self._places().items()}
        images = [self.images[path] for path in places if path in self.images]
        self.notes += check_images(images, places, views, self.plan.image_size, self.found)
        self._note_moved_files()
        self._sum_up()

    def _inspect_images(self) -> None:
        decoded: dict[Path, bool] = {}
        for split, chosen in self.chosen:
            of_split = set(evenly_spaced(len(chosen), DECODED))
            for index, position in enumerate(chosen):
                path = split.paths[position]
                decoded[path] = decoded.get(path, False) or index in of_split
        for facts in in_threads(
            lambda path: inspect_image(path, self.decode, decoded[path]), list(decoded), self.workers, "images"
        ):
            self.images[facts.path] = facts

    def _splits(self) -> Iterator[Split]:
        """The splits of the plan, as far as they can be read; their problems are reported."""
        plan = self.plan
        if plan.root is not None and not plan.root.is_dir():
            return
        if plan.mimic is not None:
            yield from read_mimic(plan.mimic, plan.findings, plan.root, self.found)
        elif plan.folder is not None:
            try:
                yield from list_folder(plan.folder, next(iter(plan.findings), "finding")).values()
            except DataError as error:
                self.found.add("split_file", str(error))
        elif plan.benchmark is not None:
            for name in (*plan.splits, *plan.optional):
                try:
                    split, problems = examine_split(plan.benchmark, name, plan.root)
                except MissingSplitError as error:
                    if name in plan.optional:
                        self.notes.append(f"no {name} split: the evaluation has no thresholds")
                    else:
                        self.found.add("missing_path", str(error))
                    continue
                self.found.add_problems(problems)
                if split is not None:
                    yield split.select(plan.findings or split.findings)

    def _places(self) -> dict[Path, dict[str, str]]:
        """For each chosen image the row and path of it in each split."""
        places = defaultdict(dict)
        for split, chosen in self.chosen:
            for position in chosen:
                path = split.paths[position]
                places[path][split.name] = f"{split.rows[position]}: {self._short(path)}"
        return places

    def _short(self, path: Path) -> str:
        """A path relative to the root, if it is under it."""
        root = self.plan.root
        return (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).as_posix()

    def _note_moved_files(self) -> None:
        """Note where a missing image or list may be instead."""
        root, benchmark = self.plan.root, self.plan.benchmark
        if root is None or not root.is_dir():
            return
        groups = [[image.path for image in self.images.values() if image.missing][:1]]
        if benchmark is not None:
            lists = [root / benchmark.splits[name] for name in self.plan.splits]
            groups.append([path for path in lists if not path.is_file()])
        for paths in groups:
            names = [path.relative_to(root) for path in paths if path.is_relative_to(root)]
            if names and (other := elsewhere(root, names)):
                fix = "correct --root, images.strip or images.path"
                self.notes.append(f"{names[0]} is missing in {root}, but {other} is there: {fix}")

    def _sum_up(self) -> None:
        good = sum(image.size is not None for image in self.images.values())
        decoded = sum(image.lightness is not None for image in self.images.values())
        self.diagnosis.examined = {
            "images named": len({path for split, _ in self.chosen for path in split.paths}),
            "looked at": len(self.images),
            "decoded": decoded,
            "masks": len(self.masks),
        }
        if decoded < good:
            more = "--decode reads all, and finds truncated files too"
            self.notes.append(f"brightness was measured on {decoded:,} of {good:,} images; {more}")


def evenly_spaced(length: int, number: int | None) -> list[int]:
    """`number` positions evenly spaced over a length; all of them where that is fewer, or None."""
    if number is None or number >= length:
        return list(range(length))
    return (np.arange(number) * length // number).tolist()


def elsewhere(root: Path, names: Sequence[Path]) -> Path | None:
    """Another place of the first of these files, none of which is in the root.

    All of them are above the root, in one folder of it, or less deep in it; None where they are not.
    """
    folders = [*root.absolute().parents[:3], *sorted(path for path in root.iterdir() if path.is_dir())]
    placed = [[folder / name for name in names] for folder in folders]
    depths = range(1, min(len(name.parts) for name in names))
    placed += [[root / Path(*name.parts[depth:]) for name in names] for depth in depths]
    return next((paths[0] for paths in placed if all(path.is_file() for path in paths)), None)
