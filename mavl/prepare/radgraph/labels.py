"""The label file landmark_observation_adj_mtx.npy, int8 [studies, 51, F], and a table and a picture of its counts.

The F findings are the 75 of the vocabulary, or those that a caller gives.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from mavl.config.data import LABELS, SENTENCES, VOCABULARY
from mavl.data.processes import sole_writer
from mavl.files import csv_writer, whole_file
from mavl.progress import plural
from mavl.vocab import ABSENT, ANATOMIES, FINDINGS, PRESENT

SUMMARY, PROBLEMS, DRAFTS = "summary.json", "problems.csv", ".drafts"
COMPARISON, DISAGREEMENTS = "compare.csv", "disagreements.csv"
OF_SOME_RUNS = {VOCABULARY, SENTENCES, COMPARISON, DISAGREEMENTS}
"""Files of a label store that some commands write beside the others."""

SHAPE = (len(ANATOMIES), len(FINDINGS))
COUNTED = {"present": PRESENT, "absent": ABSENT}
COLOURS = {"present": "Reds", "absent": "Blues"}
BATCH = 128
"""Studies that a process labels at a time."""


class ForeignLabelsError(ValueError):
    """A label file that would be written over, and that no command of this project wrote."""


TORN = "group in several splits"
"""A kind of problem."""


class Problem(NamedTuple):
    """A row of problems.csv. where: the report, image or row of the fault."""

    kind: str
    where: str
    detail: str = ""


class Labelled(NamedTuple):
    """Some rows of the label file.

    matrices: int8 [rows, 51, F], 1 present, 0 absent, -1 unknown.
    studies: the study id of each row, "" where unknown.
    """

    matrices: np.ndarray
    studies: list[str]
    problems: list[Problem]


@contextmanager
def replaced_together(out: Path) -> Iterator[Path]:
    """A folder of drafts in `out`: at the end of the block its files replace those of `out`, unless the block fails.

    Files OF_SOME_RUNS that the block does not write are removed.

    One process at a time may write to `out`. ForeignLabelsError for labels that no command of this project wrote.
    """
    if (out / LABELS).exists() and not (out / SUMMARY).exists():  # it may be the released one, a long download
        raise ForeignLabelsError(f"{out / LABELS} was not written by this command; choose another --out, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        drafts = out / DRAFTS
        shutil.rmtree(drafts, ignore_errors=True)  # of a run that was killed
        drafts.mkdir()
        try:
            yield drafts
            written = {draft.name for draft in drafts.iterdir()}
            for name in OF_SOME_RUNS - written:  # they would describe the former labels
                (out / name).unlink(missing_ok=True)
            for name in written:
                (drafts / name).replace(out / name)
        finally:
            shutil.rmtree(drafts, ignore_errors=True)


def write_labels(
    file: IO[bytes], batches: Iterable[Labelled], problems: list[Problem], findings: int = len(FINDINGS)
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Write all batches, in order, as one NPY file, and add their problems to `problems`.

    Returns: the study id of each row, and {"present", "absent"}: int64 [51, F], the numbers of studies.
    """
    shape = (len(ANATOMIES), findings)
    studies, counts = [], {name: np.zeros(shape, dtype=np.int64) for name in COUNTED}
    _write_header(file, (0, *shape))
    for batch in batches:
        file.write(batch.matrices.tobytes())
        studies += batch.studies
        problems += batch.problems
        for name, label in COUNTED.items():
            counts[name] += (batch.matrices == label).sum(axis=0)
    file.seek(0)
    _write_header(file, (len(studies), *shape))
    return studies, counts


def checksum(file: Any) -> str:
    """SHA-256 of a whole binary file, in hexadecimal digits."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """NumPy pads the header to the same length for any number of rows."""
    layout = {"descr": "|i1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, layout)


def write_problems(out: Path, problems: Iterable[Problem]) -> None:
    """Write problems.csv to a folder."""
    with whole_file(out / PROBLEMS) as file:
        csv_writer(file).writerows([Problem._fields, *problems])


def write_statistics(
    out: Path, counts: Mapping[str, np.ndarray], studies: int, findings: Sequence[str] = FINDINGS
) -> None:
    """Write statistics.csv and statistics.png, with the counts of `write_labels`, to a folder."""
    write_table(counts, out / "statistics.csv", findings)
    draw_picture(counts, studies, out / "statistics.png", findings)


def write_table(counts: Mapping[str, np.ndarray], path: Path, findings: Sequence[str] = FINDINGS) -> None:
    """Write a CSV row for each finding and anatomy. counts: int [51, F] each."""
    numbers = [of_name.T.ravel().tolist() for of_name in counts.values()]
    names = product(findings, ANATOMIES)
    with whole_file(path) as file:
        rows = csv_writer(file)
        rows.writerow(["finding", "anatomy", *counts])
        rows.writerows([*name, *cells] for name, *cells in zip(names, *numbers, strict=True))


def draw_picture(
    counts: Mapping[str, np.ndarray], studies: int, path: Path, findings: Sequence[str] = FINDINGS
) -> None:
    """Draw two PNG heatmaps, findings × anatomies: studies with the finding present, and absent. Zero is blank."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(22, 16))
    figure.subplots_adjust(left=0.06, right=0.99, bottom=0.11, top=0.94, wspace=0.02)
    figure.suptitle(f"Findings by anatomy in the reports of {plural(studies, 'study')}", fontsize=17)
    for number, (name, of_name) in enumerate(counts.items()):
        axes = figure.add_subplot(1, 2, number + 1, title=f"{name}: {of_name.sum():,} labels")
        scale = LogNorm(1, max(10, int(of_name.max())))
        cells = np.ma.masked_less(of_name.T, 1)
        image = axes.imshow(cells, COLOURS[name], scale, aspect="auto", interpolation="none")
        axes.set_xticks(range(len(ANATOMIES)), ANATOMIES, rotation=90, fontsize=9)
        axes.set_yticks(range(len(findings)), findings if number == 0 else [], fontsize=9)
        axes.hlines(np.arange(0.5, len(findings)), -0.5, len(ANATOMIES) - 0.5, color="0.9", linewidth=0.5)
        axes.vlines(np.arange(0.5, len(ANATOMIES)), -0.5, len(FINDINGS) - 0.5, color="0.9", linewidth=0.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label="studies", shrink=0.5, pad=0.01)
    with whole_file(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)
