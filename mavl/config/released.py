"""The released YAML format, translated into this project's sections."""

import re
from collections.abc import Mapping
from typing import Any

from mavl.vocab import DESCRIPTION

KEYS = {
    "d_model": "model.width",
    "N": "model.layers",
    "H": "model.heads",
    "dropout": "model.feature_dropout",  # of whole feature vectors; the decoder's own is always 0.1
    "self_attention": "model.self_attention",
    "image_res": "model.image_size",
    "text_encoder": "text.encoder",
    "disease_book": "text.descriptions",
    "concept_book": "text.aspects",
    "train_file": "data.train_file",
    "valid_file": "data.valid_file",
    "label_file": "data.label_file",
    "batch_size": "data.batch_size",
    "num_workers": "data.workers",
    "cl_global": "train.contrastive_weight",
    "pretrained": "init.backbone",
    "optimizer.lr": "optimizer.lr",
    "optimizer.weight_decay": "optimizer.weight_decay",
    "schedular.epochs": "schedule.epochs",
    "schedular.min_lr": "schedule.min_lr",
    "schedular.warmup_lr": "schedule.warmup_lr",
    "schedular.warmup_epochs": "schedule.warmup_steps",
}
"""{released key: today's key}."""

STEPS_PER_WARMUP_EPOCH = 100

FIXED = {
    "decoder": "cross",
    "attribute_set_size": 2,
    "no_cl": False,
    "exclude_class": False,
    "none_location": False,
    "optimizer.opt": "adamw",
    "schedular.sched": "cosine",
}
"""What this project always does; the release could do otherwise."""

UNREAD = frozenset(
    """
    model patch_size num_sentences num_tokens vision_width fea_width embed_dim temp mlm_probability queue_size momentum
    alpha num_queries shuffle_ratio test_file mode class dataset root model_path test_batch_size chexpert_subset
    schedular.lr schedular.decay_rate schedular.cooldown_epochs
    """.split()
)
BACKBONES = {"ViT-B/16": "vit_b_16", "ViT-L/16": "vit_l_16"}


def backbone_name(base_model: str, block: int | None = None) -> str:
    """A released `base_model` by this project's name: `timm-NAME` at a block is `timm:NAME@BLOCK`."""
    if base_model.startswith("timm-"):
        return f"timm:{base_model.removeprefix('timm-')}" + (f"@{block}" if block is not None else "")
    return BACKBONES.get(base_model, base_model)


def translate_config(raw: dict) -> dict:
    """A released pre-training YAML, or a checkpoint's `config`, as this project's sections.

    A config of today stays as it is. An unknown key stays too, so that its loading reports it. ValueError that names
    every choice that this project does not offer (FIXED).
    """
    if not {"d_model", "schedular", "base_model", "res_base_model"} & set(raw):
        return raw
    flat: dict[str, Any] = {}
    for key, value in raw.items():
        nested = key in ("optimizer", "schedular") and isinstance(value, Mapping)
        flat |= {f"{key}.{name}": inner for name, inner in value.items()} if nested else {key: value}
    _refuse_other_choices(flat)
    sections: dict[str, Any] = {}
    recipe = {"recipe": "released"}
    unknown: dict[str, Any] = {}
    if "res_base_model" in flat:  # MedKLIP
        flat["base_model"] = flat.pop("res_base_model")
        sections = {"model": {"aspects": [DESCRIPTION], "contrastive": False}, "text": {"aspects": []}}
    if "base_model" in flat:
        sections.setdefault("model", {})["backbone"] = _backbone(flat)
    for key in (key for key in flat if key not in UNREAD and key not in FIXED):
        section, dot, name = KEYS.get(key, key.replace("schedular.", "schedule.")).rpartition(".")
        if dot and (key != "pretrained" or isinstance(flat[key], bool)):
            sections.setdefault(section, {})[name] = _value(key, flat[key])
        else:
            unknown[key] = flat[key]
    if "data" in sections:
        sections["data"]["source"] = "mimic"
    return recipe | sections | unknown


def _value(key: str, value: Any) -> Any:
    if key == "pretrained":
        return "imagenet" if value else "none"
    if key in ("disease_book", "concept_book") and isinstance(value, str):
        return [value]
    if key == "schedular.warmup_epochs" and isinstance(value, int):
        return value * STEPS_PER_WARMUP_EPOCH
    return value


def _backbone(flat: dict) -> str:
    """The name of the backbone; takes its keys out of the config."""
    base_model = str(flat.pop("base_model"))
    if not base_model.startswith("timm-"):
        return backbone_name(base_model)
    layers = flat.pop("layers", None)
    if not (block := re.fullmatch(r"\['blocks\.(\d+)'\]", str(layers))):
        raise ValueError(f"layers is {layers!r}; for {base_model} it names one block, such as ['blocks.9']")
    return backbone_name(base_model, int(block[1]))


def _refuse_other_choices(flat: Mapping[str, Any]) -> None:
    chosen = {key: flat.get(key, offered) for key, offered in FIXED.items()}
    if other := [
        f"{key} is {value!r}; of the released choices only {FIXED[key]!r} is offered"
        for key, value in chosen.items()
        if (value.lower() if isinstance(value, str) else value) != FIXED[key]
    ]:
        raise ValueError("; ".join(other))
