"""YAML to plain data: no tags, no duplicate keys, numbers and booleans as in YAML 1.2, problems by their line."""

import re
from typing import Any

import yaml

Keys = tuple[str, ...]

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


class Dumper(yaml.SafeDumper):
    """Quotes what either reading of YAML would not take for text, and keeps short lists on a line."""

    def represent_sequence(self, tag, sequence, flow_style=None):
        flat = not any(isinstance(item, list | dict) for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=flat)


_Loader.add_implicit_resolver(_TAG + "bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
for _side in (_Loader, Dumper):
    _side.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+.0123456789"))


class Document:
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


def yaml_reason(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).splitlines()[0]
    context = f" {error.context}" if error.context else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}{context}"
