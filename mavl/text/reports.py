"""Whole reports as vectors: the mean of their sentences' text vectors, computed once for a run."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from mavl.files import NotJSONError, parse_json, whole_file
from mavl.progress import note, plural
from mavl.text.protocol import TextEncoder

TOGETHER = 4096
"""Reports whose sentences are encoded together; equal ones among them once."""


class ReportsError(ValueError):
    """A file of sentences that cannot be used; the message names the line."""


class ReportVectors:
    """A file of text vectors, float32 [studies, T], as a memory map; NaN where a study has no sentence."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):  # workers open the file anew: a pickled memory map is a copy
        return ReportVectors, (self.path,)

    @cached_property
    def array(self) -> np.ndarray:
        return np.load(self.path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, study: int) -> np.ndarray:
        """The vector [T] of a study."""
        return np.array(self.array[study])


def encode_reports(file: Path, studies: int, encoder: TextEncoder, folder: Path, device: str = "cpu") -> ReportVectors:
    """The vectors of the reports in a file of sentences; from the folder if they were computed before.

    Args:
        file: as of `read_sentences`, a line for each of the `studies`. ReportsError where it has another number.
        folder: to keep the vectors in, under a hash of the file and the encoder.
    """
    with open(file, "rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    key = json.dumps([digest, encoder.fingerprint, encoder.tokenisation])
    path = folder / f"reports-{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    if not path.exists():
        reports = list(read_sentences(file))
        if len(reports) != studies:
            raise ReportsError(f"{file}: {plural(len(reports), 'line')}, but the label file has {studies} studies")
        vectors = np.concatenate([_means(part, encoder, device) for part in _parts(reports)])
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, "wb") as made:
            np.save(made, vectors)
        if empty := int(np.isnan(vectors[:, 0]).sum()):
            without = f"{empty} of {plural(studies, 'report')} without a sentence"
            note(f"note: {file}: {without}, with which no image is compared")
    return ReportVectors(path)


def read_sentences(file: Path) -> Iterator[list[str]]:
    """The sentences of each study of `sentences.jsonl`, a JSON list a line; ReportsError with the line otherwise."""
    with open(file, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                sentences = parse_json(line, f"{file}, line {number}")
            except NotJSONError as error:
                raise ReportsError(str(error)) from error
            if not isinstance(sentences, list) or not all(isinstance(each, str) for each in sentences):
                raise ReportsError(f"{file}, line {number}: not a list of sentences")
            if any("\ud800" <= letter <= "\udfff" for each in sentences for letter in each):
                raise ReportsError(f"{file}, line {number}: holds half a pair of surrogates, which no encoder reads")
            yield [each for each in sentences if each.strip()]


def _parts(reports: Sequence[list[str]]) -> Iterator[Sequence[list[str]]]:
    for start in range(0, len(reports), TOGETHER):
        yield reports[start : start + TOGETHER]


def _means(reports: Sequence[list[str]], encoder: TextEncoder, device: str) -> np.ndarray:
    """float32 [reports, T]."""
    sentences = [each for report in reports for each in report]
    vectors: Tensor = encoder.encode(sentences or [""], device)
    means, start = np.full((len(reports), vectors.shape[1]), np.nan, dtype=np.float32), 0
    for row, report in enumerate(reports):
        if report:
            means[row] = vectors[start : start + len(report)].mean(dim=0).numpy()
        start += len(report)
    return means
