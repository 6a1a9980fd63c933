"""Data for fine-tuning: splits that share no patient, a share of the training split, its labels by policy."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from mavl.config.finetune import ClassificationData, FinetuneData, Policy
from mavl.data import DataError
from mavl.data.benchmarks.benchmark import Benchmark, read_split
from mavl.data.benchmarks.labels import ColumnLabels
from mavl.data.benchmarks.splits import Split
from mavl.data.benchmarks.tables import normal_path, under_root
from mavl.data.images.read import ImageFile
from mavl.data.images.transforms import Transform
from mavl.data.lists import Texts
from mavl.files import csv_cell, write_text
from mavl.progress import plural
from mavl.vocab import ABSENT, PRESENT, UNKNOWN

SEED_OF_TEST = 0
"""Chooses a missing test split, so that runs of all seeds are tested on the same images."""

LABELS = {"present": PRESENT, "absent": ABSENT, "unknown": UNKNOWN}
POLICIES: dict[Policy, tuple[int, str]] = {
    "ignore": (UNKNOWN, "left out of the loss"),
    "zeros": (ABSENT, "counted as absent"),
    "ones": (PRESENT, "counted as present"),
}


def draw_splits(
    splits: Mapping[str, Split], data: FinetuneData, seed: int, root: Path | None
) -> tuple[dict[str, Split], list[str]]:
    """Train, valid and test of the splits that were read, and a line on each decision. `data_pct` of train is kept.

    A patient (or, if none are named, an image, by its path under `root`) of two splits stays in test rather than valid,
    in valid rather than train. A missing test is chosen from train by `test_share`, the same one for every seed; then a
    missing valid by `valid_share`.
    """
    splits = dict(splits)
    if "train" not in splits:
        raise DataError("no train split: fine-tuning needs one; add it to the benchmark")
    unit = "images" if splits["train"].groups is None else "patients"
    notes = [] if unit == "patients" else ["the benchmark names no patients: images are drawn one by one"]
    if "test" not in splits:
        said = _divide(splits, "test", data.test_share, SEED_OF_TEST, root)
        notes.append(f"no test split: {said} training {unit} drawn for it, the same ones for every seed")
    before: list[Split] = []
    for name in [name for name in ("test", "valid", "train") if name in splits]:
        splits[name], shared = without_shared(splits[name], before, root)
        notes += shared
        before.append(splits[name])
    if "valid" not in splits:
        said = _divide(splits, "valid", data.valid_share, seed, root)
        notes.append(f"no validation split: {said} training {unit} drawn for it by seed {seed}")
    names = unit_names(splits["train"], root)
    drawn = draw_share(splits["train"].labels, names, data.data_pct, seed, "train")
    splits["train"] = splits["train"].take(drawn)
    if data.data_pct < 1:
        number = f"{len({names[i] for i in drawn})} of {len(set(names))} {unit}"
        how = f"drawn by seed {seed}, stratified by label, at least one of each that there is"
        notes.append(f"{100 * data.data_pct:g} % of train: {number} {how}")
    splits = {name: splits[name] for name in ("train", "valid", "test")}
    if empty := [name for name, split in splits.items() if not len(split)]:
        raise DataError(f"the {empty[0]} split has no image left; the decisions: {'; '.join(notes)}")
    return splits, notes


def without_shared(split: Split, others: Sequence[Split], root: Path | None) -> tuple[Split, list[str]]:
    """The split without the images that others have, too, or whose patients they have; a line for each of the others.

    Images are compared by their paths under `root`.
    """
    notes = []
    for other in others:
        patients, images = set(unit_names(other, root)), {_relative(path, root) for path in other.paths}
        names = unit_names(split, root)
        pairs = enumerate(zip(names, split.paths, strict=True))
        if shared := {i for i, (name, path) in pairs if name in patients or _relative(path, root) in images}:
            of = f" of {plural(len({names[i] for i in shared}), 'patient')}" if split.groups is not None else ""
            notes.append(f"{split.name}: {plural(len(shared), 'image')}{of} left out, which {other.name} has too")
            split = split.without(shared)
    return split, notes


def _divide(splits: dict[str, Split], name: str, share: float, seed: int, root: Path | None) -> str:
    """Move a share of the train split into a new split, and say how much it is."""
    train = splits["train"]
    names = unit_names(train, root)
    drawn = draw_share(train.labels, names, share, seed, name, spare=1)
    splits["train"], splits[name] = train.without(set(drawn)), replace(train.take(drawn), name=name)
    return f"{plural(len(drawn), 'image')} of {len({names[i] for i in drawn})} of {len(set(names))}"


def draw_share(
    labels: np.ndarray, names: Sequence[str], share: float, seed: int, purpose: str, spare: int = 0
) -> list[int]:
    """Positions of the images of a share of the patients, rising, stratified by label.

    A hash of seed, purpose and name orders the patients, so that neither the order of the rows matters nor the version
    of a random generator.

    The findings take turns, the rarest first: each wants its share of the patients who have it, rounded, but at least
    one, and adds what those chosen for rarer ones do not hold. Then the patients without any finding give their share
    in the same way. A share of 1 is all of them.

    Args:
        labels: [n, C] in {1, 0, -1}; a patient has a finding that one of the patient's images has.
        names: [n], of each image's patient, or of the image itself, where patients are not known.
        purpose: different purposes choose differently.
        spare: number of patients that a turn leaves to others.
    """
    if share == 1:
        return list(range(len(names)))
    positive = pd.DataFrame(labels == PRESENT).groupby(np.array(names)).any()
    hashes = {name: hashlib.sha256(f"{seed}\n{purpose}\n{name}".encode()).digest() for name in positive.index}
    positive = positive.loc[sorted(hashes, key=hashes.__getitem__)]
    rarest_first = np.argsort(positive.sum().to_numpy(), kind="stable")
    chosen = np.zeros(len(positive), dtype=bool)
    for has in [*positive.to_numpy().T[rarest_first], ~positive.to_numpy().any(axis=1)]:
        number = int(has.sum())
        wanted = min(max(1, round(share * number)), number - spare) - int((has & chosen).sum())
        chosen[np.flatnonzero(has & ~chosen)[: max(0, wanted)]] = True
    return np.flatnonzero(np.isin(np.array(names), positive.index[chosen])).tolist()


def unit_names(split: Split, root: Path | None) -> list[str]:
    """The patient of each image, or its own path under the root."""
    if split.groups is not None:
        return list(map(str, split.groups))
    return [_relative(path, root) for path in split.paths]


def write_images(path: Path, splits: Mapping[str, Split], root: Path | None) -> None:
    """The images of a run as CSV: split, path under the root, row of the split file, patient, and the labels used."""
    tables = []
    for name, split in splits.items():
        paths = [_relative(path, root) for path in split.paths]
        columns = {"split": name, "path": paths, "row": split.rows, "group": split.groups or ""}
        tables.append(pd.DataFrame(columns | dict(zip(split.findings, split.labels.T, strict=True))))
    write_text(path, pd.concat(tables).rename(columns=csv_cell).map(csv_cell).to_csv(index=False))


def counts(split: Split) -> dict:
    """{images, groups, findings: {finding: {present, absent, unknown}}} of a split."""
    findings = {
        finding: {name: int((labels == label).sum()) for name, label in LABELS.items()}
        for finding, labels in zip(split.findings, split.labels.T, strict=True)
    }
    groups = None if split.groups is None else len(set(split.groups))
    return {"images": len(split), "groups": groups, "findings": findings}


class LabelledImages(Dataset):
    """dataset[epoch, index] -> {image uint8 [1, S, S], labels [C], index}, and maybe operations [2]; seeded by all."""

    def __init__(self, split: Split, transform: Transform, equalize: bool, seed: int):
        self.paths: Sequence[str | Path] = split.paths
        self.labels = torch.from_numpy(split.labels)
        self.transform, self.equalize, self.seed = transform, equalize, seed

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        image = ImageFile(self.paths[key[1]], equalize=self.equalize)
        item = self.transform.item(image, np.random.default_rng((self.seed, *key)))
        return item | {"labels": self.labels[key[1]], "index": key[1]}

    def __getstate__(self) -> dict:
        """A worker's copy: the paths in one array, with less than half of the memory."""
        return self.__dict__ | {"paths": Texts.pack(map(str, self.paths))}


