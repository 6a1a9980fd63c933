"""A split: the images of one split file with their labels. `mavl.data.benchmarks.benchmark` reads it."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from mavl.data import DataError
from mavl.data.benchmarks.masks import Mask, MaskFile
from mavl.data.images.grey import ImageError
from mavl.vocab import ABSENT, PRESENT, UNKNOWN, unknown_name


class MissingSplitError(FileNotFoundError):
    """A split file that does not exist; the message names the setting for its place."""


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
    """For each finding the mask of each image, None where there is none."""
    views: list[str] | None = None
    """The projection of each image by the file's column for it, such as "PA" or "LATERAL"."""
    metadata: dict[str, list[str]] = field(default_factory=dict)
    """For each attribute of the benchmark's metadata the subgroup of each image, "" where it is not known."""

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, findings: Sequence[str]) -> Self:
        """The same images with these findings only, in this order; DataError for one that it does not have."""
        for finding in findings:
            if finding not in self.findings:
                raise DataError(f"split {self.name!r}: " + unknown_name("finding", finding, self.findings))
        columns = [self.findings.index(finding) for finding in findings]
        masks = self.masks and {finding: self.masks[finding] for finding in findings}
        return replace(self, findings=tuple(findings), labels=self.labels[:, columns], masks=masks)

    def take(self, positions: Iterable[int]) -> Self:
        """The images at these positions."""
        kept = list(positions)
        lists = ("paths", "groups", "rows", "views")
        taken = {name: None if (x := getattr(self, name)) is None else [x[i] for i in kept] for name in lists}
        masks = self.masks and {finding: [x[i] for i in kept] for finding, x in self.masks.items()}
        metadata = {attribute: [x[i] for i in kept] for attribute, x in self.metadata.items()}
        return replace(self, labels=self.labels[kept], masks=masks, metadata=metadata, **taken)

    def without(self, positions: Collection[int]) -> Self:
        """The split without the images at these positions."""
        return self.take(i for i in range(len(self)) if i not in positions)

    def labelled_by_masks(self) -> Self:
        """The split with its labels by its masks: present where they are not empty, unknown where there is none.

        A mask file that cannot be read gets its `reason`, and its label is unknown.
        """
        masks = {finding: list(of_images) for finding, of_images in (self.masks or {}).items()}
        labels = np.full((len(self), len(masks)), UNKNOWN, dtype=np.int8)
        for column, of_images in enumerate(masks.values()):
            for image, mask in enumerate(of_images):
                try:
                    if mask is not None:
                        labels[image, column] = ABSENT if mask.empty else PRESENT
                except ImageError as error:
                    assert isinstance(mask, MaskFile)
                    of_images[image] = replace(mask, reason=str(error))
        return replace(self, labels=labels, masks=masks)

    def damaged_masks(self) -> dict[int, str]:
        """Position -> reason of each image that has no label because its mask file cannot be read."""
        masks = [mask for of_images in (self.masks or {}).values() for mask in enumerate(of_images)]
        return {image: mask.reason for image, mask in masks if isinstance(mask, MaskFile) and mask.reason}

    def mask(self, image: int, finding: str | None = None) -> np.ndarray:
        """bool [H, W], in the mask's own frame; `finding` may be left out if the split has one."""
        finding = finding or self.findings[0]
        mask = self.masks[finding][image] if self.masks else None
        if mask is None:
            raise DataError(f"{self.rows[image]}: {self.paths[image]} has no mask of {finding}")
        return mask.read()
