"""The examination of a plan: read its lists, look at its files, compare them, judge what was seen."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mavl.data.benchmarks.folders import WHOLE, FolderError, read_folder
from mavl.data.benchmarks.masks import MaskFile
from mavl.data.benchmarks.splits import Split
from mavl.data.images.grey import ImageError
from mavl.prepare.doctor.images import Seen, SeenMask, in_threads, look, look_at_mask, same_bytes
from mavl.prepare.doctor.judge import count_labels, judge_images, judge_masks, label_by_masks
from mavl.prepare.doctor.lists import Listed, read_listed
from mavl.prepare.doctor.mimic import read_mimic
from mavl.prepare.doctor.plan import Plan, check_paths
from mavl.prepare.doctor.report import Diagnosis

JUDGED = 500
"""Images of a split whose brightness is judged when not all are decoded."""

ORDER = ("train", "valid", "test", WHOLE)
"""In which splits are read and shown."""


def examine(plan: Plan, config: str, workers: int, limit: int | None, decode: bool) -> Diagnosis:
    """All that there is to find; after an interrupt, what was found until then."""
    exam = Examination(plan, config, workers, limit, decode)
    try:
        exam.read_lists()
        exam.look_at_files()
        exam.compare_files()
    except KeyboardInterrupt:
        exam.diagnosis.complete = False
    exam.judge()
    return exam.diagnosis


class Examination:
    """listed: the splits; chosen: the images of each to look at; seen, seen_masks: what was seen, by path."""

    def __init__(self, plan: Plan, config: str, workers: int, limit: int | None, decode: bool):
        self.plan, self.workers, self.limit, self.decode = plan, workers, limit, decode
        self.diagnosis = Diagnosis(config, plan.task, None if plan.root is None else str(plan.root))
        self.found, self.notes = self.diagnosis.found, self.diagnosis.notes
        self.listed: list[Listed] = []
        self.chosen: dict[str, list[int]] = {}
        self.seen: dict[Path, Seen] = {}
        self.seen_masks: dict[Path, SeenMask] = {}

    def read_lists(self) -> None:
        """Read all lists, and see whether they share patients or images."""
        self.notes += check_paths(self.plan, self.found)
        listed = sorted(map(self._selected, self._lists()), key=lambda one: ORDER.index(one.split.name))
        self.chosen = {one.split.name: spread(len(one.split), self.limit) for one in listed}
        self.listed = listed
        self._compare_lists()

    def look_at_files(self) -> None:
        """Look at every image and mask file that was chosen."""
        self._look_at_images()
        masks = {
            mask.path: None
            for split, chosen in self._chosen()
            for of_images in (split.masks or {}).values()
            for image in chosen
            if isinstance(mask := of_images[image], MaskFile)
        }
        for seen in in_threads(look_at_mask, list(masks), self.workers, "masks"):
            self.seen_masks[seen.path] = seen

    def compare_files(self) -> None:
        """Find files with the same bytes."""
        places = defaultdict(dict)
        for split, chosen in self._chosen():
            for image in chosen:
                places[split.paths[image]][split.name] = f"{split.rows[image]}: {self.short(split.paths[image])}"
        for paths in same_bytes(self.seen.values(), self.workers):
            splits = [set(places[path]) for path in paths]
            kind = "duplicate_image" if len(set.union(*splits)) == 1 else "leaked_image"
            self.found.add(kind, " = ".join(line for path in paths for line in places[path].values()), paths[0])

    def judge(self) -> None:
        """Tell the faults of the files that were seen, count the labels, and say what was and was not looked at."""
        for listed in self.listed:
            split, chosen = listed.split, self.chosen[listed.split.name]
            if listed.by_mask:
                split = replace(split, labels=label_by_masks(split, self.seen_masks))
            judge_masks(split, chosen, self.seen, self.seen_masks, not listed.by_mask, self.found)
            self.diagnosis.splits[split.name] = count_labels(split)
            lacking = [name for name, column in zip(split.findings, split.labels.T, strict=True) if _one_sided(column)]
            if lacking and not listed.by_mask:
                self.notes.append(f"{split.name}: no AUROC without both labels of {', '.join(lacking)}")
        self.notes += judge_images(self.listed, self.chosen, self.seen, self.plan.image_size, self.found, self.short)
        self._hint()
        self._sum_up()

    def short(self, path: Path) -> str:
        """A path under the root, as the lists have it."""
        root = self.plan.root
        return (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).as_posix()

    def _look_at_images(self) -> None:
        images: dict[Path, bool] = {}
        for split, chosen in self._chosen():
            judged = {chosen[position] for position in spread(len(chosen), None if self.decode else JUDGED)}
            for image in chosen:
                images[split.paths[image]] = images.get(split.paths[image], False) or image in judged
        for seen in in_threads(
            lambda item: look(item[0], self.decode, item[1]), list(images.items()), self.workers, "images"
        ):
            self.seen[seen.path] = seen

    def _lists(self) -> Iterator[Listed]:
        plan = self.plan
        if plan.root is not None and not plan.root.is_dir():
            return
        if plan.mimic is not None:
            yield from read_mimic(plan.mimic, plan.findings, plan.root, self.found)
        elif plan.folder is not None:
            yield from self._folders()
        elif plan.benchmark is not None:
            for name in (*plan.splits, *plan.optional):
                listed = read_listed(plan.benchmark, name, plan.root, self.found, optional=name in plan.optional)
                if listed is not None:
                    yield listed
                elif name in plan.optional:
                    self.notes.append(f"no {name} split: the evaluation has no thresholds")

    def _folders(self) -> Iterator[Listed]:
        finding = next(iter(self.plan.findings), "finding")
        try:
            splits = read_folder(self.plan.folder, finding)
        except FolderError as error:
            self.found.add("split_file", str(error))
        except ImageError as error:
            self.found.add("unreadable_mask", str(error))
        else:
            for split in splits.values():
                yield Listed(split, [""] * len(split), by_mask=True)

    def _selected(self, listed: Listed) -> Listed:
        wanted = self.plan.findings if self.plan.benchmark is not None else ()
        return replace(listed, split=listed.split.select(wanted)) if wanted else listed

    def _chosen(self) -> Iterator[tuple[Split, list[int]]]:
        for listed in self.listed:
            yield listed.split, self.chosen[listed.split.name]

    def _compare_lists(self) -> None:
        """Patients and images that stand in two splits."""
        images, patients = {}, {}
        for split in (listed.split for listed in self.listed):
            for path, row in zip(split.paths, split.rows, strict=True):
                if images.setdefault(path, (split.name, row))[0] != split.name:
                    self.found.add("shared_image", f"{row}: {self.short(path)} stands in {images[path][1]} too", path)
            for patient, row in dict(zip(split.groups or (), split.rows, strict=False)).items():
                if patient and patients.setdefault(patient, (split.name, row))[0] != split.name:
                    line = f"{row}: patient {patient} of {split.name} is in {patients[patient][0]} too"
                    self.found.add("shared_patient", f"{line} ({patients[patient][1]})")
        if len(self.listed) > 1 and not any(listed.split.groups for listed in self.listed):
            self.notes.append("no list names patients: whether splits share one was not checked")

    def _hint(self) -> None:
        """Where a file that is missing may lie instead."""
        root, benchmark = self.plan.root, self.plan.benchmark
        if root is None or not root.is_dir():
            return
        groups = [[seen.path for seen in self.seen.values() if seen.missing][:1]]
        if benchmark is not None:
            lists = [root / benchmark.splits[name] for name in self.plan.splits]
            groups.append([path for path in lists if not path.is_file()])
        for paths in groups:
            names = [path.relative_to(root) for path in paths if path.is_relative_to(root)]
            if names and (other := elsewhere(root, names)):
                fix = "correct --root, images.strip or images.path"
                self.notes.append(f"{names[0]} is missing in {root}, but {other} is there: {fix}")

    def _sum_up(self) -> None:
        good = [seen for seen in self.seen.values() if seen.size is not None]
        judged = sum(seen.lightness is not None for seen in good)
        named = len({path for listed in self.listed for path in listed.split.paths})
        self.diagnosis.examined = {
            "images named": named,
            "looked at": len(self.seen),
            "decoded": judged,
            "masks": len(self.seen_masks),
        }
        if judged < len(good):
            more = "--decode looks into all, and finds files cut short too"
            self.notes.append(f"brightness was judged on {judged:,} of {len(good):,} images; {more}")


def spread(length: int, number: int | None) -> list[int]:
    """`number` positions spread evenly over a length; all of them where that is fewer, or None."""
    if number is None or number >= length:
        return list(range(length))
    return (np.arange(number) * length // number).tolist()


def elsewhere(root: Path, names: Sequence[Path]) -> Path | None:
    """Where the first of these files may lie, which are not in the root: all above it, in one folder, or less deep."""
    folders = [*root.absolute().parents[:3], *sorted(path for path in root.iterdir() if path.is_dir())]
    placed = [[folder / name for name in names] for folder in folders]
    depths = range(1, min(len(name.parts) for name in names))
    placed += [[root / Path(*name.parts[depth:]) for name in names] for depth in depths]
    return next((paths[0] for paths in placed if all(path.is_file() for path in paths)), None)


def _one_sided(column: np.ndarray) -> bool:
    """Whether the known labels are all the same."""
    known = Counter(column[column >= 0].tolist())
    return len(known) == 1
