"""The faults of splits and of inspected files: absolute ones, and differences from the other files of the same data."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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


class Place(NamedTuple):
    """Where a split names an image: its row and path, and its projection by the list, "" if the list has none."""

    split: str
    text: str
    view: str


Places = Mapping[Path, Sequence[Place]]


def places_of(splits: Iterable[Split], root: Path | None) -> Places:
    """The places of each image, whose paths are shown relative to the root where they lie in it."""
    places = defaultdict(list)
    for split in splits:
        for path, row, view in zip(split.paths, split.rows, split.views or [""] * len(split), strict=True):
            name = path.relative_to(root) if root is not None and path.is_relative_to(root) else path
            places[path].append(Place(split.name, f"{row}: {name.as_posix()}", view))
    return places


def check_lists(splits: Sequence[Split], places: Places, diagnosis: Diagnosis) -> None:
    """Report the images and patients that are in two splits."""
    for path, (first, *others) in places.items():
        for other in others:
            diagnosis.add("shared_image", f"{other.text} is in {first.split} too", path)
    patients = {}
    for split in splits:
        for patient, row in dict(zip(split.groups or (), split.rows, strict=False)).items():
            other, place = patients.setdefault(patient, (split.name, row))
            if patient and other != split.name:
                line = f"{row}: patient {patient} of {split.name} is in {other} too ({place})"
                diagnosis.add("shared_patient", line)
    if len(splits) > 1 and not any(split.groups for split in splits):
        diagnosis.notes.append("no list names patients: whether splits share one was not checked")


def check_copies(groups: Iterable[Sequence[Path]], places: Places, diagnosis: Diagnosis) -> None:
    """Report groups of files with the same bytes."""
    for paths in groups:
        named = [place for path in paths for place in places[path]]
        kind = "duplicate_image" if len({place.split for place in named}) == 1 else "leaked_image"
        diagnosis.add(kind, " = ".join(place.text for place in named), paths[0])


def check_images(
    images: Mapping[Path, ImageFacts], places: Places, image_size: int | None, diagnosis: Diagnosis
) -> None:
    """Report the faults of images, and note a kind that is too common to be a fault.

    image_size: side in pixels of the network's input, if known.
    """
    for path, image in images.items():
        place, lightness = places[path][0], image.lightness
        if image.reason is not None:
            kind = "unreadable_image" if path.exists() else "missing_image"
            diagnosis.add(kind, f"{place.text}: {image.reason}", path)
        elif lightness is not None and math.isnan(lightness):
            diagnosis.add("blank_image", place.text, path)
        elif lightness is not None and lightness > INVERTED:
            diagnosis.add("inverted", f"{place.text}: {lightness:.2f}, more than {INVERTED}", path)
        if reason := _lateral(image, place.view):
            diagnosis.add("lateral", f"{place.text}: {reason}", path)
        if len(image.orientation) == 2 and (image.orientation[0][:1] == "R" or image.orientation[1][:1] != "F"):
            leads = " and ".join(image.orientation)
            diagnosis.add("turned", f"{place.text}: its rows and columns lead to {leads}, not to L and F", path)
    good = [image for image in images.values() if image.reason is None]
    formats = {image.path: f"its content is {image.other_format}" for image in good if image.other_format}
    sizes = _odd_sizes(good, image_size)
    for kind, odd in (("odd_depth", _odd_depths(good)), ("other_format", formats), ("odd_size", sizes)):
        if len(odd) > max(1, COMMON * len(good)):
            example = next(iter(odd.values()))
            diagnosis.notes.append(f"{len(odd):,} of {len(good):,} images are of {kind}: {example}, among others")
            continue
        for path, reason in odd.items():
            diagnosis.add(kind, f"{places[path][0].text}: {reason}", path)


def check_masks(
    split: Split, masks: Mapping[Mask | None, MaskFacts], images: Mapping[Path, ImageFacts], diagnosis: Diagnosis
) -> None:
    """Report the faults of the masks of a split, as far as they were inspected."""
    for finding, of_finding in (split.masks or {}).items():
        labels = split.labels[:, split.findings.index(finding)]
        for path, row, label, mask in zip(split.paths, split.rows, labels, map(masks.get, of_finding), strict=True):
            if mask is None:
                continue
            place = f"{row}: {finding} in {path.name}"
            if mask.reason is not None:
                diagnosis.add("unreadable_mask", f"{place}: {mask.reason}", mask.path)
            elif mask.empty and label == PRESENT:
                diagnosis.add("empty_mask", f"{place}: labelled as present", mask.path)
            elif not mask.empty:
                if mask.full:
                    diagnosis.add("full_mask", place, mask.path)
                if label == ABSENT:
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
