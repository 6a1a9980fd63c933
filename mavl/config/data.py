"""The section `data`: where images and labels come from, and how they are loaded; the files of a label store."""

import os
from typing import ClassVar, Literal

from pydantic import PositiveInt

from mavl.config.loader import Folder, Seed, Settings, Share, Size, Workers

SPLITS = ("train", "validate", "test")

LABELS = "landmark_observation_adj_mtx.npy"
"""int8 [studies, anatomies, findings], as in the release."""

MANIFESTS = {split: f"rad_graph_metric_{split}.json" for split in SPLITS}
"""Image -> row of its study in the labels, as in the release."""

VOCABULARY = "vocabulary.json"
"""Names of the findings and the anatomies; without it they are the 75 × 51 of the release."""

SENTENCES = "sentences.jsonl"
"""A line for each row of the labels: the JSON list of the sentences of its report."""

LIST_CACHE = "~/.cache/mavl/lists"
"""Folder of lists of images."""


class LoaderSettings(Settings):
    """What all data sources share.

    root: the folder of the images, or of small copies of them that `prepare_data.py store` made. batch_size: images a
    process. max_bad_share: missing or unreadable images tolerated. augment: "full" is the released recipe, "crop" its
    random crop and flip alone, "none" neither: as test images are. augment_on: whether the loader's workers compute
    the operations of "full", or the device for a whole batch. prefetch: batches that each worker is ahead. pin_memory:
    page-locked batches, which reach a GPU faster. cache: of pre-training, a folder for lists of images, as memory
    maps that the processes of a node share, and for size and time of checked images, which are not read again; null:
    none is kept.
    """

    root: str | None = None
    batch_size: Size = 124
    eval_batch_size: Size = 64
    workers: Workers = 8
    check_images: Literal["exists", "header", "decode"] = "header"
    max_bad_share: Share = 0.0
    min_crop: Share = 0.2
    augment: Literal["full", "crop", "none"] = "full"
    augment_on: Literal["loader", "device"] = "loader"
    prefetch: Size = 2
    pin_memory: bool = True
    cache: str | None = LIST_CACHE


class PretrainLoader(LoaderSettings):
    """Of pre-training. flips: whether a flipped image exchanges left and right in the anatomies of its labels ("swap"),
    leaves them ("plain"), or no image is flipped ("none"); by default "swap" of recipe sound, "plain" of released.
    """

    flips: Literal["swap", "plain", "none"] | None = None


class MimicData(PretrainLoader):
    """The released JSON and NPY files, or those of `prepare_data.py radgraph`.

    Paths in the released JSON start with `prefix`, which `root` replaces; in the other they are below `root`.
    """

    source: Literal["mimic"] = "mimic"
    train_file: str = f"data_file/{MANIFESTS['train']}"
    valid_file: str = f"data_file/{MANIFESTS['validate']}"
    label_file: str = f"data_file/{LABELS}"
    prefix: str = "/remote-home/share/medical/public/MIMIC-CXR-JPG/MIMIC-CXR/small"


class TableData(PretrainLoader):
    """Images with finding columns: a benchmark YAML with train and valid splits. Locations are then `unspecified`."""

    source: Literal["table"] = "table"
    benchmark: str


class ReportData(PretrainLoader):
    """The folder that `prepare_data.py reports` has written; its images are below `root`."""

    source: Literal["reports"] = "reports"
    labels: Folder

    prefix: ClassVar[str] = ""

    @property
    def train_file(self) -> str:
        return os.path.join(self.labels, MANIFESTS["train"])

    @property
    def valid_file(self) -> str:
        return os.path.join(self.labels, MANIFESTS["validate"])

    @property
    def label_file(self) -> str:
        return os.path.join(self.labels, LABELS)

    @property
    def sentences_file(self) -> str:
        return os.path.join(self.labels, SENTENCES)


class PhantomData(PretrainLoader):
    """Phantoms: `train` new ones every epoch, `valid` always the same. exclude: findings that none has."""

    source: Literal["phantom"] = "phantom"
    seed: Seed = 0
    train: PositiveInt = 2000
    valid: PositiveInt = 200
    exclude: tuple[str, ...] = ()
