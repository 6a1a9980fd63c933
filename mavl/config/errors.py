"""What pydantic refuses in a config, in words: the key, its line, what was expected, the nearest valid name."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mavl.config.document import Keys
from mavl.vocab import unknown_name


class Override(NamedTuple):
    """An applied `--override`: its text, the keys it sets, the value."""

    text: str
    keys: Keys
    value: Any


_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text (in quotes, if it looks like something else)",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
}
"""What pydantic's error types ask for, in the words of YAML; for other types its own message is as good."""


def complaints(schema: type[BaseModel], invalid: ValidationError) -> dict[Keys, str]:
    """One line for each key that pydantic refused; the branches of a union are told as alternatives."""
    subjects: dict[Keys, str] = {}
    reasons: dict[Keys, dict[str, None]] = {}
    errors = invalid.errors(include_url=False)
    for error in errors:
        if error["type"] == "too_short" and any(_is_inside(other["loc"], error["loc"]) for other in errors):
            continue  # pydantic counts the items that it accepted, and has told of the others
        keys, members = _follow(schema, error["loc"])
        kind, value = error["type"], error["input"]
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            tag = error["ctx"]["discriminator"].strip("'")
            keys, members = (*keys, tag), [kind for member in members for kind in _members(_child(member, tag))]
            kind, value = ("missing", None) if kind == "union_tag_not_found" else ("literal_error", value[tag])
        choices = _choices(members)
        if kind == "missing":
            reason = f"missing; expected {alternatives(choices)}" if choices else "missing"
        elif kind == "extra_forbidden":
            reason = _unknown_key(schema, keys[-1], siblings=_follow(schema, error["loc"][:-1])[1])
        elif kind == "literal_error" and choices:
            reason = _wrong_choice(value, choices)
        else:
            reason = _expectation(kind, error["msg"])
        silent = kind == "missing" or (isinstance(value, dict) and not kind.endswith("_type"))
        subjects[keys] = ".".join(keys) + ("" if silent else f" = {show(value)}")
        reasons.setdefault(keys, {})[reason] = None
    return {
        keys: f"{subject}: ".removeprefix(": ") + " or ".join(reasons[keys]).replace(" or expected ", " or ")
        for keys, subject in subjects.items()
    }


def _is_inside(location: tuple, outer: tuple) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def _expectation(kind: str, message: str) -> str:
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    if message.startswith("Input should be "):
        expected = message.removeprefix("Input should be ")
        return "expected " + ("a value " if expected.startswith(("greater", "less")) else "") + expected
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _wrong_choice(value: Any, choices: list) -> str:
    near = difflib.get_close_matches(str(value), map(str, choices), n=1)
    return f"expected {alternatives(choices)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _unknown_key(schema: type[BaseModel], name: str, siblings: list) -> str:
    """Where the key may have been meant: in another section under this very name, or here under a similar one."""
    elsewhere = [".".join(keys) for keys in _all_keys(schema) if keys[-1] == name]
    if elsewhere:
        return f"unknown key {name!r}; did you mean {alternatives(elsewhere)}?"
    return unknown_name("key", name, [known for section in siblings for known in _fields(section)])


def where(keys: Keys, root: yaml.Node | None, applied: list[Override]) -> str:
    """'--override …: ' or 'line 7: ', whichever gave the value at these keys, or else the nearest section around it."""
    for override in reversed(applied):
        if keys[: len(override.keys)] == override.keys:
            return f"--override {override.text}: "
    line, depth = None, 0
    while root is not None and depth < len(keys):
        line_of_child, root = _entry(root, keys[depth])
        if root is not None:
            line, depth = line_of_child, depth + 1
    makers = [f"--override {override.text}" for override in applied if override.keys[: len(keys)] == keys]
    if makers and depth < len(keys):
        return " ".join(makers) + ": "
    return "" if line is None else f"line {line}: "


def _entry(node: yaml.Node, key: str) -> tuple[int | None, yaml.Node | None]:
    """The line and the value of one key of a mapping, or of one index of a list."""
    if isinstance(node, yaml.MappingNode):
        pairs = [(name, value) for name, value in node.value if name.value == key]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(value, value) for value in node.value[int(key) : int(key) + 1]]
    else:
        pairs = []
    return (pairs[-1][0].start_mark.line + 1, pairs[-1][1]) if pairs else (None, None)


def show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def alternatives(values: Sequence) -> str:
    return " or ".join(filter(None, [", ".join(map(repr, values[:-1])), repr(values[-1])]))


# The schema, walked ---------------------------------------------------------------------------------------------------


def _members(annotation: Any) -> list:
    """The types that an annotation allows, None aside."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for argument in get_args(annotation) for member in _members(argument)]
    return [] if annotation in (None, NoneType) else [annotation]


def _choices(members: list) -> list:
    """The values that literal types allow."""
    return [value for member in members if get_origin(member) is Literal for value in get_args(member)]


def _fields(section: Any) -> dict[str, Any]:
    """The annotation of each key of a section; nothing for what is no section."""
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return {}
    return {field.alias or name: field.annotation for name, field in section.model_fields.items()}


def _child(member: Any, key: str | int) -> Any:
    """The annotation of what stands in a section, list or dict under a key; None where that is not known."""
    if fields := _fields(member):
        return fields.get(key)
    origin, arguments = get_origin(member), get_args(member)
    if not arguments or not isinstance(origin, type):
        return None
    return arguments[-1] if issubclass(origin, Mapping) else arguments[0]


def _follow(schema: type[BaseModel], location: tuple[str | int, ...]) -> tuple[Keys, list]:
    """A location of pydantic's as keys of the file, and the types that may stand there.

    Where there are several, pydantic's location goes on with the name of the one it tried, which is no key.
    """
    keys, members = [], [schema]
    for part in location:
        if len(members) > 1:
            members = [member for member in members if _is_branch(member, part)]
        elif part != "[key]":
            keys.append(str(part))
            members = _members(_child(members[0], part)) if members else []
    return tuple(keys), members


def _is_branch(member: Any, label: str | int) -> bool:
    tags = _choices([kind for annotation in _fields(member).values() for kind in _members(annotation)])
    return label in tags or str(label).partition("[")[0] == getattr(member, "__name__", None)


def _all_keys(section: Any, prefix: Keys = (), around: tuple = ()) -> Iterator[Keys]:
    """Every key of a schema; a star stands for any index of a list and any key of a dict."""
    for name, annotation in _fields(section).items():
        yield (*prefix, name)
        pending = [((*prefix, name), member) for member in _members(annotation)]
        while pending:
            keys, member = pending.pop()
            if _fields(member) and member not in around:
                yield from _all_keys(member, keys, (*around, section))
            elif get_origin(member) is not Literal:
                pending += [((*keys, "*"), inner) for item in get_args(member) for inner in _members(item)]
