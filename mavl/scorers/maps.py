"""Heatmaps that another program computed, as a model for grounding: `file:FOLDER`, a file for each image and finding.

The map of `a/film.png` and `pleural effusion` is `a/film__pleural_effusion.npy` or `.png` in the folder: numbers of any
size and scale, none negative, over the whole film. Blanks of a finding may be written as _.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mavl.backbones import PatchGrid, Preprocessing
from mavl.data.images.grey import ImageError, check_size
from mavl.data.images.read import read_image
from mavl.files import inside
from mavl.progress import plural
from mavl.scorers.protocol import ScorerError

SIDE = 64
"""Cells of a side, to which every map is reduced by its means."""


class MapsScorer:
    """Maps in a folder. It has no scores."""

    preprocessing = Preprocessing(image_size=SIDE)
    trained_findings: tuple[str, ...] = ()
    patch_grid: PatchGrid | None = None

    def __init__(self, folder: Path):
        self.folder = folder

    def scores(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        raise ScorerError(f"file:{self.folder} is a folder of heatmaps and has no scores; give a table of scores")

    def heatmaps(self, images: Tensor, findings: Sequence[str]) -> Tensor:
        raise ScorerError(f"file:{self.folder} has heatmaps of images by their names, not of pixels")

    def listed_scores(self, images: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        raise ScorerError(f"file:{self.folder} is a folder of heatmaps and has no scores; give a table of scores")

    def lists_any(self, images: Sequence[str]) -> bool:
        return True

    def listed_heatmaps(
        self, images: Sequence[str], findings: Sequence[str], cases: Sequence[tuple[int, str]]
    ) -> np.ndarray:
        """float32 [n, C, h, w], each map of a case (image, finding) with sum 1; others are 0.

        ScorerError with the number of the cases without a file, and for a file that is no map.
        """
        maps = np.zeros((len(images), len(findings), SIDE, SIDE), np.float32)
        files = {case: self._file(images[case[0]], case[1]) for case in cases}
        if missing := [case for case, file in files.items() if file is None]:
            image, finding = missing[0]
            what = plural(len(missing), "heatmap")
            raise ScorerError(f"file:{self.folder}: {what} missing, such as that of {finding} in {images[image]}")
        for (image, finding), file in files.items():
            assert file is not None
            maps[image, list(findings).index(finding)] = _read(file)
        return maps

    def describe(self) -> dict:
        return {"model": f"file:{self.folder}", "map": "heatmaps of another program"}

    def _file(self, image: str, finding: str) -> Path | None:
        stem = str(Path(image).with_suffix(""))
        names = (
            f"{stem}__{name}{suffix}" for name in (finding, finding.replace(" ", "_")) for suffix in (".npy", ".png")
        )
        return next((file for name in names if (file := inside(self.folder, name)).is_file()), None)


def _read(file: Path) -> np.ndarray:
    """[SIDE, SIDE], sum 1; ScorerError for what is no map."""
    try:
        if file.suffix == ".npy":
            values = np.load(file, allow_pickle=False)
            if values.ndim == 2:
                check_size(*values.shape[::-1])
        else:
            values = np.asarray(read_image(file))
    except (ImageError, OSError, ValueError, EOFError) as error:
        raise ScorerError(f"{file}: no heatmap ({error})") from error
    if values.ndim != 2 or not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
        raise ScorerError(f"{file}: a heatmap has two axes and finite numbers; this has {values.dtype} {values.shape}")
    values = values.astype(np.float32)
    if values.min() < 0 or values.max() <= 0:
        raise ScorerError(f"{file}: a heatmap has no number below 0, and one above it")
    reduced = F.interpolate(torch.from_numpy(values)[None, None], (SIDE, SIDE), mode="bilinear", antialias=True)[0, 0]
    return (reduced / reduced.sum()).numpy()
