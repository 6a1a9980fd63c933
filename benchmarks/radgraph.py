"""`prepare_data.py radgraph` on synthetic reports: its time, and the peak memory of its processes together.

    python -m benchmarks.radgraph --reports 200000     two minutes on two cores; 2.2 GB of disk, removed at the end

Without --reports, as in `make bench`, it takes 2,000 and 8,000 reports, which would show memory that grows with them.
"""

import argparse
import csv
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
SMALL = (2_000, 8_000)
SENTENCES = 16  # of a report
OPENING = "FINAL REPORT EXAMINATION : CHEST ( PA AND LAT ) INDICATION : ___ year old with cough . COMPARISON : None ."
PLACES = (
    "right lower lobe|left lower lobe|left upper lobe|right middle lobe|heart|mediastinal contour|left hemidiaphragm|"
    "lungs|lung volumes|pleural space|right apex|left lung base|right hilum|aorta|svc|costophrenic angles|stomach|spine"
).split("|")
FINDINGS = (
    "opacities effusions pneumothorax edema atelectasis consolidation enlarged tube catheter scarring nodules clear "
    "normal fractures calcified thickening unremarkable haziness spur aspirations"
).split()
SIZES = "small moderate large mild new unchanged".split()
LABELS = ("OBS-DP", "OBS-DP", "OBS-DA", "OBS-U")
VIEWS = ("PA", "LATERAL", "AP", "LL")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=int, nargs="*", default=SMALL, help="how many, or several such numbers")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments or [])
    for reports in options.reports:
        with tempfile.TemporaryDirectory() as folder:
            print(f"  {measure(Path(folder), reports, options.workers)}")


def measure(folder: Path, reports: int, workers: int) -> str:
    write_graphs(folder / "graphs.json", reports)
    write_tables(folder, reports)
    command = [sys.executable, str(ROOT / "prepare_data.py"), "radgraph", "--graphs", str(folder / "graphs.json")]
    command += ["--root", str(folder), "--out", str(folder / "out"), "--workers", str(workers)]
    start = time.perf_counter()
    with open(folder / "log.txt", "w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        most = peak_memory(process)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise RuntimeError((folder / "log.txt").read_text(encoding="utf-8"))
    size = (folder / "graphs.json").stat().st_size
    return (
        f"{reports:,} reports ({size / 1e6:,.0f} MB), {workers} processes: {seconds:.1f} s, {reports / seconds:,.0f} "
        f"reports/s, at most {most / 2**20:,.0f} MB in memory"
    )


def peak_memory(process: subprocess.Popen) -> int:
    """The most resident bytes of the process and its children together; shared memory counts once per process."""
    most, parent = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [parent, *parent.children(recursive=True)]
            most = max(most, sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.05)
    return most


def write_graphs(path: Path, reports: int) -> None:
    """A file like RadGraph's MIMIC-CXR_graphs.json, with random sentences in each report."""
    draw = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(reports):
            patient, study = ids(number)
            key = f"p{patient // 1_000_000}/p{patient}/s{study}.txt"
            file.write(f"{', ' if number else '{'}{json.dumps(key)}: {json.dumps(graph(draw))}")
        file.write("}")


def write_tables(folder: Path, reports: int) -> None:
    """MIMIC-CXR-JPG's split and metadata CSV, with a frontal and a lateral image per study."""
    names = "split", "metadata"
    columns = ["dicom_id", "study_id", "subject_id", "split"], ["dicom_id", "subject_id", "study_id", "ViewPosition"]
    for name, header in zip(names, columns, strict=True):
        with gzip.open(folder / f"mimic-cxr-2.0.0-{name}.csv.gz", "wt", newline="", compresslevel=1) as file:
            rows = csv.DictWriter(file, header, extrasaction="ignore")
            rows.writeheader()
            rows.writerows(image_rows(reports))


def image_rows(reports: int) -> Iterator[dict]:
    for number in range(2 * reports):
        patient, study = ids(number // 2)
        split = "test" if study % 50 == 0 else "validate" if study % 50 == 1 else "train"
        row = {"dicom_id": f"{number:08x}-bde0afdd-112c0b34-7bc16630-4e384014", "subject_id": patient}
        yield row | {"study_id": study, "split": split, "ViewPosition": VIEWS[number % 4]}


def ids(number: int) -> tuple[int, int]:
    """Patient id and study id."""
    return 10_000_000 + number // 3, 50_000_000 + number


def graph(draw: random.Random) -> dict:
    tokens: list[str] = [*OPENING.split()]
    entities: dict[str, dict] = {}

    def name(words: str, label: str, *relations: tuple[str, str]) -> str:
        start = len(tokens)
        tokens.extend(words.split())
        key = str(len(entities) + 1)
        entities[key] = {"tokens": words, "label": label, "start_ix": start, "end_ix": len(tokens) - 1}
        entities[key]["relations"] = [list(relation) for relation in relations]
        return key

    for _ in range(SENTENCES):
        tokens.append("There")
        tokens.append("is")
        finding = str(len(entities) + 2)
        name(draw.choice(SIZES), "OBS-DP", ("modify", finding))
        located = draw.random() < 0.7
        *modifiers, root = draw.choice(PLACES).split()
        place = str(len(entities) + 2 + len(modifiers))
        name(draw.choice(FINDINGS), draw.choice(LABELS), *([("located_at", place)] if located else []))
        if located:
            for modifier in modifiers:
                name(modifier, "ANAT-DP", ("modify", place))
            name(root, "ANAT-DP")
        tokens.append(".")
    return {"text": " ".join(tokens), "entities": entities, "data_source": None, "data_split": "inference"}


if __name__ == "__main__":
    main(sys.argv[1:])
