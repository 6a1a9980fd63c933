"""Data for fine-tuning: splits that share no patient, a drawn share of the training one, its labels by policy.

`draw_splits` serves every kind of fine-tuning; the rest of this module is classification's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from mavl.config.finetune import ClassificationData, FinetuneData, Policy
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.benchmarks.splits import Split
from mavl.data.benchmarks.tables import ColumnLabels
from mavl.data.images.read import ImageFile
from mavl.data.images.transforms import Transform
from mavl.data.subset import SamplingUnits, draw_share
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

SPLITS = ("test", "valid", "train")
"""From the one that keeps all its images to the one that gives up whom the others have."""

SEED_OF_TEST = 0
"""Of a test split that is drawn: runs of other seeds are tested on the same images."""

LABELS = {"present": PRESENT, "absent": ABSENT, "unknown": UNKNOWN}
COUNTED_AS: dict[Policy, int] = {"ignore": UNKNOWN, "zeros": ABSENT, "ones": PRESENT}
MEANING = {"ignore": "left out of the loss", "zeros": "counted as absent", "ones": "counted as present"}


class FinetuneDataError(ValueError):
    """Data that cannot be fine-tuned on; the message says why, and which setting helps."""


@dataclass(frozen=True)
class FinetuneSplits:
    """The splits train, valid and test of a run, and a line on each decision that made them."""

    splits: dict[str, Split]
    notes: list[str]


def draw_splits(splits: Mapping[str, Split], data: FinetuneData, seed: int, root: Path | None) -> FinetuneSplits:
    """Make train, valid and test of those that were read: no patient in two of them, and `data_pct` of train.

    A patient (or, where none are named, an image) of two splits stays in test rather than valid, in valid rather than
    train. A missing test is drawn from train by `test_share`, the same one for every seed; then a missing valid by
    `valid_share`. Drawings are those of mavl.data.subset; images without a patient go by their path under `root`.
    """
    if "train" not in splits:
        raise FinetuneDataError("no train split: fine-tuning needs one; add it to the benchmark")
    unit = "images" if splits["train"].groups is None else "patients"
    notes = [] if unit == "patients" else ["the benchmark names no patients: images are drawn one by one"]
    if "test" not in splits:
        train, test, told = _divide(splits["train"], data.test_share, SEED_OF_TEST, "test", root, unit)
        splits = {**splits, "train": train, "test": test}
        notes.append(f"no test split: {told} drawn for it, the same ones for every seed")
    kept: dict[str, Split] = {}
    for name in [name for name in SPLITS if name in splits]:
        kept[name] = _without_those_of(kept, splits[name], root, unit, notes)
    train = kept.pop("train")
    if "valid" not in kept:
        train, kept["valid"], told = _divide(train, data.valid_share, seed, "valid", root, unit)
        notes.append(f"no validation split: {told} drawn for it by seed {seed}")
    units = SamplingUnits.of(train.labels, unit_names(train, root))
    drawn = draw_share(units, data.data_pct, seed, "train")
    if data.data_pct < 1:
        notes.append(
            f"{100 * data.data_pct:g} % of train: {len(drawn)} of {len(units.names)} {unit} drawn by seed {seed}, "
            "stratified by label, at least one of each that there is"
        )
    train = _keep(train, units.images(drawn))
    for name, split in (("train", train), ("valid", kept["valid"]), ("test", kept["test"])):
        if not len(split):
            raise FinetuneDataError(f"the {name} split has no image left; the decisions: {'; '.join(notes)}")
    return FinetuneSplits({"train": train, "valid": kept["valid"], "test": kept["test"]}, notes)


def unit_names(split: Split, root: Path | None) -> list[str]:
    """What each image is drawn by: its patient, or its own path under the root."""
    if split.groups is not None:
        return list(map(str, split.groups))
    return [_relative(path, root) for path in split.paths]


def write_images(path: Path, splits: Mapping[str, Split], root: Path | None) -> None:
    """The images of a run as CSV: split, path under the root, row of the split file, patient, and the labels used."""
    tables = []
    for name, split in splits.items():
        paths = [_relative(path, root) for path in split.paths]
        table = pd.DataFrame({"split": name, "path": paths, "row": split.rows, "group": split.groups or ""})
        tables.append(pd.concat([table, pd.DataFrame(split.labels, columns=list(split.findings))], axis=1))
    pd.concat(tables).to_csv(path, index=False)


def counts(split: Split) -> dict:
    """{images, groups, findings: {finding: {present, absent, unknown}}} of a split."""
    per_label = {name: (split.labels == label).sum(axis=0) for name, label in LABELS.items()}
    findings = {
        finding: {name: int(count[column]) for name, count in per_label.items()}
        for column, finding in enumerate(split.findings)
    }
    groups = None if split.groups is None else len(set(split.groups))
    return {"images": len(split), "groups": groups, "findings": findings}


# Classification -------------------------------------------------------------------------------------------------------


class LabelledImages(Dataset):
    """dataset[epoch, index] -> {image uint8 [1, S, S], labels [C], index}, and maybe operations [2].

    As in pre-training, what is random about an item is drawn from (seed, epoch, index).
    """

    def __init__(self, split: Split, transform: Transform, equalize: bool, seed: int):
        self.paths, self.labels = split.paths, torch.from_numpy(split.labels)
        self.transform, self.equalize, self.seed = transform, equalize, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        image = ImageFile(self.paths[key[1]], equalize=self.equalize)
        item = self.transform.item(image, np.random.default_rng((self.seed, *key)))
        return item | {"labels": self.labels[key[1]], "index": key[1]}


def read_labelled(benchmark: Benchmark, data: ClassificationData, root: Path | None) -> dict[str, Split]:
    """The benchmark's splits with the findings to train."""
    splits = {name: read_split(benchmark, name, root) for name in benchmark.splits}
    return {name: split.select(data.findings or split.findings) for name, split in splits.items()}


