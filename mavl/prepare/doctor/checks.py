"""The faults of splits and of inspected files: absolute ones, and differences from the other files of the same data."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mavl.data.benchmarks.masks import Mask
from mavl.data.benchmarks.splits import Split
from mavl.prepare.doctor.images import INVERTED, ImageFacts, MaskFacts
from mavl.prepare.doctor.report import Diagnosis
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

COMMON = 0.2
"""A property of more than this share of the images is no exception."""

SMALL, SMALLER_THAN_MOST, OTHER_SHAPE = 64, 4, 1.6
"""An image is odd where its shorter side is under SMALL pixels (or half the network's input, where the config gives
that) or under the median's by this factor, or where its ratio of width to height is off the median's by this factor."""

SAME_SHAPE = 0.02
"""By how much the ratio of width to height of a mask may be off its image's, besides a pixel of rounding."""

LATERAL_VIEWS = ("l", "ll", "rl", "lat", "lateral", "left lateral", "right lateral")
"""Lateral views in lists and DICOM headers (CheXpert, MIMIC-CXR-JPG, PadChest), in small letters."""

LATERAL_NAME = re.compile(r"(?<![a-z])lat(eral)?(?![a-z])", re.IGNORECASE)


def name_of(path: Path, root: Path | None) -> str:
    """A path relative to the root, if it is under it."""
    return (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).as_posix()


def check_lists(splits: Sequence[Split], root: Path | None, diagnosis: Diagnosis) -> None:
    """Report the images and patients that are in two splits."""
    images, patients = {}, {}
    for split in splits:
        for path, row in zip(split.paths, split.rows, strict=True):
            if images.setdefault(path, split.name) != split.name:
                diagnosis.add("shared_image", f"{row}: {name_of(path, root)} is in {images[path]} too", path)
        for patient, row in dict(zip(split.groups or (), split.rows, strict=False)).items():
            other, place = patients.setdefault(patient, (split.name, row))
            if patient and other != split.name:
                line = f"{row}: patient {patient} of {split.name} is in {other} too ({place})"
                diagnosis.add("shared_patient", line)
    if len(splits) > 1 and not any(split.groups for split in splits):
        diagnosis.notes.append("no list names patients: whether splits share one was not checked")


def check_images(
    images: Iterable[ImageFacts],
    places: Mapping[Path, str],
    views: Mapping[Path, str],
    image_size: int | None,
    diagnosis: Diagnosis,
) -> None:
    """Report the faults of images, and note a kind that is too common to be a fault.

    Args:
        places: for each image its row and path, for the report.
        views: for each image its projection by the list, "" where the list does not give it.
        image_size: side in pixels of the network's input, if known.
    """
    good = []
    for image in images:
        place, lightness = places[image.path], image.lightness
        if image.reason is not None:
            kind = "unreadable_image" if image.path.exists() else "missing_image"
            diagnosis.add(kind, f"{place}: {image.reason}", image.path)
        elif lightness is not None and math.isnan(lightness):
            diagnosis.add("blank_image", place, image.path)
        elif lightness is not None and lightness > INVERTED:
            diagnosis.add("inverted", f"{place}: {lightness:.2f}, more than {INVERTED}", image.path)
        if reason := _lateral(image, views[image.path]):
            diagnosis.add("lateral", f"{place}: {reason}", image.path)
        if image.reason is None:
            good.append(image)
    for kind, odd in (("odd_depth", _odd_depths(good)), ("odd_size", _odd_sizes(good, image_size))):
        if len(odd) > max(1, COMMON * len(good)):
            example = next(iter(odd.values()))
            diagnosis.notes.append(f"{len(odd):,} of {len(good):,} images are of {kind}: {example}, among others")
            continue
        for path, reason in odd.items():
            diagnosis.add(kind, f"{places[path]}: {reason}", path)