def read_labelled(benchmark: Benchmark, data: ClassificationData, root: Path | None) -> dict[str, Split]:
    """The benchmark's splits with the findings to train."""
    splits = {name: read_split(benchmark, name, root) for name in benchmark.splits}
    return {name: split.select(data.findings or split.findings) for name, split in splits.items()}


def label_train(
    benchmark: Benchmark, data: ClassificationData, root: Path | None, train: Split
) -> tuple[Split, list[str]]:
    """The training images with unknown labels counted as `data` says, and a line that says how many, if any.

    The other splits keep what their file says: a guess is no ground truth.
    """
    unknown = train.labels == UNKNOWN
    if not unknown.any():
        return train, []
    kinds: dict[str, tuple[np.ndarray, Policy]] = {"blank or -1": (unknown, data.unlabelled)}
    if data.unlabelled != data.uncertain and isinstance(benchmark.labels, ColumnLabels):
        uncertain = unknown & _is_uncertain(benchmark, benchmark.labels, root, train)
        kinds = {"blank": (unknown & ~uncertain, data.unlabelled), "-1": (uncertain, data.uncertain)}
    labels, said = train.labels.copy(), []
    for name, (where, policy) in kinds.items():
        labels[where], meaning = POLICIES[policy]
        said.append(f"{where.sum()} ({100 * where.mean():.1f} %) are {name}, {meaning}")
    if any(policy != "ignore" for _, policy in kinds.values()):
        said.append("in validation and test they stay unknown")
    return replace(train, labels=labels), [f"of {unknown.size} training labels {'; '.join(said)}"]