def label_train(
    benchmark: Benchmark, data: ClassificationData, root: Path | None, train: Split
) -> tuple[Split, list[str]]:
    """The training images that were drawn, labelled by policy, and a line that says what it did, if anything.

    The other splits, drawn from train or not, keep what their file says: a guess is no ground truth.
    """
    labelled, said = apply_policies(train, _uncertain(benchmark, data, root, train), data)
    return labelled, [said] if said else []


def apply_policies(split: Split, uncertain: np.ndarray | None, data: ClassificationData) -> tuple[Split, str]:
    """The split with unknown labels counted as `data` says, and how many they were.

    uncertain [n, C]: which of the unknown labels were written as -1; None where both policies are one.
    """
    unknown = split.labels == UNKNOWN
    if not unknown.any():
        return split, ""
    kinds = {"blank or -1": (unknown, data.unlabelled)}
    if uncertain is not None:
        uncertain = uncertain & unknown
        kinds = {"blank": (unknown & ~uncertain, data.unlabelled), "-1": (uncertain, data.uncertain)}
    labels, said = split.labels.copy(), []
    for name, (where, policy) in kinds.items():
        labels[where] = COUNTED_AS[policy]
        share = f"{where.sum()} ({100 * where.mean():.1f} %)"
        said.append(f"{share} are {name}, {MEANING[policy]}")
    if any(policy != "ignore" for _, policy in kinds.values()):
        said.append("in validation and test they stay unknown")
    return replace(split, labels=labels), f"of {unknown.size} training labels {'; '.join(said)}"


def check_labels(splits: Mapping[str, Split], monitor: str, data_pct: float) -> list[str]:
    """A line for each split on the findings that it has one label of; FinetuneDataError where that is all of them.

    Without both labels nothing is learnt in train, and there is no best `valid_auroc` in valid.
    """
    more = "raise data.data_pct" if data_pct < 1 else "add images to it, or see data.findings, unlabelled and uncertain"
    fixes = {"train": more, "valid": "raise data.valid_share, or set train.monitor to valid_loss"}
    notes = []
    for name, split in splits.items():
        columns = zip(split.findings, split.labels.T, strict=True)
        lacking = [finding for finding, column in columns if not {PRESENT, ABSENT} <= set(column.tolist())]
        needed = name == "train" or (name == "valid" and monitor == "valid_auroc")
        if needed and len(lacking) == len(split.findings):
            raise FinetuneDataError(f"no finding has present and absent images in the {name} split; {fixes[name]}")
        if lacking:
            notes.append(f"without both labels in {name}: {', '.join(lacking)}")
    return notes


def _uncertain(benchmark: Benchmark, data: ClassificationData, root: Path | None, train: Split) -> np.ndarray | None:
    """Which labels of these images are written as -1, [n, C]; None where that changes nothing. Reads the file again."""
    differs = data.unlabelled != data.uncertain and isinstance(benchmark.labels, ColumnLabels)
    if not differs or not (train.labels == UNKNOWN).any():
        return None
    values = benchmark.labels.values | dict.fromkeys(("-1", "-1.0"), PRESENT)
    marked = benchmark.model_copy(update={"labels": benchmark.labels.model_copy(update={"values": values})})
    again = read_split(marked, "train", root).select(train.findings)
    position = {row: i for i, row in enumerate(again.rows)}
    return again.labels[[position[row] for row in train.rows]] != train.labels


def _without_those_of(kept: Mapping[str, Split], split: Split, root: Path | None, unit: str, notes: list[str]) -> Split:
    """The split without the units of those before it."""
    for other in kept.values():
        taken, names = set(unit_names(other, root)), unit_names(split, root)
        if shared := {i for i, name in enumerate(names) if name in taken}:
            patients = f" of {len({names[i] for i in shared})} patients" if unit == "patients" else ""
            notes.append(f"{split.name}: {len(shared)} images{patients} left out, which {other.name} has too")
            split = split.without(shared)
    return split


def _divide(train: Split, share: float, seed: int, name: str, root: Path | None, unit: str) -> tuple[Split, Split, str]:
    """What is left of train, the split of that name drawn from it, and how much that is."""
    units = SamplingUnits.of(train.labels, unit_names(train, root))
    drawn = draw_share(units, share, seed, name, spare=1)
    images = units.images(drawn)
    told = f"{len(images)} images of {len(drawn)} of {len(units.names)} training {unit}"
    return train.without(set(images.tolist())), replace(_keep(train, images), name=name), told


def _keep(split: Split, positions: Sequence[int]) -> Split:
    return split.without(set(range(len(split))) - set(np.asarray(positions).tolist()))


def _relative(path: Path, root: Path | None) -> str:
    return (path.relative_to(root) if root is not None and path.is_relative_to(root) else path).as_posix()
