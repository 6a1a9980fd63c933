"""A split: the images of one split file with their labels. `mavl.data.benchmarks.benchmark` reads it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from mavl.data.benchmarks.masks import DamagedMask, Mask, label_by
from mavl.vocab import unknown_name


class SplitError(ValueError):
    """A split, finding or mask that a benchmark does not have."""


class MissingSplitError(FileNotFoundError):
    """A split file that is not there; the message says which setting gives its place."""


@dataclass(frozen=True, eq=False)
class Split:
    """The n images of one split, with labels and masks. An image that several rows name is here once."""

    name: str
    findings: tuple[str, ...]
    paths: list[Path]
    labels: np.ndarray
    """int8 [n, C] in {1 present, 0 absent, -1 unknown}, a column a finding."""
    groups: list[str] | None
    """The patient (or study) of each image, where the file names them."""
    rows: list[str]
    """Where each image was named, "test.csv:17"."""
    masks: dict[str, list[Mask | None]] | None
    """For each finding the mask of each image, None where there is none; `empty` and `read()` read it."""
    views: list[str] | None = None
    """The projection of each image by the file's column for it, such as "PA" or "LATERAL"."""

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, findings: Sequence[str]) -> Self:
        """The same images with these findings only, in this order; SplitError for one that it does not have."""
        for finding in findings:
            if finding not in self.findings:
                raise SplitError(f"split {self.name!r}: " + unknown_name("finding", finding, self.findings))
        columns = [self.findings.index(finding) for finding in findings]
        masks = self.masks and {finding: self.masks[finding] for finding in findings}
        return replace(self, findings=tuple(findings), labels=self.labels[:, columns], masks=masks)

    def without(self, positions: set[int]) -> Self:
        """The split without the images at these positions."""
        kept = [i for i in range(len(self)) if i not in positions]
        lists = ("paths", "groups", "rows", "views")
        shorter = {name: None if (x := getattr(self, name)) is None else [x[i] for i in kept] for name in lists}
        masks = self.masks and {finding: [x[i] for i in kept] for finding, x in self.masks.items()}
        return replace(self, labels=self.labels[kept], masks=masks, **shorter)

    def labelled_by_masks(self) -> Self:
        """The split with its labels by its masks: present where they are not empty, unknown where there is none.

        Mask files that cannot be read become DamagedMask, and their labels are unknown.
        """
        assert self.masks is not None
        read = {finding: [label_by(mask) for mask in masks] for finding, masks in self.masks.items()}
        labels = np.array([[label for _, label in pairs] for pairs in read.values()], dtype=np.int8).T
        return replace(self, labels=labels, masks={name: [mask for mask, _ in pairs] for name, pairs in read.items()})

    def damaged_masks(self) -> dict[int, str]:
        """Position -> reason of each image that has no label because the mask file for it cannot be read."""
        masks = [mask for of_finding in (self.masks or {}).values() for mask in enumerate(of_finding)]
        return {image: mask.reason for image, mask in masks if isinstance(mask, DamagedMask)}

    def mask(self, image: int, finding: str | None = None) -> np.ndarray:
        """bool [H, W] in the frame of the benchmark's `masks.size`, or of the mask file.

        `finding` may be left out where the split has one. SplitError where there is no such mask.
        """
        if self.masks is None:
            raise SplitError(f"split {self.name!r} has no masks: its benchmark names none under `masks`")
        if finding is None:
            (finding,) = self.findings
        if (mask := self.masks[finding][image]) is None:
            raise SplitError(f"{self.rows[image]}: {self.paths[image]} has no mask of {finding}")
        return mask.read()