def _is_uncertain(benchmark: Benchmark, labels: ColumnLabels, root: Path | None, train: Split) -> np.ndarray:
    """Which labels of these images are written as -1, bool [n, C]. Reads the file again."""
    values = labels.values | {"-1": PRESENT}
    marked = benchmark.model_copy(update={"labels": labels.model_copy(update={"values": values})})
    again = read_split(marked, "train", root).select(train.findings)
    position = {row: i for i, row in enumerate(again.rows)}
    return again.labels[[position[row] for row in train.rows]] != train.labels


def check_labels(splits: Mapping[str, Split], monitor: str, data_pct: float) -> list[str]:
    """A line for each split on the findings without both labels; DataError if train, or a monitored valid, has none."""
    more = "raise data.data_pct" if data_pct < 1 else "add images to it, or see data.findings, unlabelled and uncertain"
    fixes = {"train": more, "valid": "raise data.valid_share, or set train.monitor to valid_loss"}
    notes = []
    for name, split in splits.items():
        columns = zip(split.findings, split.labels.T, strict=True)
        lacking = [finding for finding, column in columns if not {PRESENT, ABSENT} <= set(column.tolist())]
        needed = name == "train" or (name == "valid" and monitor == "valid_auroc")
        if needed and len(lacking) == len(split.findings):
            raise DataError(f"no finding has present and absent images in the {name} split; {fixes[name]}")
        if lacking:
            notes.append(f"without both labels in {name}: {', '.join(lacking)}")
    return notes


def _relative(path: Path, root: Path | None) -> str:
    name = path.relative_to(root) if root is not None and path.is_relative_to(root) else path
    return under_root(normal_path(name.as_posix()), root)
