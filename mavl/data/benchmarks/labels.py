"""The labels in a split file: in columns, in cells that list findings, in the image's path, or by its mask."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Sized
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field

from mavl.config.loader import Settings
from mavl.data import notice
from mavl.data.benchmarks.tables import Column, Table, fold
from mavl.progress import plural
from mavl.vocab import ABSENT, PRESENT, UNKNOWN, unknown_name

NO_FINDING = "no finding"
"""The text, in any case, of an image without a finding."""

LABEL_TEXTS = {
    "1": PRESENT,
    "0": ABSENT,
    **dict.fromkeys(("", "nan", "-1"), UNKNOWN),
}
"""Texts of a label by `fold`, and what they mean. CheXpert's labeller writes -1 for an uncertain mention."""


def _without_clash(meanings: dict) -> dict:
    seen: dict[str, str] = {}
    for text, meaning in meanings.items():
        if meanings[other := seen.setdefault(fold(text), text)] != meaning:
            raise ValueError(f"{other!r} and {text!r} are one text with two meanings: keep one of them")
    return meanings


Names = Annotated[dict[str, str | None], AfterValidator(_without_clash)]
"""The finding that a text stands for, None for one that is not among the benchmark's."""


def unknown_labels(rows: Sized, findings: Sequence[str]) -> np.ndarray:
    """int8 [n, C] of UNKNOWN."""
    return np.full((len(rows), len(findings)), UNKNOWN, dtype=np.int8)


Others = Literal["refuse", "ignore"]
"""What becomes of a text that stands for no finding by the benchmark's findings and names."""


class ColumnLabels(Settings):
    """One column a finding, by default that of its own name.

    values: labels of texts beyond 1, 0, and blank or -1 (unknown), or of these: {"-1.0": 1} counts CheXpert's uncertain
    mentions as present.
    """

    kind: Literal["columns"]
    columns: dict[str, Column] = Field(default_factory=dict)
    values: Annotated[dict[str, Literal[1, 0, -1]], AfterValidator(_without_clash)] = Field(default_factory=dict)

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Labels int8 [n, C] in {1, 0, -1}; unknown, with a problem, for other texts and columns that do not exist."""
        meaning = LABEL_TEXTS | {fold(text): label for text, label in self.values.items()}
        labels = unknown_labels(table, findings)
        for index, finding in enumerate(findings):
            column = self.columns.get(finding, finding)
            for row, text in enumerate(table.column(column)):
                if (label := meaning.get(fold(text))) is not None:
                    labels[row, index] = label
                    continue
                fix = "a label is 1, 0, or blank or -1 for unknown; say what other texts mean under labels.values"
                if re.search(r"\w\s*[|;]\s*\w", text):
                    fix = "labels of kind 'list' read a column that lists findings"
                table.report(row, "label_value", f"{finding} (column {column!r}) is {text!r}: {fix}")
        return labels


class ListLabels(Settings):
    """One column lists the findings of the image, as in ChestX-ray14's "Cardiomegaly|Emphysema"; others are absent.

    A blank cell is unknown, or with "" under names of none. names: the finding that a text stands for, where it is not
    the finding's name, or null for one that is not among the benchmark's; NO_FINDING needs none. others: null for every
    other text, too, unless another separator would find a finding in it. match: substring finds the texts anywhere in
    the cell, in any case; a finding for which `names` has texts is found by these alone.
    """

    kind: Literal["list"]
    column: Column
    separator: str = Field(default="|", min_length=1)
    names: Names = Field(default_factory=dict)
    others: Others = "refuse"
    match: Literal["whole", "substring"] = "whole"

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Labels int8 [n, C] in {1, 0, -1}; unknown, with a problem, for rows with other texts."""
        meaning = name_meanings(findings, self.names)
        if self.match == "substring":  # a finding whose texts are given is not sought by its own name
            given = {text.lower() for text in self.names}
            meaning = {text: of for text, of in meaning.items() if text in given or of not in self.names.values()}
        labels, ignored = unknown_labels(table, findings), Counter()
        for row, cell in enumerate(table.column(self.column)):
            if not cell or self.match == "substring":
                if cell or "" in meaning:
                    found = {meaning[text] for text in meaning if (text in cell.lower() if text else not cell)}
                    labels[row] = [PRESENT if finding in found else ABSENT for finding in findings]
                continue
            texts = [text.strip() for text in cell.split(self.separator) if text.strip()]
            unknown = [text for text in texts if text.lower() not in meaning]
            if unknown and self.others == "refuse":
                fix = "say under labels.names which finding it is, or null; or set labels.others to ignore"
                table.report(row, "label_value", f"{unknown_name('finding', unknown[0], findings)} {fix}")
            elif held := next((part for text in unknown for part in _parts(text) if part.lower() in meaning), None):
                text = f"{cell!r} holds the finding {held!r}: labels.separator is {self.separator!r}"
                table.report(row, "label_value", text)
            elif texts:
                ignored.update(unknown)
                found = {meaning.get(text.lower()) for text in texts}
                labels[row] = [PRESENT if finding in found else ABSENT for finding in findings]
        _note_ignored(table, ignored)
        return labels


