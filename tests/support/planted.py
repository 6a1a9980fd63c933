"""Small clean data sets for the doctor, and the faults that are planted into them one at a time."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from mavl.data import phantom
from mavl.vocab import ANATOMIES, FINDINGS

SIZE = 96
PLAN = {"train": range(10), "valid": range(10, 16), "test": range(16, 24)}
ASKED = ["effusion", "cardiomegaly"]


def lists(folder: Path) -> Path:
    """A benchmark with finding columns, patients and a mask file for each finding; the path of its YAML."""
    for split, indices in PLAN.items():
        phantom.write_dataset(folder, split, 3, indices, SIZE)
        table = pd.read_csv(folder / f"{split}.csv", dtype=str)
        table["patient"] = [f"patient{index}" for index in indices]
        table["ViewPosition"] = "PA"
        table.to_csv(folder / f"{split}.csv", index=False)
    return write_yaml(
        folder / "lists.yaml",
        name="lists",
        title="Lists",
        root=str(folder),
        findings=ASKED,
        splits={split: f"{split}.csv" for split in PLAN},
        images={"column": "image", "path": "images/{}.png"},
        groups={"column": "patient"},
        labels={"kind": "columns"},
        masks={"kind": "file", "path": "masks/{finding}/{}.png"},
    )


def boxes(folder: Path) -> Path:
    """A benchmark of one finding with boxes in its rows, in a frame twice as large as the images."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for index in range(8):
        save(folder / f"images/{index}.png", phantom.draw(4, index, SIZE).image)
        rows.append({"image": index, "effusion": index % 2, "boxes": "10;20;30;40|50;60;20;20" if index % 2 else ""})
    pd.DataFrame(rows).to_csv(folder / "test.csv", index=False)
    return write_yaml(
        folder / "boxes.yaml",
        name="boxes",
        title="Boxes",
        root=str(folder),
        findings=["effusion"],
        splits={"test": "test.csv"},
        images={"column": "image", "path": "images/{}.png"},
        labels={"kind": "columns"},
        masks={"kind": "boxes", "column": "boxes", "size": [2 * SIZE, 2 * SIZE]},
    )


def mimic(folder: Path) -> Path:
    """MIMIC's layout: manifests, label store, images under files/, the metadata file beside them."""
    folder.mkdir(parents=True)
    rng, metadata = np.random.default_rng(0), []
    np.save(folder / "labels.npy", rng.integers(-1, 2, (6, len(ANATOMIES), len(FINDINGS))).astype(np.int8))
    for split, studies in {"train": range(4), "validate": range(4, 6)}.items():
        entries = {}
        for study in studies:
            dicom = f"{study:08x}-0000-0000-0000-000000000000"
            path = f"files/p10/p{10000032 + study}/s{50000000 + study}/{dicom}.jpg"
            save(folder / path, phantom.draw(5, study, SIZE).image)
            entries[f"/somewhere/{path}"] = {"labels_id": study}
            metadata.append({"dicom_id": dicom, "ViewPosition": "PA"})
        (folder / f"{split}.json").write_text(json.dumps(entries))
    pd.DataFrame(metadata).to_csv(folder / "mimic-cxr-2.0.0-metadata.csv", index=False)
    files = {"train_file": "train.json", "valid_file": "validate.json", "label_file": "labels.npy"}
    data = {"source": "mimic", "root": str(folder), "prefix": "/somewhere"}
    data |= {key: str(folder / name) for key, name in files.items()}
    model = {"backbone": "resnet18", "image_size": SIZE}
    return write_yaml(folder / "mimic.yaml", text={"encoder": "drawn"}, data=data, model=model)


def masks(folder: Path) -> Path:
    """A folder of images and one of masks, for segmentation without a list."""
    for index in range(6):
        drawn = phantom.draw(6, index, SIZE)
        save(folder / f"images/{index}.png", drawn.image)
        save(folder / f"masks/{index}.png", np.uint8(255) * (np.indices(drawn.image.shape).sum(0) < 60))
    data = {"folder": {"images": str(folder / "images"), "masks": str(folder / "masks")}}
    return write_yaml(folder / "masks.yaml", data=data, model={"image_size": SIZE})


def write_yaml(path: Path, **content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return path


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


# What may be done to them ---------------------------------------------------------------------------------------------


def image(folder: Path, split: str, place: int, tree: str = "images") -> Path:
    """An image of `lists`, or one of its masks."""
    return sorted((folder / tree / split).glob("*.png"))[place]


def mask(folder: Path) -> Path:
    """A mask of a finding that is asked."""
    return image(folder / "masks", "train", 0, "effusion")


def redraw(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    save(path, change(np.asarray(Image.open(path))))


def edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> None:
    """Change a list in place, or by what comes back."""
    table = pd.read_csv(path, dtype=str, na_filter=False)
    changed = change(table)
    (table if changed is None else changed).to_csv(path, index=False)


def set_cell(path: Path, row: int, column: str, value: str) -> None:
    edit(path, lambda table: table.__setitem__(column, [*table[column][:row], value, *table[column][row + 1 :]]))


def repeat_row(path: Path, **changed: str) -> None:
    """The first row once more at the end, with other cells."""
    edit(path, lambda table: pd.concat([table, table.iloc[:1].assign(**changed)]))


def resize(path: Path, size: tuple[int, int]) -> None:
    Image.open(path).resize(size).save(path)


def change_yaml(path: Path, **changed) -> None:
    content = yaml.safe_load(path.read_text()) | changed
    path.write_text(yaml.safe_dump(content))


def change_json(path: Path, change: Callable[[dict], dict]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def repeat_entry(path: Path) -> None:
    """The first entry of a JSON object once more, as text."""
    (key, value), *_ = json.loads(path.read_text()).items()
    path.write_text(path.read_text().replace("{", f"{{{json.dumps(key)}: {json.dumps(value)}, ", 1))


def copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
