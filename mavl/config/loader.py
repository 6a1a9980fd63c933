"""Typed configuration: YAML and overrides in, one resolved YAML out, and every mistake of both reported at once.

Here are the base of every section and the types of values that several sections have.

settings = load(PretrainSettings, Path("configs/MAVL_resnet.yaml"), ["optimizer.lr=3e-4"])
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mavl.config import former
from mavl.config.document import Document, Dumper, Keys, yaml_reason
from mavl.config.errors import complaints, show
from mavl.files import DEEPEST, shipped, write_text
from mavl.progress import note
from mavl.vocab import LONGEST_NAME, is_name

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of every config section: frozen, no unknown keys, no infinite or undefined numbers.

    A nested section that is given in part takes the rest from its own class, so defaults belong on its fields.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Share = Annotated[float, Field(ge=0, le=1)]
ImageSize = Annotated[int, Field(ge=32, le=8192)]
"""Side of a model's input in pixels."""
Size = Annotated[int, Field(ge=1, le=65536)]
"""A width, a number of layers and the like: what a machine could hold."""
Workers = Annotated[int, Field(ge=0, le=1024)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Folder = Annotated[str, Field(min_length=1)]


def valid_pattern(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a valid regular expression ({error})") from error
    return pattern


Pattern = Annotated[str, AfterValidator(valid_pattern)]
"""A regular expression."""


def _has_one_group(pattern: str) -> str:
    if re.compile(valid_pattern(pattern)).groups != 1:
        raise ValueError(f"the pattern {pattern!r} needs one (group), the part of the name that is the patient")
    return pattern


Values = TypeVar("Values", bound=Sequence)


def refuse_repeated(values: Values, what: str) -> Values:
    """The names or numbers; ValueError for those that are given more than once."""
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{what} named twice: {', '.join(map(str, twice))}")
    return values


def _fit_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"{name[:LONGEST_NAME]!r} is no name: 1 to {LONGEST_NAME} printable characters")
    return name


Name = Annotated[str, AfterValidator(_fit_name)]
"""Of a finding or an anatomy, in the 75 × 51 of MAVL or not."""

GroupPattern = Annotated[str, AfterValidator(_has_one_group)]
"""A regular expression whose one (group) finds the patient in a name."""


class ConfigError(ValueError):
    """All that is wrong with a configuration; `problems` has a line for each, `source` is the file they are in."""

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
    """The settings in a YAML file, or the defaults, with `a.b=value` overrides (values are YAML) put over it in order.

    Types are strict: an int serves as a float, but no text serves as a number and no number as an int or a flag.
    translate: turns the mapping of a file in an older format into today's; it may raise ValueError. ConfigError has
    every problem of the file and of the overrides.
    """
    path = None if path is None else shipped(path)
    source = "settings without a file" if path is None else str(path)
    lines, raw, problems = ({}, {}, []) if path is None else _read(path)
    if translate is not None:
        try:
            if (today := translate(raw)) is not raw:
                raw, lines = today, {}  # the lines are those of other keys
        except ValueError as error:
            raise ConfigError(source, [*problems, str(error)]) from error

    applied: list[tuple[Keys, str]] = []  # (the keys that it sets, the override)
    for text in overrides:
        name = f"--override {text if len(text) <= 80 else text[:79] + '…'}"
        try:
            applied.append((_apply(raw, text), name))
        except ValueError as error:
            problems.append(f"{name}: {error}")

    for text in former.translate(raw):
        note(f"note: {source}: {text}")
    try:
        # By way of JSON, since in its strict mode pydantic takes lists for tuples and text for paths, as YAML needs.
        settings = schema.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        refused = complaints(schema, error, raw)
        problems += [_where(keys, lines, applied) + complaint for keys, complaint in refused.items()]
        raise ConfigError(source, problems) from error
    if problems:
        raise ConfigError(source, problems)
    return settings


def dump(settings: Settings, path: Path) -> None:
    """Write settings, defaults included, as YAML that `load` reads back equal. The file is whole or absent."""
    content = settings.model_dump(mode="json", round_trip=True, by_alias=True)
    readable = json.dumps(content, ensure_ascii=False).isprintable()  # PyYAML loses a bare U+0085 on the way back
    path.parent.mkdir(parents=True, exist_ok=True)
    options: dict = {"default_flow_style": None, "sort_keys": False, "allow_unicode": readable, "width": 120}
    write_text(path, yaml.dump(content, Dumper=Dumper, **options))


def _read(path: Path) -> tuple[dict[Keys, int], dict, list[str]]:
    """The lines, the mapping and the problems of a YAML file; ConfigError where there is no mapping at all."""
    try:
        document = Document(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file"]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"is not YAML: {yaml_reason(error)}"]) from error
    problems = [f"line {line}: {text}" for line, text in document.problems]
    if not isinstance(document.data, dict):
        holds = "is empty" if document.data is None else f"holds {show(document.data)}"
        raise ConfigError(str(path), problems or [f"{holds}; expected a mapping of keys to values"])
    return document.lines, document.data, problems


def _apply(raw: dict, text: str) -> Keys:
    """Put an override `a.b=value` into a mapping and make the sections on its way; returns its keys.

    ValueError for one that is wrong.
    """
    dotted, equals, value = text.partition("=")
    keys = tuple(dotted.strip().split("."))
    if not equals or not all(keys) or len(keys) > DEEPEST:
        raise ValueError("expected key=value, such as optimizer.lr=1e-5")
    if not value.strip():
        raise ValueError("no value; write null for none, '' for empty text")
    try:
        document = Document(value)
    except yaml.YAMLError as error:
        raise ValueError(f"the value is not YAML: {yaml_reason(error)}") from error
    if document.problems:
        raise ValueError("; ".join(text for _, text in document.problems))
    for depth, key in enumerate(keys[:-1], start=1):
        if raw.get(key) is None:
            raw[key] = {}
        if not isinstance(raw[key], dict):
            raise ValueError(f"{'.'.join(keys[:depth])} is {show(raw[key])}, no section; override it whole")
        raw = raw[key]
    raw[keys[-1]] = document.data
    return keys


def _where(keys: Keys, lines: dict[Keys, int], applied: list[tuple[Keys, str]]) -> str:
    """'--override …: ' or 'line 7: ', whichever gave the value at these keys, or else the nearest section around it."""
    makers = [text for of, text in applied if of == keys[: len(of)]][-1:]
    if not makers and keys and keys not in lines:  # a section that only overrides make
        makers = [text for of, text in applied if of[: len(keys)] == keys]
    parents = (keys[:depth] for depth in range(len(keys), 0, -1))
    line = next((f"line {lines[parent]}" for parent in parents if parent in lines), "")
    return f"{' '.join(makers) or line}: ".removeprefix(": ")


def cache_folder(name: str | None) -> Path | None:
    """The folder of a cache; None for none, and, with a note, where `~` stands for no folder."""
    try:
        return Path(name).expanduser() if name else None
    except RuntimeError:
        note(f"{name}: this user has no home directory: nothing is kept in this cache")
        return None