class Readers(Settings):
    """Several readers of one image. column: the reader of a row. rule: which findings are present.

    any: that one reader names. majority: that more than half of the image's readers name. all: that each of them names.
    """

    column: Column
    rule: Literal["any", "majority", "all"]

    def agree(self, number: int, readers: int) -> bool:
        """Whether a finding that `number` of an image's readers name is present."""
        return {"any": number > 0, "majority": 2 * number > readers, "all": number == readers}[self.rule]


class RowLabels(Settings):
    """A row names one finding of its image, and findings that no row of the image names are absent.

    A blank cell says nothing, so that an image without another row is unknown, or with "" under names none. names,
    others: as of a list. readers: the rows are of several readers; without them all rows of an image count together.
    The regions of a finding that is absent by the rule are left out, of others all readers' are united.
    """

    kind: Literal["rows"]
    column: Column
    names: Names = Field(default_factory=dict)
    others: Others = "refuse"
    readers: Readers | None = None

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Labels int8 [n, C] in {1, 0, -1}, equal in all rows of an image; unknown, with a problem, for other texts."""
        meaning, ignored = name_meanings(findings, self.names), Counter()
        said: dict[str, dict[str, set[str | None]]] = defaultdict(dict)
        unknown: set[str] = set()
        readers = table.column(self.readers.column) if self.readers else [""] * len(table)
        for row, (image, text, reader) in enumerate(zip(names, table.column(self.column), readers, strict=False)):
            if text.lower() in meaning:
                said[image].setdefault(reader, set()).add(meaning[text.lower()])
            elif text and self.others == "ignore":
                said[image].setdefault(reader, set())
                ignored[text] += 1
            elif text:
                unknown.add(image)
                fix = "say under labels.names which finding it is, or null; or set labels.others to ignore"
                table.report(row, "label_value", f"{unknown_name('finding', text, findings)} {fix}")
            if self.readers and not reader:
                table.report(row, "bad_row", f"column {self.readers.column!r} names no reader")
        _note_ignored(table, ignored)
        of_image = {image: self._labels(said[image], findings) for image in said if image not in unknown}
        labels = unknown_labels(table, findings)
        for row, image in enumerate(names):
            labels[row] = of_image.get(image, UNKNOWN)
        return labels

    def _labels(self, said: Mapping[str, set[str | None]], findings: Sequence[str]) -> list[int]:
        """The labels of one image, of which each reader says a set of findings."""
        agree = (self.readers or Readers(column=0, rule="any")).agree
        named = Counter(finding for of_reader in said.values() for finding in of_reader)
        return [PRESENT if agree(named[finding], len(said)) else ABSENT for finding in findings]


def _note_ignored(table: Table, ignored: Counter[str]) -> None:
    """Say once which texts `others` ignores."""
    if ignored:
        examples = ", ".join(f"{text!r} ({number})" for text, number in ignored.most_common(3))
        texts = plural(len(ignored), "other text")
        notice(f"{table.file.name}: labels.others ignores {texts}: {examples}{', …' * (len(ignored) > 3)}")


def _parts(text: str) -> list[str]:
    """What other separators would find in a text."""
    return [part.strip() for part in re.split(r"[|;,/\t]", text)]


def name_meanings(findings: Sequence[str], names: Mapping[str, str | None]) -> dict[str, str | None]:
    """{text in small letters: finding, or None for one that the benchmark does not have}."""
    given = {text.lower(): finding for text, finding in names.items()}
    return {NO_FINDING: None} | {finding.lower(): finding for finding in findings} | given


class PathLabels(Settings):
    """The finding is present or absent by which of two substrings occurs in the image's path."""

    kind: Literal["path"]
    positive: str
    negative: str

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Labels int8 [n, 1] in {1, 0}; a path with neither or both of the substrings is a problem."""
        labels = unknown_labels(table, findings)
        for row, name in enumerate(names):
            positive, negative = self.positive in name, self.negative in name
            if positive == negative:
                number = "both" if positive else "neither"
                table.report(row, "bad_row", f"{name} holds {number} of {self.positive!r} and {self.negative!r}")
            labels[row] = PRESENT if positive else ABSENT
        return labels


class MaskLabels(Settings):
    """The finding is present where the image's mask is not empty; without a mask it is unknown."""

    kind: Literal["mask"]

    def read(self, table: Table, names: Sequence[str], findings: Sequence[str]) -> np.ndarray:
        """Unknown labels int8 [n, C]; `Split.labelled_by_masks` reads the masks."""
        return unknown_labels(table, findings)
