"""Seconds and memory of a training's start with synthetic lists: everything between the settings and the first batch.

Each measured process is one of its own: `python -m benchmarks.lists STEP FOLDER` prints its figures as JSON.
"""

import json
import pickle
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from mavl.backbones.preprocessing import Preprocessing
from mavl.config.settings import PretrainSettings
from mavl.data import phantom
from mavl.data.labels import finding_labels
from mavl.data.pretraining import EpochBatches, PretrainingDataset, open_data
from mavl.data.samples import ListedSamples
from mavl.train.inputs import data_hashes
from mavl.vocab import ABSENT, ANATOMIES, FINDINGS, PRESENT, UNKNOWN

STUDIES, FILMS = 10, 100
"""Of the one patient whose folder all patients' folders are links to: a study has so many films."""
VALID_SHARE = 0.01
READ = 200
"""Images that a worker reads before its memory is measured."""


def write_lists(folder: Path, images: int) -> None:
    """A manifest of so many images, with MIMIC's form of paths, one of VALID_SHARE more, and files that exist."""
    patient, names = folder / "patient", []
    for study in range(STUDIES):
        (patient / f"s5{study:07d}").mkdir(parents=True)
        for film in range(FILMS):
            names.append(f"s5{study:07d}/{film:08x}-bde0afdd-112c0b34-7bc16630-4e384014.jpg")
            Image.fromarray(phantom.draw(0, film, 64).image).save(patient / names[-1])
    valid = int(images * VALID_SHARE)
    patients = -(-images // len(names)) + -(-valid // len(names))
    for number in range(patients):
        link = folder / "files" / f"p{10 + number % 10}" / f"p1{number:07d}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(patient)
    matrices = np.full((2, len(ANATOMIES), len(FINDINGS)), UNKNOWN, np.int8)
    matrices[0, 0], matrices[1, 0] = PRESENT, ABSENT
    np.save(folder / "labels.npy", matrices)
    for name, first, number in (("train", 0, images), ("valid", -(-images // len(names)), valid)):
        with open(folder / f"{name}.json", "w") as file:
            file.write("{")
            for image in range(number):
                at, film = divmod(image, len(names))
                path = f"files/p{10 + (first + at) % 10}/p1{first + at:07d}/{names[film]}"
                file.write(f'{", " * (image > 0)}"{path}": {{"labels_id": {image % 2}, "view": "PA"}}')
            file.write("}")


def settings_of(folder: Path) -> PretrainSettings:
    """All file checks but that of the headers, which depends on the files."""
    files = {f"{name}_file": str(folder / f"{name}.json") for name in ("train", "valid")}
    labels, cache = str(folder / "labels.npy"), str(folder / "cache")
    data = {"source": "mimic", "root": str(folder), **files, "label_file": labels, "prefix": "", "cache": cache}
    return PretrainSettings.model_validate({"data": data | {"check_images": "exists", "workers": 2}})


def start(folder: Path) -> dict[str, float]:
    """What a training process does with its lists before the first batch.

    Returns: seconds of a core for each part; bytes of memory that it keeps for itself; most bytes that it has had.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        seconds[name] = time.process_time() - began

    settings, before = settings_of(folder), own_memory()
    with timed("lists and file checks"):
        data = open_data(settings, Preprocessing(), progress=False)
    with timed("hashes"):
        splits = {"train": data.train.samples, "valid": data.valid.samples}
        data_hashes(
            settings.data, {name: each.images for name, each in splits.items() if isinstance(each, ListedSamples)}
        )
    with timed("order of an epoch"):
        next(iter(EpochBatches(len(data.train), 124, 0, 0, 8, 1)))
    (folder / "dataset").write_bytes(pickle.dumps(data.train))
    return seconds | {"memory": own_memory() - before, "most memory": most_memory()}


def worker(folder: Path) -> dict[str, float]:
    """Memory that a loader worker has for its dataset, after it read some images."""
    before = own_memory()
    dataset: PretrainingDataset = pickle.loads((folder / "dataset").read_bytes())
    for index in random.Random(0).sample(range(len(dataset)), READ):
        finding_labels(dataset.samples[0, index][1])
    return {"memory": own_memory() - before}


def own_memory() -> int:
    """Bytes of this process that no file backs, so that no other process shares them."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("smaps_rollup has no line Anonymous")


def most_memory() -> int:
    """Most bytes that this process has had, mapped files included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("status has no line VmHWM")


STEPS: dict[str, Callable[[Path], dict[str, float]]] = {"start": start, "worker": worker}


def measure(images: int) -> dict[str, dict[str, float]]:
    """{"first start", "next start", "worker"} of a list of so many images -> {figure: value}."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lists(folder, images)
        first, again = (_in_process("start", folder) for _ in range(2))
        files = [path.stat().st_size for path in (folder / "cache").rglob("*")]
        first["bytes on disk"] = sum(files)
        return {"first start": first, "next start": again, "worker": _in_process("worker", folder)}


def table(starts: dict[int, dict[str, dict[str, float]]]) -> Iterator[str]:
    """Lines of Markdown on `measure` of each number of images."""
    figures = [(title, figure) for title, of_step in next(iter(starts.values())).items() for figure in of_step]
    yield "|  | " + " | ".join(f"{number:,} images" for number in starts) + " |"
    yield "| --- |" + " ---: |" * len(starts)
    for title, figure in figures:
        values = [of_images[title][figure] for of_images in starts.values()]
        cells = [f"{x / 1e6:,.0f} MB" if "memory" in figure or "bytes" in figure else f"{x:,.1f} s" for x in values]
        yield f"| {title}: {figure} | " + " | ".join(cells) + " |"


def _in_process(step: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.lists", step, str(folder)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(arguments: Sequence[str]) -> None:
    step, folder = arguments
    print(json.dumps(STEPS[step](Path(folder))))


if __name__ == "__main__":
    main(sys.argv[1:])
