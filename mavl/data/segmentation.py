"""Segmentation data: images with the mask of one finding, cropped and flipped together. SPEC §12."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from mavl.backbones.preprocessing import Interpolation, Preprocessing
from mavl.config.finetune import SegmentationData
from mavl.config.loader import load
from mavl.config.settings import LoaderSettings
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.benchmarks.folders import WHOLE, read_folder
from mavl.data.benchmarks.masks import MaskFile
from mavl.data.benchmarks.splits import Split, SplitError
from mavl.data.classification import draw_splits
from mavl.data.images.read import read_image
from mavl.data.images.transforms import eval_transform
from mavl.data.pretraining import bad_images, damaged_masks
from mavl.vocab import ABSENT, PRESENT

UNNAMED = "mask"
"""What the masks of folders show where data.findings does not say."""


def resize_nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """mask [1, H, W] -> [1, *size], each pixel the one that its centre falls on."""
    return F.resize(mask.as_subclass(Tensor), list(size), InterpolationMode.NEAREST_EXACT)


class JointCrop(v2.RandomResizedCrop):
    """torchvision's, with masks resized like `resize_nearest`: its own shifts them by up to half a pixel."""

    def transform(self, inpt: Image.Image | tv_tensors.Mask, params: dict) -> Image.Image | tv_tensors.Mask:
        if not isinstance(inpt, tv_tensors.Mask):
            return super().transform(inpt, params)
        top, left, height, width = (params[name] for name in ("top", "left", "height", "width"))
        cut = inpt[..., top : top + height, left : left + width]
        return tv_tensors.Mask(resize_nearest(cut, tuple(self.size)))


class JointTransform:
    """(grey image, mask [1, H, W] in any frame over it) -> (image, mask), both uint8 [1, S, S].

    geometry: applied to both before they are resized. The image is normalized on the device.
    """

    def __init__(self, preprocessing: Preprocessing, geometry: v2.Transform | None = None):
        self.preprocessing, self.geometry = preprocessing, geometry
        self.plain = eval_transform(preprocessing)

    def __call__(self, image: Image.Image, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.geometry is not None:
            image, mask = self.geometry(image, tv_tensors.Mask(resize_nearest(mask, (image.height, image.width))))
        return self.plain.pixels(image), resize_nearest(mask, (self.preprocessing.image_size,) * 2)


def joint_train_transform(preprocessing: Preprocessing, min_scale: float = 0.2) -> JointTransform:
    """Random crop of (min_scale, 1) of the area and flip, the same for both. Uses torch's RNG."""
    interpolation = InterpolationMode(preprocessing.interpolation)
    crop = JointCrop(preprocessing.image_size, scale=(min_scale, 1.0), interpolation=interpolation)
    return JointTransform(preprocessing, v2.Compose([crop, v2.RandomHorizontalFlip()]))


def joint_eval_transform(preprocessing: Preprocessing) -> JointTransform:
    """Resize both to S × S without cropping."""
    return JointTransform(preprocessing)


class SegmentationDataset(Dataset):
    """dataset[epoch, index] -> {image uint8 [1, S, S], mask uint8 [1, S, S] of 0 and 1, index}.

    split: of one finding, which is absent where it has no mask. What is random about an item depends on (seed, epoch,
    index) alone, as in pre-training.
    """

    def __init__(self, split: Split, transform: JointTransform, equalize: bool, seed: int):
        self.split, self.transform, self.equalize, self.seed = split, transform, equalize, seed
        [self.masks] = split.masks.values()

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

    def mask(self, index: int) -> Tensor:
        """uint8 [1, H, W] of 0 and 1 in the mask's own frame."""
        mask = self.masks[index]
        pixels = np.zeros((1, 1), dtype=bool) if mask is None else mask.read()
        return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.uint8))[None]


