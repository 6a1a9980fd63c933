"""Configs of former versions: keys and values that have another name today."""

from typing import Any

KEYS = {
    "train.recompute": "activation_checkpointing",
    "sensitivity.variants": "wordings",
    "bank_cache": "text_cache",
}
"""{former key: today's, in the same section}, in any config of the project."""

VALUES = {("text.encoder", "drawn"): "random"}
"""{(key, former value): today's value}."""

_NO_STORE = (
    "a store is a folder of images now: make it again by prepare_data.py store, and give its folder as root (--root)"
)
REMOVED = {"store": _NO_STORE, "data.store": _NO_STORE}
"""{former key: why it is refused}; null, as former configs hold it, is left out."""


def translate(raw: dict[str, Any]) -> list[str]:
    """Rename former keys and values of a config in place; returns a note for each.

    Where a config has both the former and today's key, today's counts.
    """
    notes = []
    for former, today in KEYS.items():
        section, key = _section(raw, former)
        if key in section:
            section.setdefault(today, section.pop(key))
            notes.append(f"{former} is called {former.removesuffix(key)}{today} now")
    for (name, former), today in VALUES.items():
        section, key = _section(raw, name)
        if section.get(key) == former:
            section[key] = today
            notes.append(f"{name}: {former} is called {today} now")
    for name in REMOVED:
        section, key = _section(raw, name)
        if section.get(key, "") is None:
            del section[key]
    return notes


def _section(raw: dict[str, Any], dotted: str) -> tuple[dict[str, Any], str]:
    """The mapping that holds the last part of a dotted key, empty where there is none, and that part."""
    *parents, key = dotted.split(".")
    section: Any = raw
    for parent in parents:
        section = section.get(parent) if isinstance(section, dict) else None
    return (section if isinstance(section, dict) else {}), key
