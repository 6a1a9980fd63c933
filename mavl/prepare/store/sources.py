"""What a person names for a store -> image files, each under the key by which a run will look for it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mavl.config.settings import MimicData
from mavl.data.images.inputs import Failure, find_images
from mavl.data.images.store import key_of

CONFIGS, MANIFESTS = (".yaml", ".yml"), (".json",)


class SourceError(ValueError):
    """Names from which no store can be made; the message says why."""


def find_sources(names: Sequence[str], root: Path | None) -> tuple[dict[bytes, Path], list[Failure]]:
    """{key: file} of the images that these names mean, in the order given, and what of them means none.

    A name is an image, a folder, a pattern, a CSV that lists images, a manifest (JSON), or a config or a benchmark
    (YAML), whose images are all that it reads. Keys are relative to `root`; without it, to that of the config, to the
    folder, or to the folder of the CSV or of the images.
    """
    sources: dict[bytes, Path] = {}
    failures: list[Failure] = []
    for name in names:
        suffix = Path(name).suffix.lower()
        if suffix in CONFIGS:
            paths, base = _of_config(Path(name), root)
        elif suffix in MANIFESTS:
            paths, base = _of_manifests([Path(name)], root, MimicData().prefix), root
        else:
            paths, failed = find_images([name])
            failures += failed
            base = root or _base(name, paths)
        for path in paths:
            key = key_of(path, base)
            if (other := sources.setdefault(key, path)) != path:
                fix = "give --root, a folder that both are in"
                raise SourceError(f"{other} and {path} would both be {os.fsdecode(key)} in the store: {fix}")
    return sources, failures


def _base(name: str, paths: Iterable[Path]) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if Path(name).suffix.lower() == ".csv":
        return Path(name).parent
    return Path(os.path.commonpath([path.parent for path in paths]))


def _of_config(config: Path, root: Path | None) -> tuple[Iterable[Path], Path | None]:
    """The images of all splits that a run with this config reads, and the root that it takes."""
    from mavl.data.benchmarks.benchmark import MissingSplitError, read_split
    from mavl.data.benchmarks.folders import read_folder
    from mavl.prepare.doctor.plan import read_plan

    plan = read_plan(config, root)
    if plan.mimic is not None:
        manifests = [Path(plan.mimic.train_file), Path(plan.mimic.valid_file)]
        return _of_manifests(manifests, plan.root, plan.mimic.prefix), plan.root
    if plan.folder is not None:
        splits = read_folder(plan.folder, "finding").values()
        return [path for split in splits for path in split.paths], root or Path(plan.folder.images)
    if plan.benchmark is None:
        raise SourceError(f"{config}: {plan.task}: there are no images to store")
    paths = []
    for split in plan.splits + plan.optional:
        try:
            paths += read_split(plan.benchmark, split, plan.root).paths
        except MissingSplitError:
            if split in plan.splits:
                raise
    return paths, plan.root


def _of_manifests(manifests: Iterable[Path], root: Path | None, prefix: str) -> Iterator[Path]:
    from mavl.data.samples import image_path, read_entries

    for manifest in manifests:
        try:
            entries, _ = read_entries(manifest)
        except FileNotFoundError as error:
            fix = "`prepare_data.py radgraph` makes it; or name the folder of the images in its place, with --root"
            raise SourceError(f"{manifest}: no such file; {fix}") from error
        except (OSError, ValueError) as error:
            raise SourceError(str(error)) from error
        yield from (image_path(name, root, prefix) for name in entries)
