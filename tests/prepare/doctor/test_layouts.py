"""Doctor on a small copy of every data set of docs/data.md, as it is downloaded, with heads of the real lists."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mavl.config.loader import dump, load
from mavl.data import phantom
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.prepare.doctor.exam import examine
from mavl.prepare.doctor.plan import read_plan
from mavl.vocab import ANATOMIES, FINDINGS
from tests.support.dicom_files import write_dicom

ROOT = Path(__file__).resolve().parents[3]
ROWS = 9
SIZE = 96
RSNA_FOLDER = "mdai_rsna_project_x9N20BZa_images_2018-07-20-153330"


class Films:
    """Writes films, each another phantom, at the given paths."""

    def __init__(self):
        self.drawn = 0

    def __call__(self, path: Path, deep: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = phantom.draw(9, self.drawn, SIZE).image
        self.drawn += 1
        if path.suffix == ".dcm":
            write_dicom(path, pixels)
        else:
            Image.fromarray(pixels.astype(np.uint16) * 200 if deep else pixels).save(path)


@pytest.fixture
def plant(shared, tmp_path):
    """plant(name, {split: released file}) -> (root, rows by split): the first of each list, at its released place."""

    def place(name: str, files: dict[str, str]) -> tuple[Path, dict[str, list[str]]]:
        benchmark, rows = load(Benchmark, ROOT / f"configs/benchmarks/{name}.yaml"), {}
        for split, file in files.items():
            lines = shared(f"data/csv/{file}").read_text().splitlines()
            target = tmp_path / benchmark.splits[split]
            target.parent.mkdir(parents=True, exist_ok=True)
            header = int(benchmark.table.header)
            target.write_text("\n".join(lines[: ROWS + header]) + "\n")
            rows[split] = lines[header : ROWS + header]
        return tmp_path, rows

    return place


def diagnose(root: Path, name: str, splits: list[str], **changed) -> dict[str, int]:
    """How many faults of each kind doctor finds in these splits of a benchmark of the project."""
    benchmark = load(Benchmark, ROOT / f"configs/benchmarks/{name}.yaml")
    benchmark = benchmark.model_copy(update={"splits": {split: benchmark.splits[split] for split in splits}} | changed)
    dump(benchmark, root / "benchmark.yaml")
    diagnosis = examine(read_plan(root / "benchmark.yaml", root), name, 2, None, True)
    assert diagnosis.examined["images named"] == diagnosis.examined["decoded"]
    return {kind: len(items) for kind, items in diagnosis.found.items()}


def images(rows: dict[str, list[str]], name: Callable[[list[str]], str], separator: str = ",") -> list[str]:
    return [name(row.split(separator)) for lines in rows.values() for row in lines]


@pytest.mark.parametrize("name", ["chexpert5", "chexpert14"])
def test_chexpert(plant, name):
    root, rows = plant(name, {"test": "chexpertv1__filter_test_labels.csv", "valid": "chexpertv1__valid.csv"})
    film = Films()
    for path in images(rows, lambda cells: cells[0]):
        film(root / path)
    laterals = sum("lateral" in row for row in rows["valid"])
    assert laterals > 0
    assert diagnose(root, name, ["test", "valid"]) == {"lateral": laterals}


def test_chestxray14(plant):
    root, rows = plant("chestxray14", {"test": "xray14__official_test.csv", "valid": "xray14__official_valid.csv"})
    film = Films()
    for path in images(rows, lambda cells: cells[0].removeprefix("/DATA/Chestxray/ChestXray8/")):
        assert path.startswith("images_001/images/")
        film(root / path)
    assert diagnose(root, "chestxray14", ["test", "valid"]) == {}
    (root / path).unlink()
    missing = examine(read_plan(root / "benchmark.yaml", root), "chestxray14", 2, None, False).found
    assert {kind: len(items) for kind, items in missing.items()} == {"missing_image": 1}


def test_chestxray14_with_the_official_list_of_boxes(tmp_path):
    """Its heading holds commas, and its boxes are in pixels of the 1024 x 1024 originals."""
    heading = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    rows = [
        "00013118_008.png,Atelectasis,225.08,547.01,86.77,79.18,,,",
        "00014716_007.png,Mass,686.1,131.5,85.4,33.4,,,",
    ]
    (tmp_path / "BBox_List_2017.csv").write_text(heading + "\n".join(rows))
    film = Films()
    film(tmp_path / "images_007/images/00013118_008.png")
    film(tmp_path / "images_008/images/00014716_007.png")
    assert diagnose(tmp_path, "chestxray14_boxes", ["test"]) == {}


@pytest.mark.parametrize("name", ["padchest_seen", "padchest_rare", "padchest_unseen"])
def test_padchest(tmp_path, name):
    benchmark = load(Benchmark, ROOT / f"configs/benchmarks/{name}.yaml")
    columns = ["pleural effusion" if finding == "effusion" else finding for finding in benchmark.findings]
    film, rows = Films(), [",".join(["", *columns])]
    for index in range(5):
        film(tmp_path / f"{index}_a.png", deep=True)
        rows.append(",".join([f"{index}_a.png", *[str((index + column) % 2) for column in range(len(columns))]]))
    (tmp_path / "test.csv").write_text("\n".join(rows))
    assert diagnose(tmp_path, name, ["test"]) == {}  # 16 bits are as usual there


def test_rsna(plant):
    root, rows = plant("rsna", {"test": "rsna__test.csv", "valid": "rsna__val.csv"})
    film = Films()
    for path in images(rows, lambda cells: cells[1]):
        assert path.startswith(RSNA_FOLDER)
        film(root / path)
    assert diagnose(root, "rsna", ["test", "valid"]) == {}


@pytest.mark.parametrize("name", ["siim_acr", "siim_acr_files"])
def test_siim_acr(plant, name):
    root, rows = plant(name, {"test": "siimacr__test.csv", "valid": "siimacr__val.csv"})
    film = Films()
    (root / "processed_masks").mkdir()
    for study in images(rows, lambda cells: cells[0]):
        film(root / f"processed_images/{study}.png")
        Image.new("L", (SIZE, SIZE)).save(root / f"processed_masks/{study}.png")
    assert diagnose(root, name, ["test", "valid"]) == {}


def test_covidx_cxr2(plant):
    root, rows = plant("covidx_cxr2", {"test": "covidx-cxr2__test_split.csv", "valid": "covidx-cxr2__val_split.csv"})
    film = Films()
    for file in images(rows, lambda cells: cells[1], " "):
        film(root / "train" / file)
    assert diagnose(root, "covidx_cxr2", ["test", "valid"]) == {}


def test_covid_rural(plant):
    root, rows = plant("covid_rural", {"test": "covid_rural__test.csv", "train": "covid_rural__train.csv"})
    film = Films()
    (root / "pngs_masks").mkdir()
    patients = {split: {row.rpartition("_")[0] for row in lines} for split, lines in rows.items()}
    for row in images(rows, lambda cells: cells[0]):
        film(root / f"jpgs/{row}.jpg")
        mask = Image.new("L", (SIZE, SIZE))
        mask.paste(255, (0, 0, SIZE // 2, SIZE))
        mask.save(root / f"pngs_masks/{row}.png")
    shared = len(patients["test"] & patients["train"])
    assert diagnose(root, "covid_rural", ["test", "train"]) == ({"shared_patient": shared} if shared else {})


def test_mura(tmp_path):
    film, lists = Films(), {"train": [], "valid": []}
    for part, patients in {"train": range(1, 6), "valid": range(11185, 11188)}.items():
        for patient in patients:
            said = "positive" if patient % 2 else "negative"
            lists[part].append(f"MURA-v1.1/{part}/XR_WRIST/patient{patient:05}/study1_{said}/image1.png")
            film(tmp_path / lists[part][-1])
        (tmp_path / f"MURA-v1.1/{part}_image_paths.csv").write_text("\n".join(lists[part]) + "\n")
    assert diagnose(tmp_path, "mura", ["test", "train"]) == {}


def test_lera(tmp_path):
    film = Films()
    for study in ("1000001", "1000002"):
        for image in (1, 2):
            film(tmp_path / f"{study}/ST-1/{image}.png")
    (tmp_path / "labels.csv").write_text("1000001,XR KNEE,0\n1000002,XR FOOT,1\n")
    assert diagnose(tmp_path, "lera", ["test"]) == {}
    (tmp_path / "labels.csv").write_text("1000001,XR KNEE,0\n1000009,XR FOOT,1\n")
    assert diagnose(tmp_path, "lera", ["test"]) == {"missing_image": 1}


def test_mimic_with_the_released_labels(tmp_path, monkeypatch):
    """configs/MAVL_resnet.yaml as it is, in a project folder with the released files and <MIMIC-CXR-JPG>/files."""
    (tmp_path / "data_file").mkdir()
    (tmp_path / "concept_gen").symlink_to(ROOT / "concept_gen")
    labels = np.zeros((4, len(ANATOMIES), len(FINDINGS)))  # as released: float64
    labels[::2] = 1
    np.save(tmp_path / "data_file/landmark_observation_adj_mtx.npy", labels)
    author = "/remote-home/share/medical/public/MIMIC-CXR-JPG/MIMIC-CXR/small"
    film, study = Films(), 0
    for split, number in (("train", 3), ("validate", 1)):
        entries = {}
        for _ in range(number):
            path = f"p10/p1000003{study}/s5000000{study}/image{study}.jpg"
            entries[f"{author}/{path}"] = {"labels_id": study}
            film(tmp_path / "mimic" / path)
            study += 1
        (tmp_path / f"data_file/rad_graph_metric_{split}.json").write_text(json.dumps(entries))
    monkeypatch.chdir(tmp_path)
    diagnosis = examine(read_plan(ROOT / "configs/MAVL_resnet.yaml", tmp_path / "mimic"), "x", 2, None, True)
    # films of 96 pixels are under half of the network's 224, and all are
    assert not diagnosis.found
    assert diagnosis.splits["train"]["findings"]["edema"] == {"present": 2, "absent": 1, "unknown": 0}
    assert diagnosis.splits["train"]["groups"] == 3
