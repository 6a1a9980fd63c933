"""Configs of former versions: keys and values that have another name today."""

from typing import Any

KEYS = {
    "train.recompute": "train.activation_checkpointing",
    "sensitivity.variants": "sensitivity.wordings",
    "bank_cache": "text_cache",
}
"""{former key: today's key}, in any config of the project."""

VALUES = {("text.encoder", "drawn"): "random"}
"""{(key, former value): today's value}."""


def translate(raw: dict[str, Any]) -> list[str]:
    """Rename former keys and values of a config in place; returns a note for each.

    Where a config has both the former and today's key, today's counts.
    """
    notes = []
    for former, today in KEYS.items():
        section, key = _section(raw, former), former.rpartition(".")[2]
        if section is not None and key in section:
            value = section.pop(key)
            section.setdefault(today.rpartition(".")[2], value)
            notes.append(f"{former} is called {today} now")
    for (name, former), today in VALUES.items():
        section, key = _section(raw, name), name.rpartition(".")[2]
        if section is not None and section.get(key) == former:
            section[key] = today
            notes.append(f"{name}: {former} is called {today} now")
    return notes


def _section(raw: dict[str, Any], dotted: str) -> dict[str, Any] | None:
    """The mapping that holds the last part of a dotted key, None where there is none."""
    section: Any = raw
    for key in dotted.split(".")[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else None
