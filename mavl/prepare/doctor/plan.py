"""Any config of the project -> what it names: lists, images, books, models. Told apart by its keys and its folder."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from huggingface_hub import try_to_load_from_cache

from mavl.config.document import Document
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings, MaskFolder
from mavl.config.loader import ConfigError, Settings, load
from mavl.config.released import translate_config
from mavl.config.settings import (
    DRAWN,
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
"""Folder of the config -> its schema; those of one group are told apart by it where their keys do not."""

TASKS = {
    Benchmark: "benchmark",
    PretrainSettings: "pre-training",
    ZeroShotSettings: "zero-shot classification",
    GroundingSettings: "grounding",
    FinetuneClsSettings: "fine-tuning, classification",
    FinetuneSegSettings: "fine-tuning, segmentation",
}
NO_FILES = ("imagenet", "none", DRAWN)
"""What may stand for a backbone's or a text encoder's file."""

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")


@dataclass(frozen=True)
class Plan:
    """What a config names.

    files, models: (key, path) of what must be on the disk, and of what may be a hub id too. Images come from one of
    benchmark, mimic and folder, or from none when they are drawn. splits: those that the run reads, and in `optional`
    those that it goes without. image_size: side in pixels at which images are shown to the network, where the config
    says so.
    """

    task: str
    root: Path | None = None
    files: list[tuple[str, str]] = field(default_factory=list)
    models: list[tuple[str, str]] = field(default_factory=list)
    benchmark: Benchmark | None = None
    mimic: MimicData | None = None
    folder: MaskFolder | None = None
    findings: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    image_size: int | None = None


def read_plan(config: Path, root: Path | None, overrides: Sequence[str] = ()) -> Plan:
    """The plan of a config; `root` takes the place of its own. ConfigError where it cannot be read."""
    settings = read_settings(config, overrides)
    task = TASKS[type(settings)]
    if isinstance(settings, Benchmark):
        return Plan(task, root or settings.root, benchmark=settings, splits=tuple(settings.splits))
    if isinstance(settings, EvaluationSettings):
        return _evaluation(task, settings, root)
    data = settings.data
    root = root or (Path(data.root) if data.root else None)
    common = {"root": root, "image_size": settings.model.image_size}
    init = [("init.checkpoint", settings.init.checkpoint)]
    if settings.init.backbone not in NO_FILES:
        init.append(("init.backbone", settings.init.backbone))
    if isinstance(settings, PretrainSettings):
        return _pretraining(task, settings, init, common)
    common |= {"models": _named(init), "findings": data.findings}
    if data.benchmark is None:
        return Plan(task, folder=data.folder, **common)
    benchmark = load(Benchmark, Path(data.benchmark))
    return Plan(task, benchmark=benchmark, splits=tuple(benchmark.splits), **_with_root(common, benchmark))


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
    """Report what the config names and is not there; a note on each model that would come from the hub."""
    notes = []
    for key, path in plan.files:
        if not Path(path).expanduser().exists():
            found.add("missing_path", f"{key}: {path}", Path(path))
    for key, name in plan.models:
        if Path(name).expanduser().exists():
            continue
        if not _is_hub_id(name):
            found.add("missing_path", f"{key}: {name}", Path(name))
        elif not isinstance(try_to_load_from_cache(name, "config.json"), str):
            if os.environ.get("HF_HUB_OFFLINE") == "1":
                found.add(
                    "missing_path", f"{key}: {name} is no folder here nor in the hub's cache, with HF_HUB_OFFLINE=1"
                )
            else:
                notes.append(f"{key}: {name} is no folder here; it would be taken from the hub")
    if plan.root is not None and not plan.root.is_dir():
        found.add("missing_path", f"root: {plan.root} is no folder", plan.root)
    return notes


def _candidates(config: Path) -> Sequence[type[Settings]]:
    """The schemas that the file may be written in, the likeliest first."""
    try:
        raw = Document(config.read_bytes()).data
    except (OSError, yaml.YAMLError):
        return [PretrainSettings]  # whose loading tells what is wrong with the file
    if not isinstance(raw, dict):
        return [PretrainSettings]
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
    books = [("descriptions", settings.descriptions), ("aspects", settings.aspects)]
    sensitivity = getattr(settings, "sensitivity", None)
    for name, variant in (sensitivity.variants if sensitivity else {}).items():
        books += [(f"sensitivity.variants.{name}", variant.descriptions + variant.aspects)]
    thresholds = "valid" in benchmark.splits and settings.split != "valid" and settings.protocol == "sound"
    return Plan(
        task,
        root or (Path(settings.root) if settings.root else benchmark.root),
        files=[(key, path) for key, paths in books for path in paths],
        models=_named([("model_path", settings.model_path), ("text_encoder", settings.text_encoder)]),
        benchmark=benchmark,
        findings=settings.findings,
        splits=(settings.split,),
        optional=("valid",) if thresholds else (),
    )


def _pretraining(task: str, settings: PretrainSettings, init: list, common: dict) -> Plan:
    text, data = settings.text, settings.data
    aspects = text.aspects if len(settings.model.aspects) > 1 else ()
    books = [("text.descriptions", text.descriptions), ("text.aspects", aspects)]
    common |= {
        "files": [(key, path) for key, paths in books for path in paths],
        "models": _named([*init, *([] if text.encoder in NO_FILES else [("text.encoder", text.encoder)])]),
    }
    if isinstance(data, PhantomData):
        return Plan(f"{task} on phantoms, which are drawn as they are needed", **common)
    if isinstance(data, MimicData):
        common["files"] += [
            (f"data.{name}", getattr(data, name)) for name in ("train_file", "valid_file", "label_file")
        ]
        return Plan(task, mimic=data, findings=settings.findings, splits=("train", "valid"), **common)
    benchmark = load(Benchmark, Path(data.benchmark))
    return Plan(task, benchmark=benchmark, splits=("train", "valid"), **_with_root(common, benchmark))


def _with_root(common: dict, benchmark: Benchmark) -> dict:
    return common | {"root": common["root"] or benchmark.root}


def _named(pairs: Iterable[tuple[str, str | None]]) -> list[tuple[str, str]]:
    return [(key, path) for key, path in pairs if path is not None]


def _is_hub_id(name: str) -> bool:
    """Whether a name that is no file here may be OWNER/NAME on the hub."""
    path = Path(name)
    return bool(HUB_ID.fullmatch(name)) and path.suffix not in WEIGHTS and not path.parent.exists()
