"""Segmentation data: images with the mask of one finding, cropped and flipped together."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import RandomResizedCrop

from mavl.backbones.preprocessing import Interpolation, Preprocessing
from mavl.config.data import LoaderSettings
from mavl.config.finetune import SegmentationData
from mavl.config.loader import load
from mavl.data import DataError
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.benchmarks.folders import WHOLE, read_folder
from mavl.data.benchmarks.masks import Mask, MaskFile, resize_mask
from mavl.data.benchmarks.splits import Split
from mavl.data.checks import Share, bad_images, damaged_masks
from mavl.data.classification import draw_splits
from mavl.data.images.read import read_image
from mavl.data.images.transforms import RATIO, eval_transform
from mavl.vocab import ABSENT, PRESENT


@dataclass(frozen=True)
class JointTransform:
    """(grey image, mask bool [h, w] in any frame over it) -> (image uint8 [1, S, S], mask uint8 [1, S, S] of 0 and 1).

    min_scale: least share of the area of a random crop, which is flipped in half of the cases; None for the whole
    image. Uses torch's RNG. The image is normalized on the device.
    """

    preprocessing: Preprocessing
    min_scale: float | None = None

    def __call__(self, image: Image.Image, mask: np.ndarray) -> tuple[Tensor, Tensor]:
        size, flip = self.preprocessing.image_size, False
        if self.min_scale is not None:
            mask = resize_mask(mask, image.height, image.width)
            shape = cast(Tensor, image)  # torchvision takes PIL images too
            top, left, height, width = RandomResizedCrop.get_params(shape, [self.min_scale, 1.0], list(RATIO))
            image, mask = image.crop((left, top, left + width, top + height)), mask[top:, left:][:height, :width]
            flip = bool(torch.rand(1) < 0.5)
        resized = torch.from_numpy(resize_mask(mask, size).astype(np.uint8))[None]
        pixels = eval_transform(self.preprocessing).pixels(image)
        return (pixels.flip(-1), resized.flip(-1)) if flip else (pixels, resized)


class SegmentationDataset(Dataset):
    """dataset[epoch, index] -> {image uint8 [1, S, S], mask uint8 [1, S, S] of 0 and 1, index}; seeded by all.

    split: of one finding, which is absent where it has no mask.
    """

    def __init__(self, split: Split, transform: JointTransform, equalize: bool, seed: int):
        self.split, self.transform, self.equalize, self.seed = split, transform, equalize, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        generator = np.random.default_rng((self.seed, *key))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.integers(2**62)))
            pixels, mask = self.transform(self.image(key[1]), self.mask(key[1]))
        return {"image": pixels, "mask": mask, "index": key[1]}

    def image(self, index: int) -> Image.Image:
        """The whole image, grey."""
        return read_image(self.split.paths[index], equalize=self.equalize)

    def mask(self, index: int) -> np.ndarray:
        """bool [H, W] in the mask's own frame."""
        mask = masks_of(self.split)[index]
        return np.zeros((1, 1), dtype=bool) if mask is None else mask.read()


@dataclass(frozen=True)
class MaskedData:
    """The splits train, valid and test of one finding, with their images below `root`, and how to preprocess these.

    notes: a line on each decision; left_out: a line for each bad image, by split.
    """

    title: str
    splits: dict[str, Split]
    root: Path | None
    interpolation: Interpolation | None
    equalize: bool
    notes: list[str]
    left_out: dict[str, list[str]]

    @property
    def finding(self) -> str:
        return self.splits["train"].findings[0]

    def dataset(self, name: str, transform: JointTransform, seed: int = 0) -> SegmentationDataset:
        return SegmentationDataset(self.splits[name], transform, self.equalize, seed)


def open_data(data: SegmentationData, seed: int, progress: bool, share: Share | None = None) -> MaskedData:
    """Read the benchmark or the folders, make the splits, check all of their files. DataError for what does not fit.

    share: the part of the files that this process checks, by default all.
    """
    if data.folder is not None:
        root, title, interpolation, equalize = Path(data.folder.images), data.folder.images, None, False
        read = read_folder(data.folder, next(iter(data.findings), "mask"))
        read = {"train": replace(read[WHOLE], name="train")} if WHOLE in read else read
    else:
        assert data.benchmark is not None  # the schema needs one of the two
        benchmark = load(Benchmark, Path(data.benchmark))
        root = Path(data.root) if data.root else benchmark.root
        title, interpolation, equalize = benchmark.title, benchmark.interpolation, benchmark.equalize
        read = {name: read_split(benchmark, name, root) for name in benchmark.splits}
    usable, left_out, absent = {}, {}, []
    for name, split in read.items():
        damaged = damaged_masks(split, data.max_bad_share)
        split, unknown = of_finding(split.without(damaged), *data.findings)
        left_out[name] = [*damaged.values(), *unknown]
        if data.only_present:
            positions = np.flatnonzero(split.labels[:, 0] == PRESENT)
            absent.append(f"{len(split) - len(positions)} of {name}")
            split = split.take(positions)
        usable[name] = split
    notes = [f"images without the finding left out: {', '.join(absent)}"] if absent else []
    splits, decisions = draw_splits(usable, data, seed, root)
    for name, split in splits.items():
        bad = bad_files(split, data, progress, share)
        splits[name], left_out[name] = split.without(bad), [*left_out.get(name, []), *bad.values()]
    return MaskedData(title, splits, root, interpolation, equalize, notes + decisions, left_out)


def masks_of(split: Split) -> list[Mask | None]:
    """The masks of a split with one finding."""
    [masks] = (split.masks or {}).values()
    return masks


def of_finding(split: Split, finding: str | None = None) -> tuple[Split, list[str]]:
    """The split with the masks of one finding (the only one if none is named), and a line for each image left out.

    Left out is an image without a mask that is not labelled as being without the finding.
    """
    if split.masks is None:
        raise DataError(f"split {split.name!r} has no masks to learn from: its benchmark names none under `masks`")
    if finding is None and len(split.findings) > 1:
        raise DataError(f"split {split.name!r} has masks of {', '.join(split.findings)}: say which as data.findings")
    split = split.select([finding or next(iter(split.findings))])
    unknown = [i for i, mask in enumerate(masks_of(split)) if mask is None and split.labels[i, 0] != ABSENT]
    lines = [f"{split.rows[i]}: no mask, and no label that says it would be empty" for i in unknown]
    return split.without(set(unknown)), lines


def bad_files(split: Split, settings: LoaderSettings, progress: bool, share: Share | None = None) -> dict[int, str]:
    """Position -> "row: reason" of each image that is missing or unreadable, or its mask file; errors as bad_images."""
    bad = bad_images(split.paths, split.rows.__getitem__, split.name, settings, progress, share=share)
    if files := {i: mask.path for i, mask in enumerate(masks_of(split)) if isinstance(mask, MaskFile)}:
        places = [f"{split.rows[i]}: mask" for i in files]
        found = bad_images(list(files.values()), places.__getitem__, split.name, settings, progress, "mask", share)
        bad |= {list(files)[position]: line for position, line in found.items()}
    return bad
