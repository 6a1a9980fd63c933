"""Benchmarks of the project by name, and small ones made on the spot."""

from pathlib import Path

import numpy as np
import pytest

from mavl.config.loader import load
from mavl.data.benchmarks.benchmark import Benchmark, BenchmarkError, read_split

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "benchmarks"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def released(name: str) -> Benchmark:
    return load(Benchmark, CONFIGS / f"{name}.yaml")


def benchmark(**settings) -> Benchmark:
    plain = {
        "name": "t",
        "title": "t",
        "findings": ["edema"],
        "splits": {"test": "test.csv"},
        "labels": {"kind": "columns"},
    }
    return Benchmark.model_validate(plain | settings)


def split_of(folder: Path, text: str, **settings):
    (folder / "test.csv").write_text(text)
    return read_split(benchmark(**settings), "test", folder)


def problems_of(folder: Path, text: str, **settings) -> list[str]:
    with pytest.raises(BenchmarkError) as caught:
        split_of(folder, text, **settings)
    return list(map(str, caught.value.problems))


def positives(split) -> dict[str, int]:
    """{finding: how many images of the split have it}"""
    return dict(zip(split.findings, (split.labels == 1).sum(axis=0).tolist(), strict=True))


def covered(split, image: int, finding: str | None = None) -> tuple[int, ...]:
    """(pixels, first row, first column, last row, last column) of a mask."""
    rows, columns = np.nonzero(split.mask(image, finding))
    return tuple(map(int, (len(rows), rows.min(), columns.min(), rows.max(), columns.max())))


def present(split) -> list[list[str]]:
    """The findings that are present in each image."""
    return [[name for name, label in zip(split.findings, row, strict=True) if label == 1] for row in split.labels]


def names(split, root: Path) -> list[str]:
    """The paths of the images below a root."""
    return [path.relative_to(root).as_posix() for path in split.paths]


def refused(name: str, root: Path) -> list[str]:
    """The problems for which a released benchmark's test split is refused."""
    with pytest.raises(BenchmarkError) as caught:
        read_split(released(name), "test", root)
    return list(map(str, caught.value.problems))
