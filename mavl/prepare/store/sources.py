"""Names on the command line of a store -> the files that go into it, each under its path in the root."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mavl.config.data import MimicData
from mavl.data.images.inputs import find_images
from mavl.prepare.radgraph.mimic import find_table

CONFIGS, MANIFESTS = (".yaml", ".yml"), (".json",)


class SourceError(ValueError):
    """Names from which no store can be made; the message says why."""


@dataclass
class Sources:
    """images, copies: {path in the store: file}; `copies` are lists and masks, which stay as they are."""

    images: dict[str, Path] = field(default_factory=dict)
    copies: dict[str, Path] = field(default_factory=dict)


def find_sources(names: Sequence[str], root: Path | None, out: Path) -> Sources:
    """The images that these names mean, in the order given, and what a run with another root reads beside them.

    A name is an image, a folder, a pattern, a CSV that lists images, a manifest (JSON), or a config or a benchmark
    (YAML), with all images, split files and mask files that it reads under its root. Paths are relative to `root`;
    without it, to that of the config, to the folder, or to the folder of the CSV or of the images. What lies in `out`,
    the store itself, is left out of folders.

    SourceError for a root that is no folder, an image outside of it, and two images of one path; NoImageError for a
    name that means no image.
    """
    if root is not None and not root.is_dir():
        raise SourceError(f"--root {root}: no such folder")
    sources = Sources()
    for name in names:
        suffix, copies, base = Path(name).suffix.lower(), [], root
        if suffix in CONFIGS:
            paths, copies, base = _of_config(Path(name), root)
        elif suffix in MANIFESTS:
            paths = _of_manifests([Path(name)], root, MimicData().prefix)
        else:
            found, _ = find_images([name])
            base = root or _base(name, found)
            if not (paths := [path for path in found if _below(path, out) is None]):
                raise SourceError(f"{name}: all of its images lie in the store itself, --out {out}")
            copies = [Path(name)] if suffix == ".csv" else []
        if base is None:
            raise SourceError(f"{name}: does not say which folder its images lie in: give --root")
        if not base.is_dir():
            raise SourceError(f"{name}: its root {base} is no folder: give --root")
        _add(sources.images, paths, base)
        _add(sources.copies, (path for path in copies if _below(path, base)), base)
    for place in sources.copies:  # a folder that was named may hold masks
        sources.images.pop(place, None)
    return sources


def _add(sources: dict[str, Path], paths: Iterable[Path], base: Path) -> None:
    for path in paths:
        if (place := _below(path, base)) is None:
            raise SourceError(f"{path} lies outside of the root {base}: give a --root that it lies in")
        other = sources.setdefault(place, path)
        if os.path.abspath(other) != os.path.abspath(path):
            raise SourceError(f"{other} and {path} would both be {place} in the store: give a --root that both lie in")


def _below(path: Path, base: Path) -> str | None:
    """The path relative to `base`; None where it lies outside."""
    whole, start = os.path.abspath(path), os.path.join(os.path.abspath(base), "")
    return whole.removeprefix(start) if whole.startswith(start) else None


def _base(name: str, paths: Sequence[Path]) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if Path(name).suffix.lower() == ".csv":
        return Path(name).parent
    return Path(os.path.commonpath([path.parent for path in paths]))


def _of_config(config: Path, root: Path | None) -> tuple[Iterable[Path], list[Path], Path | None]:
    """The images of all splits that a run with this config reads, its lists and masks, and its root."""
    from mavl.data.benchmarks.benchmark import MissingSplitError, list_files, read_split
    from mavl.data.benchmarks.folders import list_folder
    from mavl.data.benchmarks.masks import MaskFile
    from mavl.prepare.doctor.plan import read_plan

    plan = read_plan(config, root)
    if plan.mimic is not None:
        manifests = [Path(plan.mimic.train_file), Path(plan.mimic.valid_file)]
        views = plan.root and find_table(plan.root, "metadata")  # from which doctor takes the views
        return _of_manifests(manifests, plan.root, plan.mimic.prefix), [views] if views else [], plan.root
    if plan.folder is not None:
        splits = list_folder(plan.folder, "finding").values()
        return [path for split in splits for path in split.paths], [], root or Path(plan.folder.images)
    if plan.benchmark is None:
        raise SourceError(f"{config}: {plan.task}: there are no images to store")
    images, copies = [], []
    for name in plan.splits + plan.optional:
        try:
            split = read_split(plan.benchmark, name, plan.root)
        except MissingSplitError:
            if name in plan.splits:
                raise
            continue
        images += split.paths
        copies += list_files(plan.benchmark, name, plan.root)
        masks = [mask for of_finding in (split.masks or {}).values() for mask in of_finding]
        copies += [mask.path for mask in masks if isinstance(mask, MaskFile)]
    return images, copies, plan.root


def _of_manifests(manifests: Iterable[Path], root: Path | None, prefix: str) -> Iterator[Path]:
    from mavl.data.samples import image_path, read_entries

    for manifest in manifests:
        try:
            entries, _ = read_entries(manifest)
        except FileNotFoundError as error:
            fix = "`prepare_data.py radgraph` makes it; or name the folder of the images in its place, with --root"
            raise SourceError(f"{manifest}: no such file; {fix}") from error
        except ValueError as error:
            raise SourceError(str(error)) from error
        yield from (image_path(name, root, prefix) for name in entries)
