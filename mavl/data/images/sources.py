"""The images of a list of paths: from their files or, by a setting, from a store. All else is the same for both."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image

from mavl.data.images.read import ImageError, ImageFile, Level, Picture, check_images
from mavl.data.images.store import Store, StoredImage, key_of


@dataclass(frozen=True)
class Files:
    """pictures[i] -> the image in a file."""

    paths: Sequence[Path]
    equalize: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Picture:
        return ImageFile(self.paths[index], equalize=self.equalize)

    def take(self, positions: Sequence[int]) -> Self:
        return Files([self.paths[i] for i in positions], self.equalize)

    def check(self, level: Level, *, workers: int, progress: bool) -> dict[int, str]:
        """What is wrong with an image, by position."""
        return check_images(self.paths, level, workers=workers, progress=progress)


@dataclass(frozen=True, eq=False)
class Stored:
    """pictures[i] -> the image in a row of a store (-1: it is not there); of no path, so small to send to a worker."""

    store: Store
    rows: np.ndarray
    equalize: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Picture:
        if self.rows[index] < 0:
            raise ImageError(self._missing())
        return StoredImage(self.store, self.rows[index], self.equalize)

    def take(self, positions: Sequence[int]) -> Self:
        return Stored(self.store, self.rows[list(positions)], self.equalize)

    def check(self, level: Level, *, workers: int, progress: bool) -> dict[int, str]:
        """Which images the store does not have, by position; their bytes are `--verify`'s affair."""
        return dict.fromkeys(np.flatnonzero(self.rows < 0).tolist(), self._missing())

    def _missing(self) -> str:
        return f"not in the store {self.store.folder}, whose {len(self.store)} images begin with {self.store.key(0)}"


def from_store(files: Files, store: str | os.PathLike, root: str | os.PathLike | None) -> Stored:
    """The images of these files, of a store, whose keys are relative to `root`.

    StoreError where there is none; which images it does not have, `check` tells.
    """
    opened = Store(store)
    return Stored(opened, opened.rows([key_of(path, root) for path in files.paths]), files.equalize)


def read_picture(picture: Picture) -> Image.Image:
    """A picture in full, mode "L"."""
    return Image.fromarray(picture.pixels())
