"""Typed configuration: YAML and overrides in, one resolved YAML out, and every mistake of both reported at once.

A script declares what it needs as a subclass of `Settings`, and reads it with

    settings = load(TrainSettings, Path("configs/MAVL_resnet.yaml"), ["optimizer.lr=3e-4"])

A file means what it seems to mean: `1e-5` is a number, `no` and `2024-01-01` are text (only true and false are
booleans), keys are text, a key stands once, and there are no tags, so a file can only ever build plain data.
"""

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mavl.vocab import unknown_name

S = TypeVar("S", bound="Settings")
Keys = tuple[str, ...]


class Settings(BaseModel):
    """Base of every config section: frozen, no unknown keys, no infinite or undefined numbers.

    A nested section that is given in part takes the rest from its own class, so defaults belong on its fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ConfigError(ValueError):
    """All that is wrong with a configuration; `problems` has a line for each, `source` says whose they are."""

    def __init__(self, source: str, problems: Sequence[str]):
        super().__init__(source, problems)
        self.source, self.problems = source, list(problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return f"{self.source}: {self.problems[0]}"
        return "\n  ".join([f"{self.source}: {len(self.problems)} problems", *self.problems])


def load(
    schema: type[S],
    path: Path | None,
    overrides: Sequence[str] = (),
    translate: Callable[[dict], dict] | None = None,
) -> S:
    """The settings in a YAML file, with `a.b=value` overrides (values are YAML) put over it in order.

    Without a path the overrides stand on the schema's defaults. `translate` turns a file's mapping of an older format
    into today's, before the overrides, which always use today's keys; it may raise ValueError.
    Types are strict: an int serves as a float, but no text serves as a number and no number as an int or a flag.

    Raises ConfigError with every problem of the file and of the overrides.
    """
    source = "settings without a file" if path is None else str(path)
    root, raw, problems = (None, {}, []) if path is None else _read(Path(path))
    if translate is not None and path is not None:
        try:
            raw, root = translate(raw), None  # the lines of the file no longer tell where today's keys came from
        except ValueError as error:
            raise ConfigError(source, [*problems, str(error)]) from error

    applied: list[_Override] = []
    for text in overrides:
        try:
            override = _parse_override(text)
            _apply(raw, override)
        except ValueError as error:
            problems.append(f"--override {text}: {error}")
        else:
            applied.append(override)

    try:
        # By way of JSON, since in its strict mode pydantic takes lists for tuples and text for paths, as YAML needs.
        settings = schema.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        complaints = _complaints(schema, error)
        problems += [_where(keys, root, applied) + text for keys, text in complaints.items()]
    if problems:
        raise ConfigError(source, problems)
    return settings


def dump(settings: Settings, path: Path) -> None:
    """Write settings, defaults included, as YAML that `load` reads back equal. The file is whole or absent."""
    path = Path(path)
    content = settings.model_dump(mode="json", round_trip=True, by_alias=True)
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


# YAML to plain data ---------------------------------------------------------------------------------------------------

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {
    yaml.ScalarNode: {_TAG + kind for kind in ("null", "bool", "int", "float", "str")},
    yaml.SequenceNode: {_TAG + "seq"},
    yaml.MappingNode: {_TAG + "map"},
}
_IMPLICIT = {"null", "int", "float", "merge"}
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?$|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"
)


class _Loader(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, where `1e-5` is text, `no` a boolean and `2024-01-01` a date; here they are as in 1.2."""

    yaml_implicit_resolvers = {  # noqa: RUF012, the name and the type are PyYAML's
        first: [(tag, pattern) for tag, pattern in patterns if tag.removeprefix(_TAG) in _IMPLICIT]
        for first, patterns in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(yaml.SafeDumper):
    """Quotes what either reading of YAML would not take for text, and keeps short lists on a line."""

    def represent_sequence(self, tag, sequence, flow_style=None):
        flat = not any(isinstance(item, list | dict) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat)


_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))


class _Document:
    """One parsed YAML text: its `root` node (None when empty), its `data`, its `problems` as (line, what is wrong).

    Raises yaml.YAMLError where the text is not YAML.
    """

    def __init__(self, text: bytes | str):
        self.problems: list[tuple[int, str]] = []
        self._open: list[yaml.Node] = []
        self._checked: set[int] = set()
        self._loader = _Loader(text)
        try:
            self.root = self._loader.get_single_node()
            self.data = None if self.root is None else self._build(self.root, ())
        finally:
            self._loader.dispose()

    def _build(self, node: yaml.Node, keys: Keys) -> Any:
        if node.tag not in _PLAIN_TAGS[type(node)]:
            tag = node.tag.replace(_TAG, "!!")
            return self._refuse(node, keys, f"the tag {tag} is refused; a config is plain YAML")
        if any(node is parent for parent in self._open):
            return self._refuse(node, keys, "an alias stands inside what it repeats")
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._build_mapping(node, keys)
            if isinstance(node, yaml.SequenceNode):
                return [self._build(item, (*keys, str(index))) for index, item in enumerate(node.value)]
            return self._build_scalar(node, keys)
        finally:
            self._open.pop()

    def _build_scalar(self, node: yaml.ScalarNode, keys: Keys) -> Any:
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError):  # an explicit tag may be a lie, as in `!!int abc`
            return self._refuse(node, keys, f"{node.value!r} is no {node.tag.removeprefix(_TAG)}")

    def _build_mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        if id(node) not in self._checked:  # once, and before `<<` puts in keys that may well be there already
            self._checked.add(id(node))
            self._check_keys(node, keys)
            self._loader.flatten_mapping(node)
        return {
            key.value: self._build(value, (*keys, key.value))
            for key, value in node.value
            if isinstance(key, yaml.ScalarNode)
        }

    def _check_keys(self, node: yaml.MappingNode, keys: Keys) -> None:
        first_line: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, keys, "a key must be text, not a list or a mapping")
            elif key.value in first_line:
                self._refuse(key, (*keys, key.value), f"given twice, first on line {first_line[key.value]}")
            else:
                first_line[key.value] = line

    def _refuse(self, node: yaml.Node, keys: Keys, reason: str) -> None:
        prefix = f"{'.'.join(keys)}: " if keys else ""
        self.problems.append((node.start_mark.line + 1, prefix + reason))


