"""Labels from reports: a matrix [anatomies, findings] of a study -> the targets of the losses (MedKLIP, ICCV 2023)."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from mavl.config.data import VOCABULARY
from mavl.files import NotJSONError, read_json, write_json
from mavl.vocab import ABSENT, ANATOMIES, FINDINGS, PRESENT, UNKNOWN, UNSPECIFIED, is_name, unknown_name

CANDIDATES = 8
CHECKSUM = "sha256"


def finding_labels(matrix: np.ndarray) -> np.ndarray:
    """matrix int8 [51, F] -> labels int8 [F]: 1 if any anatomy holds 1, else 0 if any holds 0, else -1."""
    present = (matrix == PRESENT).any(axis=0)
    absent = (matrix == ABSENT).any(axis=0)
    return np.where(present, PRESENT, np.where(absent, ABSENT, UNKNOWN)).astype(np.int8)


def draw_locations(matrix: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """matrix int8 [51, F] -> random candidate anatomies int64 [F, 8], the first the right one. No replacement.

    If the finding is present: one of the anatomies that hold 1, then 7 of those that do not (-1 when they run out).
    Otherwise 8 of those that do not, which the loss does not read.
    """
    held = matrix.T == PRESENT
    keys = generator.random(held.shape)
    order = np.argsort(np.where(held, 2 + keys, keys), axis=1)
    locations = order[:, :CANDIDATES]
    if len(matrix) < CANDIDATES:
        locations = np.pad(locations, ((0, 0), (0, CANDIDATES - len(matrix))))
    negatives = (~held).sum(axis=1, keepdims=True)
    locations = np.where(np.arange(CANDIDATES) < negatives, locations, -1)
    present = held.any(axis=1)
    true = np.argmax(np.where(held, keys, -1.0), axis=1)
    with_true = np.concatenate([true[:, None], locations[:, : CANDIDATES - 1]], axis=1)
    return np.where(present[:, None], with_true, locations)


def unlocated(labels: np.ndarray, anatomies: Sequence[str] = ANATOMIES) -> np.ndarray:
    """labels [F] without places -> matrix int8 [51, F] that holds them at `unspecified`."""
    matrix = np.full((len(anatomies), len(labels)), UNKNOWN, dtype=np.int8)
    matrix[anatomies.index(UNSPECIFIED)] = labels
    return matrix


@dataclass(frozen=True)
class Selection:
    """The part of a label matrix that a run trains on.

    columns: positions of its findings. rows: of its anatomies, None for all; what other anatomies hold is then added
    to `unspecified`, the present before the absent, so that no label is lost.
    """

    columns: tuple[int, ...]
    rows: tuple[int, ...] | None = None
    unspecified: int = 0

    @classmethod
    def of(cls, findings: Sequence[str], anatomies: Sequence[str], vocabulary: "Vocabulary") -> Self:
        """The selection by names; VocabularyError for those that the vocabulary of the labels does not hold."""
        for what, names, known in (
            ("finding", findings, vocabulary.findings),
            ("anatomy", anatomies, vocabulary.anatomies),
        ):
            if unknown := [unknown_name(what, name, known) for name in names if name not in known]:
                raise VocabularyError("; ".join(unknown))
        columns = tuple(vocabulary.findings.index(name) for name in findings)
        if tuple(anatomies) == vocabulary.anatomies:
            return cls(columns)
        rows = tuple(vocabulary.anatomies.index(name) for name in anatomies)
        return cls(columns, rows, anatomies.index(UNSPECIFIED))

    def __call__(self, matrix: np.ndarray) -> np.ndarray:
        """matrix int8 [anatomies, findings] of the vocabulary -> the selected one."""
        matrix = matrix[:, self.columns]
        if self.rows is None:
            return matrix
        matrix = np.where((matrix == PRESENT) | (matrix == ABSENT), matrix, np.int8(UNKNOWN))
        selected, others = matrix[list(self.rows)], np.delete(matrix, self.rows, axis=0)
        selected[self.unspecified] = np.vstack([others, selected[[self.unspecified]]]).max(axis=0)
        return selected


class VocabularyError(ValueError):
    """Findings or anatomies that labels do not have, or a vocabulary that is none."""


@dataclass(frozen=True)
class Vocabulary:
    """The names of the columns and of the rows of label matrices."""

    findings: tuple[str, ...] = FINDINGS
    anatomies: tuple[str, ...] = ANATOMIES

    @classmethod
    def beside(cls, label_file: Path) -> Self:
        """Of a label file: `vocabulary.json` beside it, {"findings": [names], "anatomies": [names]}; else the 75 × 51.

        VocabularyError for a file that holds anything else, and where its names are not those of its checksum.
        """
        path = label_file.with_name(VOCABULARY)
        if not path.exists():
            return cls()
        try:
            content = read_json(path)
            made = cls(*(tuple(content[key]) for key in ("findings", "anatomies")))
        except (NotJSONError, KeyError, TypeError) as error:
            raise VocabularyError(f"{path}: holds no lists of findings and anatomies ({error})") from error
        for names in (made.findings, made.anatomies):
            if not all(isinstance(name, str) and is_name(name) for name in names) or len(set(names)) < len(names):
                raise VocabularyError(f"{path}: findings and anatomies are lists of names, each once")
        if content.get(CHECKSUM, made.sha256) != made.sha256:
            raise VocabularyError(
                f"{path}: its names, or their order, are not those that the labels beside it were made with: copy it "
                f"again, or make the labels again; for names of your own in the same places take {CHECKSUM} out"
            )
        return made

    @property
    def sha256(self) -> str:
        """A checksum of the names in their order."""
        return hashlib.sha256(json.dumps([self.findings, self.anatomies]).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `vocabulary.json` into the folder of a label file."""
        write_json(folder / VOCABULARY, asdict(self) | {CHECKSUM: self.sha256})


class LabelStore:
    """`landmark_observation_adj_mtx.npy`, [studies, 51, 75], as a memory map: a row costs what it holds.

    The released file is float64, that of `prepare_data.py radgraph` int8. findings, anatomies: those wanted, by default
    all of its vocabulary. VocabularyError for names that it does not have, ValueError for a file of another shape.
    """

    def __init__(self, path: Path, findings: Sequence[str] | None = None, anatomies: Sequence[str] | None = None):
        self.path, self.findings, self.anatomies = path, findings, anatomies
        self.vocabulary = known = Vocabulary.beside(path)
        try:
            self.selection = Selection.of(findings or known.findings, anatomies or known.anatomies, known)
        except VocabularyError as error:
            raise VocabularyError(f"{path}: {error}") from error

    def __reduce__(self):  # workers open the file anew: a pickled memory map is a copy
        return LabelStore, (self.path, self.findings, self.anatomies)

    @cached_property
    def array(self) -> np.ndarray:
        expected = (len(self.vocabulary.anatomies), len(self.vocabulary.findings))
        try:
            array = np.lib.format.open_memmap(self.path, mode="r")
        except ValueError as error:
            raise ValueError(f"{self.path}: not an NPY file of numbers ({error})") from error
        if array.ndim != 3 or array.shape[1:] != expected:
            raise ValueError(f"{self.path}: shape {array.shape}, expected [studies, {expected[0]}, {expected[1]}]")
        return array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> np.ndarray:
        """matrix int8 [51, F] of one study."""
        return self.selection(np.asarray(self.array[row], dtype=np.int8))
