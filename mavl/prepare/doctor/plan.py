"""Any config of the project -> what it names: lists, images, books, models."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import try_to_load_from_cache

from mavl.config.data import MimicData, PhantomData, ReportData
from mavl.config.document import Document
from mavl.config.evaluation import EvaluationSettings, GroundingSettings, ZeroShotSettings
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings, MaskFolder
from mavl.config.loader import ConfigError, Settings, load
from mavl.config.released import translate_config
from mavl.config.settings import RANDOM, PretrainSettings
from mavl.data.benchmarks.benchmark import Benchmark
from mavl.files import shipped
from mavl.prepare.doctor.report import Diagnosis
from mavl.text.encoders.minilm import MINILM, minilm_folder
from mavl.text.protocol import TextEncoderError

EVALUATIONS = {"zero_shot": ZeroShotSettings, "grounding": GroundingSettings}
FINETUNINGS = {"finetune_cls": FinetuneClsSettings, "finetune_seg": FinetuneSegSettings}
"""Folder of the config -> its schema, which decides between schemas that have the same keys."""

TASKS: dict[type[Settings], str] = {
    Benchmark: "benchmark",
    PretrainSettings: "pre-training",
    ZeroShotSettings: "zero-shot classification",
    GroundingSettings: "grounding",
    FinetuneClsSettings: "fine-tuning, classification",
    FinetuneSegSettings: "fine-tuning, segmentation",
}
FILES = re.compile(
    r"(text\.|sensitivity\.wordings\..+\.)?(descriptions|aspects)|data\.((train|valid|label)_file|labels)"
)
MODELS = ("init.checkpoint", "init.backbone", "text.encoder", "model_path", "text_encoder")
"""The keys of files, and of what may be a hub id too."""

NO_FILES = (None, "imagenet", "pretrained", "none", RANDOM, MINILM)
"""Values of MODELS that are no file."""

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
WEIGHTS = (".pth", ".pt", ".bin", ".safetensors")


@dataclass(frozen=True)
class Plan:
    """What a config names. Images come from one of benchmark, mimic and folder, or from none when they are phantoms.

    Args:
        keys: {key: value} of the whole config, keys as in `model.image_size`.
        splits: those that the run reads; `optional`: those that it can go without.
    """

    task: str
    root: Path | None
    benchmark: Benchmark | None
    mimic: MimicData | ReportData | None = None
    folder: MaskFolder | None = None
    findings: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    keys: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels_by_masks(self) -> bool:
        """Whether an image's label is whether its mask is empty."""
        return self.folder is not None or (self.benchmark is not None and self.benchmark.labels.kind == "mask")


def read_plan(config: Path, root: Path | None, overrides: Sequence[str] = ()) -> Plan:
    """The plan of a config; `root` takes the place of its own. ConfigError where it cannot be read."""
    fitting = read_settings(config, overrides)
    settings, task = fitting[0], " or ".join(TASKS[type(each)] for each in fitting)
    if isinstance(settings, Benchmark):
        return Plan(task, root or settings.root, settings, splits=tuple(settings.splits))
    data: Any = getattr(settings, "data", settings)
    benchmark = load(Benchmark, Path(data.benchmark)) if getattr(data, "benchmark", None) else None
    mimic = data if isinstance(data, MimicData | ReportData) else None
    findings, optional = getattr(data, "findings", ()), ()
    splits = tuple(benchmark.splits) if benchmark else ()
    if isinstance(settings, PretrainSettings):
        findings, splits = settings.findings if mimic else (), ("train", "valid")
    elif isinstance(settings, EvaluationSettings):
        splits = (settings.split,)
        thresholds = settings.split != "valid" and settings.protocol == "sound"
        optional = ("valid",) if thresholds and benchmark and "valid" in benchmark.splits else ()
    return Plan(
        f"{task} on phantoms" if isinstance(data, PhantomData) else task,
        root or (Path(data.root) if data.root else benchmark and benchmark.root),
        benchmark,
        mimic=mimic,
        folder=getattr(data, "folder", None),
        findings=findings,
        splits=splits,
        optional=optional,
        keys=dict(_flat(settings.model_dump())),
    )


def read_settings(config: Path, overrides: Sequence[str] = ()) -> list[Settings]:
    """The settings in a config by each of the project's schemas that it fits, with `key=value` overrides.

    Only one where the folder of the config decides.
    """
    fitting, errors = [], []
    for schema in _candidates(config):
        try:
            translate = translate_config if schema is PretrainSettings else None
            fitting.append(load(schema, config, overrides, translate=translate))
        except ConfigError as error:
            errors.append(error)
        if fitting and config.absolute().parent.name in EVALUATIONS | FINETUNINGS:
            break
    if not fitting:
        raise errors[0]
    return fitting


def check_paths(plan: Plan, diagnosis: Diagnosis) -> None:
    """Report the files of the config that do not exist, and note each model that would come from the hub."""
    one_aspect = len(plan.keys.get("model.aspects", ())) == 1  # then it reads no book of aspects
    for key, value in plan.keys.items():
        if FILES.fullmatch(key) and not (key == "text.aspects" and one_aspect):
            for path in [value] if isinstance(value, str) else value:
                file = Path(path).expanduser()
                if not (file if key.startswith("data.") else shipped(file)).exists():
                    diagnosis.add("missing_path", f"{key}: {path}", Path(path))
        if key == "text.encoder" and value == MINILM:
            _check_minilm(plan, diagnosis)
        if key not in MODELS or value in NO_FILES or Path(value).expanduser().exists():
            continue
        if not HUB_ID.fullmatch(value) or Path(value).suffix in WEIGHTS or Path(value).parent.exists():
            diagnosis.add("missing_path", f"{key}: {value}", Path(value))
        elif not isinstance(try_to_load_from_cache(value, "config.json"), str):
            if os.environ.get("HF_HUB_OFFLINE") == "1":
                text = f"{key}: {value} is neither a folder nor in the hub's cache, with HF_HUB_OFFLINE=1"
                diagnosis.add("missing_path", text)
            else:
                diagnosis.notes.append(f"{key}: {value} is not a folder; it would be downloaded from the hub")
    if plan.root is not None and not plan.root.is_dir():
        diagnosis.add("missing_path", f"root: {plan.root} is not a folder", plan.root)


def _check_minilm(plan: Plan, diagnosis: Diagnosis) -> None:
    try:
        minilm_folder()
    except TextEncoderError as error:
        if plan.keys.get("text.fallback"):
            diagnosis.notes.append(f"{error}; text.fallback: an encoder of random weights would be used instead")
        else:
            diagnosis.add("missing_path", f"text.encoder: {error}")


def _candidates(config: Path) -> Sequence[type[Settings]]:
    """The schemas that the file may be written in, the likeliest first."""
    try:
        raw = Document(shipped(config).read_bytes()).data
    except (OSError, yaml.YAMLError):
        raw = None  # the error of PretrainSettings names what is wrong with the file
    raw = raw if isinstance(raw, dict) else {}
    data = raw["data"] if isinstance(raw.get("data"), dict) else {}
    if "splits" in raw:
        return [Benchmark]
    if "benchmark" in raw:
        group = EVALUATIONS
    elif "source" not in data and data.keys() & {"benchmark", "folder"}:
        group = FINETUNINGS
    else:
        return [PretrainSettings]
    named = group.get(config.absolute().parent.name)
    return sorted(group.values(), key=lambda schema: (len(raw.keys() - schema.model_fields.keys()), schema != named))


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
