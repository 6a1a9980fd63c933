"""A folder of images and one of masks -> splits, without any list.

The mask of `IMAGES/a/b.jpg` is `MASKS/a/b.*`, or `MASKS/a/b_mask.*` with the suffix "_mask"; then both may be one
folder. If the images lie in subfolders train, valid (or val) and test, these are the splits.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from mavl.config.finetune import MaskFolder
from mavl.data import DataError
from mavl.data.benchmarks.labels import unknown_labels
from mavl.data.benchmarks.masks import MaskFile
from mavl.data.benchmarks.splits import Split
from mavl.data.benchmarks.tables import find_group
from mavl.data.images.inputs import IMAGE_SUFFIXES, images_below
from mavl.progress import plural

SPLIT_OF = {"train": "train", "valid": "valid", "val": "valid", "test": "test"}
WHOLE = "all"


def read_folder(settings: MaskFolder, finding: str) -> dict[str, Split]:
    """The splits of `list_folder`, each image labelled by its mask."""
    return {name: split.labelled_by_masks() for name, split in list_folder(settings, finding).items()}


def list_folder(settings: MaskFolder, finding: str) -> dict[str, Split]:
    """The splits by name, or all images as {WHOLE: split}, with unknown labels; no file is read.

    DataError for an image without a mask, and for names that do not decide on mask or split.
    """
    masks = _files(Path(settings.masks), settings.suffix)
    used = set(masks.values())
    images = {name: path for name, path in _files(Path(settings.images)).items() if path not in used}
    if not images:
        raise DataError(f"{settings.images}: all its image files are masks: give their suffix as data.folder.suffix")
    if missing := sorted(images.keys() - masks.keys()):
        raise DataError(
            f"{settings.masks}: no mask of {len(missing)} of {plural(len(images), 'image')} in {settings.images}, "
            f"such as {', '.join(missing[:3])}; a mask's name is the image's, with the suffix {settings.suffix!r}"
        )
    parts: dict[str, list[str]] = defaultdict(list)
    for name in sorted(images):
        parts[SPLIT_OF.get(name.partition("/")[0], WHOLE)].append(name)
    if len(parts) > 1 and WHOLE in parts:
        stray = f"{parts.pop(WHOLE)[0]} lies outside the subfolders {', '.join(sorted(parts))}"
        raise DataError(f"{settings.images}: {stray}: either all images lie in train, valid and test, or none does")
    return {
        part: Split(
            name=part,
            findings=(finding,),
            paths=[images[name] for name in names],
            labels=unknown_labels(names, (finding,)),
            groups=None if settings.patient is None else _patients(names, settings.patient),
            rows=[str(images[name]) for name in names],
            masks={finding: [MaskFile(masks[name]) for name in names]},
        )
        for part, names in parts.items()
    }


def _files(folder: Path, suffix: str = "") -> dict[str, Path]:
    """Image files by their path in the folder, without extension and suffix."""
    found: dict[str, Path] = {}
    for path in images_below(folder):
        place = path.relative_to(folder)
        # the last part of a UID is no suffix
        name = (place.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else place).as_posix()
        if not name.endswith(suffix):
            continue
        name = name.removesuffix(suffix)
        if name in found:
            raise DataError(f"{path} has the same name as {found[name].name}: keep one of them")
        found[name] = path
    if not found:
        raise DataError(f"{folder}: no image file{f' whose name ends in {suffix}' if suffix else ''} in it")
    return found


def _patients(names: Sequence[str], pattern: str) -> list[str]:
    """What the pattern's group finds in each name."""
    found = [find_group(pattern, name) for name in names]
    if "" in found:
        raise DataError(f"data.folder.patient: {pattern!r} finds no patient in {names[found.index('')]}")
    return found
