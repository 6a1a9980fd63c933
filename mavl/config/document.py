"""YAML 1.2 to plain data: no tags, no key twice, and the line of every value."""

import re
from typing import Any

import yaml

from mavl.files import DEEPEST

Keys = tuple[str, ...]

TOO_DEEP = f"nested more than {DEEPEST} levels deep, or an alias inside what it repeats"

MOST_VALUES, MOST_CHARACTERS = 100_000, 1 << 22
"""More values and more text than any config has. Aliases of aliases make billions from a few lines."""

_TAG = "tag:yaml.org,2002:"
_KINDS = {
    yaml.ScalarNode: ("null", "bool", "int", "float", "str"),
    yaml.SequenceNode: ("seq",),
    yaml.MappingNode: ("map",),
}
_CORE_SCHEMA = [
    (_TAG + kind, re.compile(pattern))
    for kind, pattern in {
        "null": r"(~|null|Null|NULL|)$",
        "bool": r"(true|True|TRUE|false|False|FALSE)$",
        "int": r"([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$",
        "float": r"([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$",
        "merge": r"<<$",
    }.items()
]
"""(tag, pattern) of plain scalars (YAML 1.2.2, section 10.3), and `<<`, which only YAML 1.1 has."""


class _Loader(yaml.SafeLoader):
    """PyYAML reads YAML 1.1, where `1e-5` is text, `no` is false, `010` is 8, `12:30` is 750, `2024-01-01` a date."""

    yaml_implicit_resolvers = {None: _CORE_SCHEMA}  # noqa: RUF012, the name and the type are PyYAML's

    def __init__(self, text: bytes | str):
        super().__init__(text)
        self.problems: list[tuple[int, str]] = []

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping with the keys that `<<` adds. A key that is given twice becomes a problem."""
        node = super().compose_mapping_node(anchor)
        first_line: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                reason = "a key must be text, not a list or a mapping"
                raise yaml.constructor.ConstructorError(None, None, reason, key.start_mark)
            line = key.start_mark.line + 1
            if key.value in first_line:
                self.problems.append((line, f"{key.value}: given twice, first on line {first_line[key.value]}"))
            first_line.setdefault(key.value, line)
        self.flatten_mapping(node)
        node.value = [*{key.value: (key, value) for key, value in node.value}.values()]  # merges of merges repeat keys
        return node


def _whole_number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)


_Loader.add_constructor(_TAG + "int", _whole_number)


class Dumper(yaml.SafeDumper):
    """Quotes texts that YAML 1.1 or 1.2 reads as something else."""

    yaml_implicit_resolvers = yaml.SafeDumper.yaml_implicit_resolvers | {None: _CORE_SCHEMA}


class Document:
    """One parsed YAML text.

    data: plain data, None for an empty text. lines: {keys: line of the value}, where an index of a list counts as a
    key. problems: (line, what is wrong). Raises yaml.YAMLError for a text that is not YAML.
    """

    def __init__(self, text: bytes | str):
        self.lines: dict[Keys, int] = {}
        self._characters = 0
        if len(text) > MOST_CHARACTERS:
            raise yaml.YAMLError(f"more than {MOST_CHARACTERS:,} characters")
        self._loader = _Loader(text)
        self.problems = self._loader.problems
        try:
            root = self._loader.get_single_node()
            self.data = None if root is None else self._build(root, ())
        except RecursionError:
            raise yaml.YAMLError(TOO_DEEP) from None
        finally:
            self._loader.dispose()

    def _build(self, node: yaml.Node, keys: Keys) -> Any:
        self.lines.setdefault(keys, node.start_mark.line + 1)
        self._characters += len(node.value) if isinstance(node, yaml.ScalarNode) else 0
        if len(self.lines) > MOST_VALUES or self._characters > MOST_CHARACTERS:
            most = f"{MOST_VALUES:,} values or {MOST_CHARACTERS:,} characters"
            raise yaml.YAMLError(f"more than {most}, aliases counted")
        if len(keys) > DEEPEST:
            raise yaml.YAMLError(TOO_DEEP)
        kind = node.tag.removeprefix(_TAG)
        reason = f"the tag {node.tag.replace(_TAG, '!!')} is refused; a config is plain YAML"
        if kind in _KINDS[type(node)]:
            if isinstance(node, yaml.SequenceNode):
                return [self._build(item, (*keys, str(index))) for index, item in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode):
                self.lines |= {(*keys, key.value): key.start_mark.line + 1 for key, _ in node.value}
                return {key.value: self._build(value, (*keys, key.value)) for key, value in node.value}
            try:
                return self._loader.construct_object(node)
            except (ValueError, KeyError):  # an explicit tag may be wrong, as in `!!int abc`
                reason = f"{node.value!r} is no {kind}"
        self.problems.append((node.start_mark.line + 1, ": ".join([*filter(None, [".".join(keys)]), reason])))
        return None


def yaml_reason(error: yaml.YAMLError) -> str:
    """The place and the cause of a YAML error, on one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error).splitlines()[0]
    mark = error.problem_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem} {error.context or ''}".strip()
