"""From what was seen of the files to faults: absolute ones, and what is unlike the other files of the same data."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mavl.data.benchmarks.masks import BoxMask, Mask, MaskFile, RunLengthMask
from mavl.data.benchmarks.splits import Split
from mavl.prepare.doctor.images import INVERTED, Seen, SeenMask
from mavl.prepare.doctor.lists import Listed
from mavl.prepare.doctor.report import Found
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

COMMON = 0.2
"""What more than this share of the images has is no exception but how the data are."""

SMALL, SMALLER_THAN_MOST, OTHER_SHAPE = 64, 4, 1.6
"""Odd is a shorter side under SMALL pixels (half the network's input, where the config says what that is), or under the
median's by this factor, or a ratio of width to height that is off the median's by this factor."""

SAME_SHAPE = 0.02
"""By how much the ratio of width to height of a mask may be off its image's, besides a pixel of rounding."""

LATERAL_VIEWS = ("l", "ll", "rl", "lat", "lateral", "left lateral", "right lateral")
"""What lists and DICOM headers call a lateral view (CheXpert, MIMIC-CXR-JPG, PadChest), in small letters."""

LATERAL_NAME = re.compile(r"(?<![a-z])lat(eral)?(?![a-z])", re.IGNORECASE)


def judge_images(
    listed: Sequence[Listed],
    chosen: Mapping[str, Sequence[int]],
    seen: Mapping[Path, Seen],
    image_size: int | None,
    found: Found,
    short: Callable[[Path], str],
) -> list[str]:
    """Report the faults of the images that were seen, each image once; a note where most are of an odd kind."""
    places, views = {}, {}
    for one in listed:
        for image in chosen[one.split.name]:
            path = one.split.paths[image]
            places.setdefault(path, f"{one.split.rows[image]}: {short(path)}")
            views.setdefault(path, one.views[image])
    images = [seen[path] for path in places if path in seen]
    for image in images:
        place = places[image.path]
        if image.reason is not None:
            kind = "missing_image" if image.missing else "unreadable_image"
            found.add(kind, f"{place}: {image.reason}", image.path)
        elif image.flat:
            found.add("blank_image", place, image.path)
        elif image.lightness is not None and image.lightness > INVERTED:
            found.add("inverted", f"{place}: {image.lightness:.2f}, more than {INVERTED}", image.path)
        if why := _lateral(image, views[image.path]):
            found.add("lateral", f"{place}: {why}", image.path)
    good = [image for image in images if image.size is not None]
    notes = []
    for kind, odd in (("odd_depth", _odd_depths(good)), ("odd_size", _odd_sizes(good, image_size))):
        if len(odd) > max(1, COMMON * len(good)):
            notes.append(
                f"{len(odd):,} of {len(good):,} images are of {kind}: {next(iter(odd.values()))}, among others"
            )
            continue
        for path, why in odd.items():
            found.add(kind, f"{places[path]}: {why}", path)
    return notes


def judge_masks(
    split: Split,
    chosen: Sequence[int],
    seen: Mapping[Path, Seen],
    seen_masks: Mapping[Path, SeenMask],
    labelled: bool,
    found: Found,
) -> None:
    """Report the faults of the masks of a split's chosen images; `labelled`: its labels are not told by the masks."""
    for finding, masks in (split.masks or {}).items():
        labels = split.labels[:, split.findings.index(finding)]
        for image in chosen:
            mask = masks[image]
            if mask is None or (isinstance(mask, MaskFile) and mask.path not in seen_masks):
                continue
            file = mask.path if isinstance(mask, MaskFile) else None
            place = f"{split.rows[image]}: {finding} in {split.paths[image].name}"
            if file is not None and (reason := seen_masks[file].reason):
                found.add("unreadable_mask", f"{place}: {reason}", file)
                continue
            empty = seen_masks[file].empty if file is not None else mask.empty
            if labelled and empty and labels[image] == PRESENT:
                found.add("empty_mask", f"{place}: labelled as present", file)
            if labelled and not empty and labels[image] == ABSENT:
                found.add("unlabelled_mask", f"{place}: labelled as absent", file)
            picture = seen.get(split.paths[image])
            if not empty and picture is not None and picture.size is not None:
                size = seen_masks[file].size if file is not None else mask.size[::-1]
                if not _same_shape(size, picture.size):
                    text = f"{size[0]} x {size[1]} over an image of {picture.size[0]} x {picture.size[1]}"
                    found.add("mask_size", f"{place}: {text}", file or split.paths[image])


def label_by_masks(split: Split, seen_masks: Mapping[Path, SeenMask]) -> np.ndarray:
    """Labels int8 [n, C]: present where the mask is not empty; unknown where there is none or it was not seen."""
    labels = np.full(split.labels.shape, UNKNOWN, dtype=np.int8)
    for column, finding in enumerate(split.findings):
        for image, mask in enumerate((split.masks or {}).get(finding, ())):
            empty = _is_empty(mask, seen_masks)
            labels[image, column] = UNKNOWN if empty is None else ABSENT if empty else PRESENT
    return labels


def count_labels(split: Split) -> dict:
    """{images, groups (patients, None where they are not told), findings: {finding: {present, absent, unknown}}}."""
    alphabet = {"present": PRESENT, "absent": ABSENT, "unknown": UNKNOWN}
    findings = {
        finding: {name: int((column == label).sum()) for name, label in alphabet.items()}
        for finding, column in zip(split.findings, split.labels.T, strict=True)
    }
    groups = None if split.groups is None else len(set(split.groups))
    return {"images": len(split), "groups": groups, "findings": findings}


def _is_empty(mask: Mask | None, seen_masks: Mapping[Path, SeenMask]) -> bool | None:
    if isinstance(mask, MaskFile):
        return seen_masks[mask.path].empty if mask.path in seen_masks else None
    return mask.empty if isinstance(mask, RunLengthMask | BoxMask) else None


def _lateral(image: Seen, view: str) -> str | None:
    """Why an image is taken for a lateral view."""
    for source, text in (("its list", view), ("its DICOM header", image.view)):
        if text.strip().lower() in LATERAL_VIEWS:
            return f"{text} by {source}"
    return "by its name" if LATERAL_NAME.search(image.path.name) else None


def _odd_depths(good: Sequence[Seen]) -> dict[Path, str]:
    """Images whose depth is not the commonest one."""
    deep = Counter(image.bits > 8 for image in good)
    if len(deep) < 2:
        return {}
    [(usual, number)] = deep.most_common(1)
    others = f"while {number:,} others have {'more than 8' if usual else 'no more than 8'}"
    return {image.path: f"{image.bits} bits a pixel, {others}" for image in good if (image.bits > 8) != usual}


def _odd_sizes(good: Sequence[Seen], image_size: int | None) -> dict[Path, str]:
    """Images that are small, or of another shape than most."""
    if not good:
        return {}
    sizes = np.array([image.size for image in good])
    shorter, shape = sizes.min(axis=1), sizes[:, 0] / sizes[:, 1]
    least = max(image_size // 2 if image_size else SMALL, np.median(shorter) / SMALLER_THAN_MOST)
    usual = float(np.median(shape))
    off = np.maximum(shape / usual, usual / shape)
    odd = {}
    for image, side, factor in zip(good, shorter, off, strict=True):
        width, height = image.size
        if side < least:
            odd[image.path] = f"{width} x {height}, the shorter side under {least:.0f}"
        elif factor > OTHER_SHAPE:
            odd[image.path] = f"{width} x {height}, width / height {width / height:.2f} where {usual:.2f} is usual"
    return odd


def _same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two (width, height) have the same ratio, but for a pixel's rounding."""
    allowed = SAME_SHAPE + 1 / min(*one, *other)
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= allowed
