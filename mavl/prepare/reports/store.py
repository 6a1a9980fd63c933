"""Mentions -> the label store that training reads: labels, manifests, vocabulary, sentences."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mavl.config.data import LABELS, MANIFESTS, SENTENCES
from mavl.data.labels import Vocabulary
from mavl.files import whole_file, write_text
from mavl.prepare.radgraph.labels import (
    Labelled,
    Problem,
    checksum,
    write_labels,
    write_statistics,
)
from mavl.prepare.radgraph.manifests import manifest_texts
from mavl.prepare.reports.protocol import Labeller, Mention
from mavl.prepare.reports.sections import Sections, read_sentences
from mavl.prepare.reports.sources import Study
from mavl.progress import progress_bar
from mavl.vocab import ABSENT, ANATOMIES, PRESENT, UNKNOWN


def label_matrix(mentions: Iterable[Mention], findings: Sequence[str]) -> np.ndarray:
    """The labels int8 [51, F] of a report, 1 present, 0 absent, -1 unknown.

    A finding is present at the anatomies where a mention says so, whatever others say. One that is uncertain and
    nowhere present is unknown; others are absent at the anatomies of their mentions.
    """
    matrix = np.full((len(ANATOMIES), len(findings)), UNKNOWN, dtype=np.int8)
    uncertain = set()
    for mention in mentions:
        column = findings.index(mention.finding)
        if mention.status == "uncertain":
            uncertain.add(column)
        else:
            row = ANATOMIES.index(mention.anatomy)
            matrix[row, column] = max(matrix[row, column], PRESENT if mention.status == "present" else ABSENT)
    for column in uncertain:
        if (matrix[:, column] != PRESENT).all():
            matrix[:, column] = UNKNOWN
    return matrix


def mentions_of(
    studies: Sequence[Study], labeller: Labeller, problems: list[Problem]
) -> tuple[list[Study], list[list[Mention]]]:
    """The studies that have labels, and the mentions of each; a study without labels becomes a problem."""
    labelled, found = [], []
    with progress_bar(total=len(studies), description=f"labelling by {labeller.name}", unit="report") as bar:
        for study, mentions in zip(studies, labeller.label([study.report for study in studies]), strict=True):
            bar.update()
            if isinstance(mentions, str):
                problems.append(
                    Problem("report without labels", study.report.where, f"{study.report.study}: {mentions}")
                )
            else:
                labelled.append(study)
                found.append(mentions)
    return labelled, found


def write_store(
    out: Path,
    studies: Sequence[Study],
    mentions: Iterable[list[Mention]],
    findings: Sequence[str],
    views: Sequence[str] | None,
    problems: list[Problem],
) -> dict[str, Any]:
    """Write labels, manifests, vocabulary, statistics to a folder; returns the numbers of its summary.

    views: of the images to list, None for all.
    """
    uncertain = Counter()

    def batches() -> Iterator[Labelled]:
        for study, found in zip(studies, mentions, strict=True):
            uncertain.update({mention.finding for mention in found if mention.status == "uncertain"})
            yield Labelled(label_matrix(found, findings)[None], [study.report.study], [])

    with whole_file(out / LABELS, "w+b") as file:
        _, counts = write_labels(file, batches(), problems, len(findings))
        sha256 = checksum(file)
    entries = (
        (image.path, image.split, image.view, row) for row, study in enumerate(studies) for image in study.images
    )
    texts, listed, left_out = manifest_texts(entries, views)
    for split, text in texts.items():
        write_text(out / MANIFESTS[split], text)
    Vocabulary(tuple(findings)).save(out)
    write_statistics(out, counts, len(studies), findings)
    return {
        "studies": len(studies),
        **{name: int(of_name.sum()) for name, of_name in counts.items()},
        "uncertain": uncertain.total(),
        "images": listed,
        "left_out_by_view": dict(left_out.most_common()),
        "sha256": sha256,
    }


def write_sentences(out: Path, studies: Sequence[Study], sections: Sections, problems: list[Problem]) -> None:
    """Write, for the study of each row, a line with the JSON list of the sentences that are read of it.

    A study without one becomes a problem.
    """
    with whole_file(out / SENTENCES) as file:
        for study in studies:
            sentences = read_sentences(study.report, sections)
            file.write(json.dumps(sentences, ensure_ascii=False) + "\n")
            if not sentences:
                detail = f"{study.report.study} has neither findings nor impression; it is unlabelled"
                problems.append(Problem("report without sentences", study.report.where, detail))
