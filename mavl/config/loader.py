"""Typed configuration: YAML and overrides in, one resolved YAML out, and every mistake of both reported at once.

A script declares what it needs as a subclass of `Settings`, and reads it with

    settings = load(TrainSettings, Path("configs/MAVL_resnet.yaml"), ["optimizer.lr=3e-4"])

A file means what it seems to mean: `1e-5` is a number, `no` and `2024-01-01` are text (only true and false are
booleans), keys are text, a key stands once, and there are no tags, so a file can only ever build plain data.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mavl.config import former
from mavl.config.document import Document, Dumper, yaml_reason
from mavl.config.errors import Override, complaints, show, where

S = TypeVar("S", bound="Settings")


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

    applied: list[Override] = []
    for text in overrides:
        try:
            override = _parse_override(text)
            _apply(raw, override)
        except ValueError as error:
            problems.append(f"--override {text}: {error}")
        else:
            applied.append(override)

    for note in former.translate(raw):
        print(f"note: {source}: {note}", file=sys.stderr)
    try:
        # By way of JSON, since in its strict mode pydantic takes lists for tuples and text for paths, as YAML needs.
        settings = schema.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        problems += [where(keys, root, applied) + text for keys, text in complaints(schema, error).items()]
    if problems:
        raise ConfigError(source, problems)
    return settings


def dump(settings: Settings, path: Path) -> None:
    """Write settings, defaults included, as YAML that `load` reads back equal. The file is whole or absent."""
    path = Path(path)
    content = settings.model_dump(mode="json", round_trip=True, by_alias=True)
    readable = json.dumps(content, ensure_ascii=False).isprintable()  # PyYAML loses a bare U+0085 on the way back
    text = yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=readable, width=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> tuple[yaml.Node, dict, list[str]]:
    """The root node, the mapping and the problems of a YAML file; ConfigError where there is no mapping at all."""
    try:
        document = Document(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file"]) from None
    except IsADirectoryError:
        raise ConfigError(str(path), ["is a folder; expected a YAML file"]) from None
    except OSError as error:
        raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError(str(path), [f"is not YAML: {yaml_reason(error)}"]) from error
    problems = [f"line {line}: {text}" for line, text in document.problems]
    if document.root is None:
        raise ConfigError(str(path), ["is empty; expected a mapping of keys to values"])
    if not isinstance(document.data, dict):
        problem = f"holds {show(document.data)}; expected a mapping of keys to values"
        raise ConfigError(str(path), problems or [problem])
    return document.root, document.data, problems


# Overrides ------------------------------------------------------------------------------------------------------------


def _parse_override(text: str) -> Override:
    """`a.b=value` taken apart; ValueError says what is wrong with it."""
    dotted, equals, value = text.partition("=")
    keys = tuple(dotted.strip().split("."))
    if not equals or not all(keys):
        raise ValueError("expected key=value, such as optimizer.lr=1e-5")
    try:
        document = Document(value)
    except yaml.YAMLError as error:
        raise ValueError(f"the value is not YAML: {yaml_reason(error)}") from error
    if document.problems:
        raise ValueError("; ".join(text for _, text in document.problems))
    if document.root is None:
        raise ValueError("no value; write null for none, '' for empty text")
    return Override(text, keys, document.data)


def _apply(raw: dict, override: Override) -> None:
    """Put an override into a mapping, making the sections on its way."""
    for depth, key in enumerate(override.keys[:-1], start=1):
        if raw.get(key) is None:
            raw[key] = {}
        if not isinstance(raw[key], dict):
            raise ValueError(f"{'.'.join(override.keys[:depth])} is {show(raw[key])}, no section; override it whole")
        raw = raw[key]
    raw[override.keys[-1]] = override.value