def check_masks(
    split: Split,
    chosen: Sequence[int],
    masks: Mapping[Mask | None, MaskFacts],
    images: Mapping[Path, ImageFacts],
    diagnosis: Diagnosis,
) -> None:
    """Report the faults of the masks of a split's chosen images."""
    for finding, of_images in (split.masks or {}).items():
        labels = split.labels[:, split.findings.index(finding)]
        for position in chosen:
            mask, path = masks.get(of_images[position]), split.paths[position]
            if mask is None:
                continue
            place = f"{split.rows[position]}: {finding} in {path.name}"
            if mask.reason is not None:
                diagnosis.add("unreadable_mask", f"{place}: {mask.reason}", mask.path)
            elif mask.empty and labels[position] == PRESENT:
                diagnosis.add("empty_mask", f"{place}: labelled as present", mask.path)
            elif not mask.empty:
                if labels[position] == ABSENT:
                    diagnosis.add("unlabelled_mask", f"{place}: labelled as absent", mask.path)
                image = images.get(path)
                if image is not None and image.reason is None and not _same_shape(mask.size, image.size):
                    text = "{} x {} over an image of {} x {}".format(*mask.size, *image.size)
                    diagnosis.add("mask_size", f"{place}: {text}", mask.path or path)


def label_by_masks(split: Split, masks: Mapping[Mask | None, MaskFacts]) -> Split:
    """The split with its labels by its masks: present where they are not empty, unknown where none was inspected."""
    meaning = {None: UNKNOWN, True: ABSENT, False: PRESENT}
    known = {mask: meaning[facts.empty] for mask, facts in masks.items()}
    labels = [[known.get(mask, UNKNOWN) for mask in of_images] for of_images in (split.masks or {}).values()]
    return replace(split, labels=np.array(labels, dtype=np.int8).T)


def count_labels(split: Split) -> dict:
    """{images, groups (patients, None where there are none), findings: {finding: {present, absent, unknown}}}."""
    alphabet = {"present": PRESENT, "absent": ABSENT, "unknown": UNKNOWN}
    findings = {
        finding: {name: int((column == label).sum()) for name, label in alphabet.items()}
        for finding, column in zip(split.findings, split.labels.T, strict=True)
    }
    groups = None if split.groups is None else len(set(split.groups))
    return {"images": len(split), "groups": groups, "findings": findings}


def _lateral(image: ImageFacts, view: str) -> str | None:
    """The evidence that an image is a lateral view, if there is any."""
    for source, text in (("its list", view), ("its DICOM header", image.view)):
        if text.strip().lower() in LATERAL_VIEWS:
            return f"{text} by {source}"
    return "by its name" if LATERAL_NAME.search(image.path.name) else None


def _odd_depths(good: Sequence[ImageFacts]) -> dict[Path, str]:
    """Images whose depth is not the commonest one."""
    deep = Counter(image.bits > 8 for image in good)
    if len(deep) < 2:
        return {}
    [(usual, number)] = deep.most_common(1)
    others = f"while {number:,} others have {'more than 8' if usual else 'no more than 8'}"
    return {image.path: f"{image.bits} bits a pixel, {others}" for image in good if (image.bits > 8) != usual}


def _odd_sizes(good: Sequence[ImageFacts], image_size: int | None) -> dict[Path, str]:
    """Images that are small, or of another shape than most."""
    if not good:
        return {}
    sizes = np.array([image.size for image in good])
    least = max(image_size // 2 if image_size else SMALL, np.median(sizes.min(axis=1)) / SMALLER_THAN_MOST)
    usual = float(np.median(sizes[:, 0] / sizes[:, 1]))
    odd = {}
    for image in good:
        width, height = image.size
        shape = width / height
        if min(image.size) < least:
            odd[image.path] = f"{width} x {height}, the shorter side under {least:.0f}"
        elif max(shape / usual, usual / shape) > OTHER_SHAPE:
            odd[image.path] = f"{width} x {height}, width / height {shape:.2f} where {usual:.2f} is usual"
    return odd


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (width, height) have the same ratio, but for a pixel's rounding."""
    allowed = SAME_SHAPE + 1 / min(*one, *other)
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= allowed
