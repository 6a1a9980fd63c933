"""What pydantic refuses in a config, in words: the key, the value, what was expected, the nearest valid name."""

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mavl.config.document import Keys
from mavl.config.former import REMOVED
from mavl.vocab import unknown_name

_EXPECTED = {
    "a valid number": "a number",
    "a valid integer": "a whole number",
    "a valid boolean": "true or false",
    "a valid string": "text (in quotes, if it looks like something else)",
    "a valid array": "a list",
    "a valid dictionary": "a section of keys and values",
    "an object": "a section of keys and values",
}
"""pydantic's words for JSON types: those of YAML."""


def complaints(schema: type[BaseModel], invalid: ValidationError, raw: Any) -> dict[Keys, str]:
    """{keys: one line on the value there}, for all that pydantic refused in `raw`.

    What the types of a union expect becomes alternatives in one line.
    """
    json_schema, errors = schema.model_json_schema(), invalid.errors(include_url=False)
    places: dict[Keys, list] = {}
    for keys, choices in _places(json_schema, json_schema.get("$defs", {})):
        places.setdefault(keys, []).extend(choices)
    found: dict[Keys, list[str]] = {}
    for error in errors:
        if error["type"] == "too_short" and any(other["loc"][:-1] == error["loc"] for other in errors):
            continue  # pydantic counts only the items that it accepted
        keys, kind, value = _place(error, raw)
        subject = ".".join(keys) + (f" = {show(value)}" if keys and kind != "missing" else "")
        found.setdefault(keys, [subject]).append(_reason(keys, kind, value, error["msg"], places))
    return {
        keys: f"{subject}: ".removeprefix(": ") + " or ".join(dict.fromkeys(reasons)).replace(" or expected ", " or ")
        for keys, (subject, *reasons) in found.items()
    }


def _place(error: ErrorDetails, raw: Any) -> tuple[Keys, str, Any]:
    """The keys of an error in `raw`, its kind and the value. Parts of pydantic's location may be types of a union."""
    keys, kind = [], error["type"]
    value: Any = error["input"]
    for part in error["loc"]:
        children: Any = dict(enumerate(raw)) if isinstance(raw, list) else raw
        if isinstance(children, dict) and part in children:
            raw = children[part]
            keys.append(str(part))
    if kind == "missing":
        return (*keys, str(error["loc"][-1])), kind, None
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = error.get("ctx", {})["discriminator"].strip("'")
        return (*keys, tag), "literal_error" if tag in value else "missing", value.get(tag)
    return tuple(keys), kind, value


def _reason(keys: Keys, kind: str, value: Any, message: str, places: dict[Keys, list]) -> str:
    choices = [choice for place, of in places.items() if _matches(keys, place) for choice in of]
    if kind == "missing":
        return f"missing; expected {alternatives(choices)}" if choices else "missing"
    if kind == "literal_error":
        near = difflib.get_close_matches(str(value), map(str, choices), n=1)
        return f"expected {alternatives(choices)}" + (f"; did you mean {near[0]!r}?" if near else "")
    if kind == "extra_forbidden":
        if reason := REMOVED.get(".".join(keys)):
            return reason
        if elsewhere := [".".join(place) for place in places if place[-1:] == keys[-1:]]:
            return f"unknown key {keys[-1]!r}; did you mean {alternatives(elsewhere)}?"
        here = [place[-1] for place in places if place and _matches(keys[:-1], place[:-1])]
        return unknown_name("key", keys[-1], here)
    expected = message.removeprefix("Input should be ")
    if expected == message:
        return message.removeprefix("Value error, ")
    return f"expected {'a value ' * expected.startswith(('greater', 'less'))}{_EXPECTED.get(expected, expected)}"


def show(value: Any) -> str:
    """A value of a config on one line of at most 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def alternatives(values: Sequence) -> str:
    """'a', 'b' or 'c'"""
    return " or ".join(filter(None, [", ".join(map(repr, values[:-1])), repr(values[-1])]))


def _places(node: dict, definitions: dict, keys: Keys = ()) -> Iterator[tuple[Keys, list]]:
    """(keys, choices of a literal) of all that a JSON schema describes; `*` is any index of a list and any free key."""
    node = definitions.get(node.get("$ref", "").rpartition("/")[2], node)
    yield keys, node.get("enum", [node["const"]] if "const" in node else [])
    for branch in node.get("anyOf", []) + node.get("oneOf", []):
        yield from _places(branch, definitions, keys)
    children = [(name, child) for name, child in node.get("properties", {}).items()]
    children += [("*", node[inner]) for inner in ("items", "additionalProperties") if isinstance(node.get(inner), dict)]
    for name, child in children + [("*", child) for child in node.get("prefixItems", [])]:
        yield from _places(child, definitions, (*keys, name))


def _matches(keys: Keys, place: Keys) -> bool:
    return len(keys) == len(place) and all(part in ("*", key) for key, part in zip(keys, place, strict=True))
