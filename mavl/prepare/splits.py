"""Splits of images that come without MIMIC-CXR's: by a column, or by a hash."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

SPLIT_NAMES = {name: split for split, names in {
    "train": ("train", "training"),
    "validate": ("validate", "validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}.items() for name in names}  # fmt: skip

SHARES = {"train": 0.8, "validate": 0.1, "test": 0.1}
"""Shares of the groups in a split by hash."""


def hashed_split(group: str, seed: int) -> str:
    """The split of a group: the same for one seed, in whatever table it stands."""
    place = int.from_bytes(hashlib.sha256(f"{seed}:{group}".encode()).digest()[:8]) / 2**64
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    return next(reversed(SHARES))


def torn_groups(images: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(group, numbers of images by split) of each group with images in several splits. images: (group, split)."""
    splits: dict[str, Counter[str]] = {}
    for group, split in images:
        splits.setdefault(group, Counter())[split] += 1
    for group, of in splits.items():
        if len(of) > 1:
            yield group, "images: " + ", ".join(f"{split} {number}" for split, number in of.items())
