"""The released YAML format, translated into this project's sections."""

from collections.abc import Mapping

from mavl.vocab import DESCRIPTION

MODEL_KEYS = {"d_model": "width", "N": "layers", "H": "heads", "dropout": "dropout", "self_attention": "self_attention"}
UNREAD_KEYS = frozenset(
    """
    model patch_size num_sentences num_tokens vision_width fea_width embed_dim temp mlm_probability queue_size momentum
    alpha decoder num_queries attribute_set_size shuffle_ratio exclude_class none_location no_cl test_file mode class
    dataset root model_path test_batch_size chexpert_subset
    """.split()
)


def is_released_config(raw: Mapping) -> bool:
    """Whether a YAML mapping is in the released format (flat, with `schedular` or `d_model`)."""
    return bool({"d_model", "schedular", "base_model", "res_base_model"} & set(raw))


def translate_config(raw: dict) -> dict:
    """A released pre-training YAML, or a checkpoint's `config`, as this project's sections.

    Keys that no code of the release read (UNREAD_KEYS) are dropped; any other unknown key stays, so that it is reported.
    """
    if not is_released_config(raw):
        return raw
    raw = {key: value for key, value in raw.items() if key not in UNREAD_KEYS}
    medklip = "res_base_model" in raw
    model = {ours: raw.pop(theirs) for theirs, ours in MODEL_KEYS.items() if theirs in raw}
    model["backbone"] = raw.pop("res_base_model", None) or raw.pop("base_model", "resnet50")
    if "image_res" in raw:
        model["image_size"] = raw.pop("image_res")
    if medklip:
        model |= {"aspects": [DESCRIPTION], "contrastive": False}
    text, data, train = {}, {}, {}
    for theirs, ours, many in (
        ("text_encoder", "encoder", False),
        ("disease_book", "descriptions", True),
        ("concept_book", "aspects", True),
    ):
        if theirs in raw:
            value = raw.pop(theirs)
            text[ours] = [value] if many else value
    if medklip:
        text.setdefault("aspects", [])
    for key in ("train_file", "valid_file", "label_file"):
        if key in raw:
            data[key] = raw.pop(key)
    if data:
        data["source"] = "mimic"
    for theirs, section, ours in (
        ("batch_size", data, "batch_size"),
        ("cl_global", train, "contrastive_weight"),
    ):
        if theirs in raw:
            section[ours] = raw.pop(theirs)
    sections = {"model": model, "text": text, "data": data, "train": train} | _recipe(raw)
    return {name: values for name, values in sections.items() if values} | raw


def _recipe(raw: dict) -> dict:
    """Optimizer and schedule. A released warm-up `epoch` was a stair of 100 steps."""
    sections: dict = {}
    if "pretrained" in raw:
        sections["init"] = {"backbone": "imagenet" if raw.pop("pretrained") else "none"}
    if optimizer := raw.pop("optimizer", None):
        optimizer = dict(optimizer)
        optimizer.pop("opt", None)
        sections["optimizer"] = optimizer
    if released := raw.pop("schedular", None):
        schedule = {key: released[key] for key in ("epochs", "min_lr", "warmup_lr") if key in released}
        if "warmup_epochs" in released:
            schedule["warmup_steps"] = 100 * released["warmup_epochs"]
        sections["schedule"] = schedule
    return sections
