"""The released YAML format, translated into this project's sections."""

import re
from collections.abc import Mapping

from mavl.vocab import DESCRIPTION

# the release's decoder has a dropout of 0.1 whatever its config says; `dropout` is that of the whole feature vectors
MODEL_KEYS = {
    "d_model": "width",
    "N": "layers",
    "H": "heads",
    "dropout": "feature_dropout",
    "self_attention": "self_attention",
    "image_res": "image_size",
}
TEXT_KEYS = {"text_encoder": "encoder", "disease_book": "descriptions", "concept_book": "aspects"}
DATA_KEYS = {
    "train_file": "train_file",
    "valid_file": "valid_file",
    "label_file": "label_file",
    "batch_size": "batch_size",
    "num_workers": "workers",
}
TRAIN_KEYS = {"cl_global": "contrastive_weight"}
SCHEDULE_KEYS = {"epochs": "epochs", "min_lr": "min_lr", "warmup_lr": "warmup_lr", "warmup_epochs": "warmup_steps"}
STEPS_PER_WARMUP_EPOCH = 100

# what this project always does; the release could do otherwise
FIXED = {
    "decoder": "cross",
    "attribute_set_size": 2,
    "no_cl": False,
    "exclude_class": False,
    "none_location": False,
    "optimizer.opt": "adamw",
    "schedular.sched": "cosine",
}
UNREAD_KEYS = frozenset(
    """
    model patch_size num_sentences num_tokens vision_width fea_width embed_dim temp mlm_probability queue_size momentum
    alpha num_queries shuffle_ratio test_file mode class dataset root model_path test_batch_size chexpert_subset
    """.split()
)
UNREAD_SCHEDULE_KEYS = frozenset({"lr", "decay_rate", "cooldown_epochs"})
BACKBONES = {"ViT-B/16": "vit_b_16", "ViT-L/16": "vit_l_16"}


def is_released_config(raw: Mapping) -> bool:
    """Whether a YAML mapping is in the released format (flat, with `schedular` or `d_model`)."""
    return bool({"d_model", "schedular", "base_model", "res_base_model"} & set(raw))


def backbone_name(base_model: str, block: int | None = None) -> str:
    """A released `base_model` by this project's name: `timm-NAME` at a block is `timm:NAME@BLOCK`."""
    if base_model.startswith("timm-"):
        return f"timm:{base_model.removeprefix('timm-')}" + (f"@{block}" if block is not None else "")
    return BACKBONES.get(base_model, base_model)


def translate_config(raw: dict) -> dict:
    """A released pre-training YAML, or a checkpoint's `config`, as this project's sections.

    Keys that no code of the release read (UNREAD_KEYS) are dropped; any other unknown key stays, so that it is
    reported. ValueError for a choice that this project does not offer (FIXED).
    """
    if not is_released_config(raw):
        return raw
    _refuse_other_choices(raw)
    rest = {key: value for key, value in raw.items() if key not in UNREAD_KEYS and key not in FIXED}
    sections = {
        "model": _take(rest, MODEL_KEYS),
        "text": _take(rest, TEXT_KEYS),
        "data": _take(rest, DATA_KEYS),
        "train": _take(rest, TRAIN_KEYS),
    }
    model, text, data = sections["model"], sections["text"], sections["data"]
    if "res_base_model" in rest:  # MedKLIP
        model |= {"backbone": rest.pop("res_base_model"), "aspects": [DESCRIPTION], "contrastive": False}
        text.setdefault("aspects", [])
    elif "base_model" in rest:
        model["backbone"] = _backbone(rest)
    for book in ("descriptions", "aspects"):
        if isinstance(text.get(book), str):
            text[book] = [text[book]]
    if data:
        data["source"] = "mimic"
    sections |= _recipe(rest)
    return {name: values for name, values in sections.items() if values} | rest


def _take(rest: dict, names: Mapping[str, str]) -> dict:
    return {ours: rest.pop(theirs) for theirs, ours in names.items() if theirs in rest}


def _backbone(rest: dict) -> str:
    base_model = str(rest.pop("base_model"))
    if not base_model.startswith("timm-"):
        return backbone_name(base_model)
    layers = rest.pop("layers", None)
    if not (block := re.fullmatch(r"\['blocks\.(\d+)'\]", str(layers))):
        raise ValueError(f"layers is {layers!r}; for {base_model} it names one block, such as ['blocks.9']")
    return backbone_name(base_model, int(block[1]))


def _recipe(rest: dict) -> dict:
    """Initialisation, optimizer and schedule. A released warm-up `epoch` was a stair of 100 steps."""
    sections: dict = {}
    if isinstance(rest.get("pretrained"), bool):
        sections["init"] = {"backbone": "imagenet" if rest.pop("pretrained") else "none"}
    if isinstance(rest.get("optimizer"), dict):
        sections["optimizer"] = {key: value for key, value in rest.pop("optimizer").items() if key != "opt"}
    if isinstance(rest.get("schedular"), dict):
        released = {k: v for k, v in rest.pop("schedular").items() if k not in UNREAD_SCHEDULE_KEYS | {"sched"}}
        schedule = _take(released, SCHEDULE_KEYS)
        if isinstance(schedule.get("warmup_steps"), int):
            schedule["warmup_steps"] *= STEPS_PER_WARMUP_EPOCH
        sections["schedule"] = schedule | released
    return sections


def _refuse_other_choices(raw: Mapping) -> None:
    for key, offered in FIXED.items():
        section, _, name = key.rpartition(".")
        values = raw.get(section) if section else raw
        chosen = values.get(name, offered) if isinstance(values, Mapping) else offered
        if (chosen.lower() if isinstance(chosen, str) else chosen) != offered:
            raise ValueError(f"{key} is {chosen!r}; of the released choices only {offered!r} is offered")
