"""Any config of the project -> what it names: lists, images, books, models."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import try_to_load_from_cache

from mavl.config.document import Document
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings, MaskFolder
from mavl.config.loader import ConfigError, Settings, load
from mavl.config.released import translate_config
from mavl.config.settings import (
    RANDOM,
    EvaluationSettings,
    GroundingSettings,
    MimicData,
    PhantomData,
    PretrainSettings,
    ZeroShotSettings,
)
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.prepare.doctor.report import Found

EVALUATIONS = {"zero_shot": ZeroShotSettings, "grounding": GroundingSettings}
FINETUNINGS = {"finetune_cls": FinetuneClsSettings, "finetune_seg": FinetuneSegSettings}
"""Folder of the config -> its schema, which decides between schemas that have the same keys."""

TASKS = {
    Benchmark: "benchmark",
    PretrainSettings: "pre-training",
    ZeroShotSettings: "zero-shot classification",
    GroundingSettings: "grounding",
    FinetuneClsSettings: "fine-tuning, classification",
    FinetuneSegSettings: "fine-tuning, segmentation",
}
NO_FILES = (None, "imagenet", "none", RANDOM)
"""Values of a backbone, text encoder or checkpoint that are no file."""

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")


@dataclass(frozen=True)
class Plan:
    """What a config names. Images come from one of benchmark, mimic and folder, or from none when they are phantoms.

    Args:
        files: (key, path) of what must be on the disk.
        models: (key, path) of what may be a hub id too.
        splits: those that the run reads; `optional`: those that it can go without.
        image_size: side in pixels of the network's input, where the config gives it.
    """

    task: str
    root: Path | None = None
    files: Sequence[tuple[str, str]] = ()
    models: Sequence[tuple[str, str | None]] = ()
    benchmark: Benchmark | None = None
    mimic: MimicData | None = None
    folder: MaskFolder | None = None
    findings: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    image_size: int | None = None

    @property
    def labels_by_masks(self) -> bool:
        """Whether an image's label is whether its mask is empty."""
        return self.folder is not None or (self.benchmark is not None and self.benchmark.labels.kind == "mask")


def read_plan(config: Path, root: Path | None, overrides: Sequence[str] = ()) -> Plan:
    """The plan of a config; `root` takes the place of its own. ConfigError where it cannot be read."""
    settings = read_settings(config, overrides)
    task = TASKS[type(settings)]
    if isinstance(settings, Benchmark):
        return Plan(task, root or settings.root, benchmark=settings, splits=tuple(settings.splits))
    if isinstance(settings, EvaluationSettings):
        return _evaluation(task, settings, root)
    data, init = settings.data, settings.init
    files, models = [], [("init.checkpoint", init.checkpoint), ("init.backbone", init.backbone)]
    findings, splits = (), ("train", "valid")
    mimic = data if isinstance(data, MimicData) else None
    benchmark = load(Benchmark, Path(data.benchmark)) if getattr(data, "benchmark", None) else None
    if isinstance(data, PhantomData):
        task += " on phantoms, which are drawn as they are needed"
    if isinstance(settings, PretrainSettings):
        text = settings.text
        models.append(("text.encoder", text.encoder))
        files += _files({"text.descriptions": text.descriptions})
        files += _files({"text.aspects": text.aspects if len(settings.model.aspects) > 1 else ()})
    else:
        findings, splits = data.findings, tuple(benchmark.splits) if benchmark else ()
    if mimic is not None:
        files += [(f"data.{name}", getattr(mimic, name)) for name in ("train_file", "valid_file", "label_file")]
        findings = settings.findings
    return Plan(
        task,
        root or (Path(data.root) if data.root else benchmark and benchmark.root),
        files=files,
        models=models,
        benchmark=benchmark,
        mimic=mimic,
        folder=getattr(data, "folder", None),
        findings=findings,
        splits=splits,
        image_size=settings.model.image_size,
    )


def read_settings(config: Path, overrides: Sequence[str] = ()) -> Settings:
    """The settings in a config, whichever of the project's schemas it is written in, with `key=value` overrides."""
    first: ConfigError | None = None
    for schema in _candidates(config):
        try:
            translate = translate_config if schema is PretrainSettings else None
            return load(schema, config, overrides, translate=translate)
        except ConfigError as error:
            first = first or error
    raise first


def check_paths(plan: Plan, found: Found) -> list[str]:
    """Report the files of the config that do not exist; return a note on each model that would come from the hub."""
    notes = []
    for key, path in plan.files:
        if not Path(path).expanduser().exists():
            found.add("missing_path", f"{key}: {path}", Path(path))
    for key, name in plan.models:
        if name in NO_FILES or Path(name).expanduser().exists():
            continue
        path = Path(name)
        if not HUB_ID.fullmatch(name) or path.suffix in WEIGHTS or path.parent.exists():
            found.add("missing_path", f"{key}: {name}", path)
        elif not isinstance(try_to_load_from_cache(name, "config.json"), str):
            if os.environ.get("HF_HUB_OFFLINE") == "1":
                text = f"{key}: {name} is neither a folder nor in the hub's cache, with HF_HUB_OFFLINE=1"
                found.add("missing_path", text)
            else:
                notes.append(f"{key}: {name} is not a folder; it would be downloaded from the hub")
    if plan.root is not None and not plan.root.is_dir():
        found.add("missing_path", f"root: {plan.root} is not a folder", plan.root)
    return notes


def _candidates(config: Path) -> Sequence[type[Settings]]:
    """The schemas that the file may be written in, the likeliest first."""
    try:
        raw = Document(config.read_bytes()).data
    except (OSError, yaml.YAMLError):
        raw = None
    if not isinstance(raw, dict):
        return [PretrainSettings]  # its loading says what is wrong with the file
    data = raw.get("data")
    if "splits" in raw:
        return [Benchmark]
    if "benchmark" in raw:
        group = EVALUATIONS
    elif isinstance(data, dict) and "source" not in data and data.keys() & {"benchmark", "folder"}:
        group = FINETUNINGS
    else:
        return [PretrainSettings]
    named = group.get(config.absolute().parent.name)
    return sorted(group.values(), key=lambda schema: (len(raw.keys() - schema.model_fields.keys()), schema != named))


def _evaluation(task: str, settings: EvaluationSettings, root: Path | None) -> Plan:
    benchmark = load(Benchmark, Path(settings.benchmark))
    books = {"descriptions": settings.descriptions, "aspects": settings.aspects}
    sensitivity = getattr(settings, "sensitivity", None)
    for name, variant in (sensitivity.variants if sensitivity else {}).items():
        books[f"sensitivity.variants.{name}"] = variant.descriptions + variant.aspects
    thresholds = "valid" in benchmark.splits and settings.split != "valid" and settings.protocol == "sound"
    return Plan(
        task,
        root or (Path(settings.root) if settings.root else benchmark.root),
        files=_files(books),
        models=[("model_path", settings.model_path), ("text_encoder", settings.text_encoder)],
        benchmark=benchmark,
        findings=settings.findings,
        splits=(settings.split,),
        optional=("valid",) if thresholds else (),
    )


def _files(books: dict[str, Iterable[str]]) -> list[tuple[str, str]]:
    return [(key, path) for key, paths in books.items() for path in paths]