@dataclass(frozen=True)
class MaskedData:
    """What a run is trained, validated and tested on.

    splits: train, valid and test, of one finding; root: the folder of the images; interpolation, equalize: how they are
    shown; notes: a line on each decision; left_out: bad images, by split.
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


def open_data(data: SegmentationData, seed: int, progress: bool) -> MaskedData:
    """Read the benchmark or the folders, draw the splits, check every file of theirs.

    Errors: BenchmarkError, FolderError, SplitError, FinetuneDataError, BadImagesError.
    """
    if data.folder is not None:
        root, title, interpolation, equalize = Path(data.folder.images), data.folder.images, None, False
        found = read_folder(data.folder, *(data.findings or (UNNAMED,)))
        read = {"train": replace(found[WHOLE], name="train")} if WHOLE in found else found
    else:
        benchmark = load(Benchmark, Path(data.benchmark))
        root = Path(data.root) if data.root else benchmark.root
        title, interpolation, equalize = benchmark.title, benchmark.interpolation, benchmark.equalize
        read = {name: read_split(benchmark, name, root) for name in benchmark.splits}
    usable, left_out, notes = {}, {}, []
    for name, split in read.items():
        damaged = damaged_masks(split, data.max_bad_share)
        usable[name], unknown = of_finding(split.without(set(damaged)), *data.findings)
        left_out[name] = [*damaged.values(), *unknown]
    if data.only_present:
        usable, notes = _only_present(usable)
    drawn = draw_splits(usable, data, seed, root)
    splits = {}
    for name, split in drawn.splits.items():
        bad = bad_files(split, data, progress)
        splits[name], left_out[name] = split.without(set(bad)), [*left_out.get(name, []), *bad.values()]
    return MaskedData(title, splits, root, interpolation, equalize, notes + drawn.notes, left_out)


def of_finding(split: Split, finding: str | None = None) -> tuple[Split, list[str]]:
    """The split with the masks of one finding (the only one where none is named), and a line for each image left out.

    Left out is an image whose mask is not known: it has none, and is not labelled as being without the finding.
    SplitError where there are no masks, or several findings to choose from.
    """
    if split.masks is None:
        raise SplitError(f"split {split.name!r} has no masks to learn from: its benchmark names none under `masks`")
    if finding is None and len(split.findings) > 1:
        raise SplitError(f"split {split.name!r} has masks of {', '.join(split.findings)}: say which as data.findings")
    split = split.select([finding or split.findings[0]])
    [masks], labels = split.masks.values(), split.labels[:, 0]
    unknown = [i for i, mask in enumerate(masks) if mask is None and labels[i] != ABSENT]
    lines = [f"{split.rows[i]}: no mask, and no label that says it would be empty" for i in unknown]
    return split.without(set(unknown)), lines


def bad_files(split: Split, settings: LoaderSettings, progress: bool) -> dict[int, str]:
    """Position -> "row: reason" of each image that is missing or unreadable, or its mask file.

    BadImagesError when they are more than `max_bad_share`, as in pre-training.
    """
    [masks] = split.masks.values()
    files = {i: mask.path for i, mask in enumerate(masks) if isinstance(mask, MaskFile)}
    bad = bad_images(split.paths, split.rows, split.name, settings, progress)
    if files:
        places = [f"{split.rows[i]}: mask" for i in files]
        found = bad_images(list(files.values()), places, split.name, settings, progress)
        bad |= {list(files)[position]: line for position, line in found.items()}
    return bad


def _only_present(splits: Mapping[str, Split]) -> tuple[dict[str, Split], list[str]]:
    """The images with the finding, and a line that says how many others there were."""
    absent = {name: np.flatnonzero(split.labels[:, 0] != PRESENT).tolist() for name, split in splits.items()}
    told = ", ".join(f"{len(positions)} of {name}" for name, positions in absent.items())
    kept = {name: split.without(set(absent[name])) for name, split in splits.items()}
    return kept, [f"images without the finding left out: {told}"]