def _read(path: Path) -> tuple[yaml.Node, dict, list[str]]:
    """The root node, the mapping and the problems of a YAML file; ConfigError where there is no mapping at all."""
    try:
        document = _Document(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file"]) from None
    except IsADirectoryError:
        raise ConfigError(str(path), ["is a folder; expected a YAML file"]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"is not YAML: {_yaml_reason(error)}"]) from error
    problems = [f"line {line}: {text}" for line, text in document.problems]
    if document.root is None:
        raise ConfigError(str(path), ["is empty; expected a mapping of keys to values"])
    if not isinstance(document.data, dict):
        problem = f"holds {_show(document.data)}; expected a mapping of keys to values"
        raise ConfigError(str(path), problems or [problem])
    return document.root, document.data, problems


def _yaml_reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).splitlines()[0]
    context = f" {error.context}" if error.context else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}"


# Overrides ------------------------------------------------------------------------------------------------------------


class _Override(NamedTuple):
    text: str
    keys: Keys
    value: Any


def _parse_override(text: str) -> _Override:
    """`a.b=value` taken apart; ValueError says what is wrong with it."""
    dotted, equals, value = text.partition("=")
    keys = tuple(dotted.strip().split("."))
    if not equals or not all(keys):
        raise ValueError("expected key=value, such as optimizer.lr=1e-5")
    try:
        document = _Document(value)
    except yaml.YAMLError as error:
        raise ValueError(f"the value is not YAML: {_yaml_reason(error)}") from error
    if document.problems:
        raise ValueError("; ".join(text for _, text in document.problems))
    if document.root is None:
        raise ValueError("no value; write null for none, '' for empty text")
    return _Override(text, keys, document.data)


def _apply(raw: dict, override: _Override) -> None:
    """Put an override into a mapping, making the sections on its way."""
    for depth, key in enumerate(override.keys[:-1], start=1):
        if raw.get(key) is None:
            raw[key] = {}
        if not isinstance(raw[key], dict):
            raise ValueError(f"{'.'.join(override.keys[:depth])} is {_show(raw[key])}, no section; override it whole")
        raw = raw[key]
    raw[override.keys[-1]] = override.value


# What is wrong, in words ----------------------------------------------------------------------------------------------

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


def _complaints(schema: type[Settings], invalid: ValidationError) -> dict[Keys, str]:
    """One line for each key that pydantic refused; the branches of a union are told as alternatives."""
    subjects: dict[Keys, str] = {}
    reasons: dict[Keys, dict[str, None]] = {}
    for error in invalid.errors(include_url=False):
        keys, members = _follow(schema, error["loc"])
        kind, value = error["type"], error["input"]
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            tag = error["ctx"]["discriminator"].strip("'")
            keys, members = (*keys, tag), [kind for member in members for kind in _members(_child(member, tag))]
            kind, value = ("missing", None) if kind == "union_tag_not_found" else ("literal_error", value[tag])
        choices = _choices(members)
        if kind == "missing":
            reason = f"missing; expected {_alternatives(choices)}" if choices else "missing"
        elif kind == "extra_forbidden":
            reason = _unknown_key(schema, keys[-1], siblings=_follow(schema, error["loc"][:-1])[1])
        elif kind == "literal_error" and choices:
            reason = _wrong_choice(value, choices)
        else:
            reason = _expectation(kind, error["msg"])
        silent = kind == "missing" or (isinstance(value, dict) and not kind.endswith("_type"))
        subjects[keys] = ".".join(keys) + ("" if silent else f" = {_show(value)}")
        reasons.setdefault(keys, {})[reason] = None
    return {
        keys: f"{subject}: ".removeprefix(": ") + " or ".join(reasons[keys]).replace(" or expected ", " or ")
        for keys, subject in subjects.items()
    }


def _expectation(kind: str, message: str) -> str:
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    if message.startswith("Input should be "):
        expected = message.removeprefix("Input should be ")
        return "expected " + ("a value " if expected.startswith(("greater", "less")) else "") + expected
    return message.removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _wrong_choice(value: Any, choices: list) -> str:
    near = difflib.get_close_matches(str(value), map(str, choices), n=1)
    return f"expected {_alternatives(choices)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _unknown_key(schema: type[Settings], name: str, siblings: list) -> str:
    """Where the key may have been meant: in another section under this very name, or here under a similar one."""
    elsewhere = [".".join(keys) for keys in _all_keys(schema) if keys[-1] == name]
    if elsewhere:
        return f"unknown key {name!r}; did you mean {_alternatives(elsewhere)}?"
    return unknown_name("key", name, [known for section in siblings for known in _fields(section)])


def _where(keys: Keys, root: yaml.Node | None, applied: list[_Override]) -> str:
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


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _alternatives(values: Sequence) -> str:
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


def _follow(schema: type[Settings], location: tuple[str | int, ...]) -> tuple[Keys, list]:
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
