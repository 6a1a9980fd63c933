"""What a run reads: hashes by name, since a resumed run must read the same, and a line for the model's folder."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mavl.config.data import VOCABULARY
from mavl.config.loader import load
from mavl.data.benchmarks.benchmark import Benchmark, list_files
from mavl.data.lists import ImageList

MOST_SIZES = 20_000
"""Image files of a split whose sizes are compared; of a larger split, evenly spread ones."""

COLLECTIONS = {"mimic": "MIMIC-CXR"}
"""{source of data: the collection of its images}, of a source that is of one."""

NO_CONTENT = {"root", "version", "collection", "metadata", "any_of"}
"""Keys of a benchmark that change nothing of what a run reads."""

LATER = {
    "table": {"format": "text", "records": "", "keys": [], "explode": [], "where": {}, "join": []},
    "images": {"rewrite": None},
    "labels": {"match": "whole"},
    "masks": {"unit": "pixels", "edges": "cut", "separator": None, "others": "refuse"},
}
"""Keys that benchmarks did not always have, and their defaults: a run that began without them can go on."""

MASK_KEYS = (
    "kind",
    "path",
    "finding",
    "names",
    "column",
    "columns",
    "size",
    "box_format",
    "all_lists",
    *LATER["masks"],
)

LABEL_FILES = ("train_file", "valid_file", "label_file", "sentences_file")


def data_hashes(data: Any, images: Mapping[str, ImageList]) -> dict[str, str]:
    """{what: SHA-256} of the benchmark, its lists or the label files, and the images of each split.

    A moved root, or a comment in a YAML file, changes none of them. Of the image files the sizes in bytes count: other
    pixels in files of the same sizes change no hash.

    Args:
        data: the settings' section on data.
        images: for each split the images in use, with names below `names_root`.
    """
    hashes, root = {}, names_root(data)
    if getattr(data, "benchmark", None):
        benchmark = load(Benchmark, Path(data.benchmark))
        hashes["benchmark"] = _sha256(_content(benchmark).encode())
        lists = {}
        for name in (name for name in benchmark.splits if name in images):
            lists[name], *joined = list_files(benchmark, name, root)
            lists |= {path.name: path for path in joined}
    else:
        lists = {name: Path(getattr(data, name)) for name in LABEL_FILES if hasattr(data, name)}
        if "label_file" in lists and (vocabulary := lists["label_file"].with_name(VOCABULARY)).exists():
            lists["vocabulary_file"] = vocabulary
    for name, path in lists.items():
        with open(path, "rb") as file:
            hashes[f"list {name}"] = hashlib.file_digest(file, "sha256").hexdigest()
    for split, each in images.items():
        hashes[f"order or labels of {split}'s images"] = each.sha256()
        sizes = [_size(path) for path in each.spread(MOST_SIZES)]
        hashes[f"size of {split}'s image files"] = _sha256(str(sizes).encode())
    return hashes


def _content(benchmark: Benchmark) -> str:
    """What a benchmark says, as JSON: without LATER keys that have their defaults, the keys of masks in their order."""
    content = benchmark.model_dump(mode="json", exclude=NO_CONTENT)
    for section, keys in LATER.items():
        held = content[section] or {}
        content[section] = {key: held[key] for key in held if key not in keys or held[key] != keys[key]} or None
    if content["masks"]:
        content["masks"] = dict(sorted(content["masks"].items(), key=lambda entry: MASK_KEYS.index(entry[0])))
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def names_root(data: Any) -> Path | None:
    """The folder that the names of a run's images do not hold, by the settings' section on data."""
    if data.root:
        return Path(data.root)
    return load(Benchmark, Path(data.benchmark)).root if getattr(data, "benchmark", None) else None


def describe_images(data: Any, images: int) -> dict:
    """As mavl.checkpoint.about.TrainedOn, of a run with these settings on data and so many training images."""
    drawn, collection = getattr(data, "source", None) == "phantom", ""
    if getattr(data, "benchmark", None):
        benchmark = load(Benchmark, Path(data.benchmark))
        drawn, name, collection = benchmark.drawn, benchmark.name, benchmark.collection
    elif getattr(data, "folder", None):
        name = data.folder.images
    else:
        name, collection = ("phantoms", "") if drawn else (data.train_file, COLLECTIONS.get(data.source, ""))
    about = {"kind": "phantom drawings" if drawn else "films", "list": name, "images": images}
    return about | ({"collection": collection} if collection else {})


def _size(path: str) -> int | None:
    """Bytes of a file; None where it cannot be read."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
