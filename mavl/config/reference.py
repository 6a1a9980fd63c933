"""docs/configuration.md, the reference of all keys, from the schemas.

python -m mavl.config.reference
"""

from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path
from pkgutil import resolve_name

from mavl.config.errors import show
from mavl.config.evaluation import GroundingSettings, ZeroShotSettings
from mavl.config.finetune import FinetuneClsSettings, FinetuneSegSettings
from mavl.config.loader import Settings
from mavl.config.settings import PretrainSettings
from mavl.files import write_text

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"

SCHEMAS: dict[str, type[Settings]] = {
    "train_mavl.py": PretrainSettings,
    "zero_shot_classify.py": ZeroShotSettings,
    "zero_shot_ground.py": GroundingSettings,
    "finetune_cls.py": FinetuneClsSettings,
    "finetune_seg.py": FinetuneSegSettings,
    "configs/benchmarks": resolve_name("mavl.data.benchmarks.benchmark:Benchmark"),
}
"""{script or folder of the configs: schema}. The last is found by its name, since config imports nothing of data."""

INTRODUCTION = """# Every key of every config

Made from the schemas by `python -m mavl.config.reference`. `--config FILE` names a YAML 1.2 file with any of these
keys; the others have their defaults. `--override a.b=value` sets a key on the command line. Unknown keys and values
that do not fit end the run before it starts, with all mistakes at once, each with its line. The last part has the
keys of a benchmark; [data.md](data.md) says how to write one.
"""

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def reference() -> str:
    """The page: for each schema its sections with what their keys mean, and a table of keys, types and defaults."""
    return "\n".join([INTRODUCTION, *(line for name, schema in SCHEMAS.items() for line in _script(name, schema))])


def _script(name: str, schema: type[Settings]) -> Iterator[str]:
    root = schema.model_json_schema()
    yield f"## {name}\n"
    for section, node in _sections(root, root):
        source = node["properties"].get("source", {}).get("const")
        if section:
            yield f"### {section}" + (f" (`source: {source}`)" if source else "") + "\n"
        yield from _explained(node["title"])
        if rows := _keys(section, node):
            yield "| key | value | default |\n| --- | --- | --- |"
            required = node.get("required", [])
            for key, of in rows.items():
                default = "required" if key.rpartition(".")[2] in required else f"`{_shown(of.get('default'))}`"
                yield f"| `{key}` | {_kind(of, root)} | {default} |"
            yield ""


def _explained(title: str, base: type[Settings] = Settings) -> Iterator[str]:
    """The docstrings of the class of this name, those of the classes above it first."""
    for schema in base.__subclasses__():
        if schema.__name__ == title:
            lineage = schema.__mro__[: schema.__mro__.index(Settings)]
            yield from (cleandoc(each.__doc__) + "\n" for each in reversed(lineage) if each.__doc__)
        yield from _explained(title, schema)


def _sections(node: dict, root: dict, name: str = "") -> Iterator[tuple[str, dict]]:
    """(dotted name, schema) of a section and of those in it; several of one name where a key chooses among them.

    A mapping of names to sections, or a list of them, is one of its key.
    """
    yield name, node
    for key, of in node.get("properties", {}).items():
        for choice in _alternatives(of, root):
            several = choice.get("additionalProperties", choice.get("items"))
            for inner in _alternatives(several, root) if isinstance(several, dict) else [choice]:
                if "properties" in inner:
                    yield from _sections(inner, root, f"{name}.{key}".removeprefix("."))


def _keys(section: str, node: dict) -> dict[str, dict]:
    """{dotted key: schema} of the keys of a section that are no sections."""
    leaves = {key: of for key, of in node["properties"].items() if "$ref" not in of and "discriminator" not in of}
    return {f"{section}.{key}".removeprefix("."): of for key, of in leaves.items()}


def _alternatives(of: dict, root: dict) -> list[dict]:
    """The schemas that a value may have, with references resolved."""
    if "$ref" in of:
        return _alternatives(root["$defs"][of["$ref"].rpartition("/")[2]], root)
    choices = of.get("anyOf") or of.get("oneOf")
    return [inner for choice in choices for inner in _alternatives(choice, root)] if choices else [of]


def _kind(of: dict, root: dict) -> str:
    """A value in words, such as "number > 0" or "`a`, `b`"."""
    if choices := of.get("anyOf") or of.get("oneOf"):
        return " or ".join(_kind(choice, root) for choice in choices)
    if "$ref" in of:
        return _kind(root["$defs"][of["$ref"].rpartition("/")[2]], root)
    if values := of.get("enum") or ([of["const"]] if "const" in of else []):
        return ", ".join(f"`{value}`" for value in values)
    if "properties" in of:
        return "section"
    kind = {"integer": "whole number", "string": "text", "boolean": "true or false", "null": "null"}
    if of.get("type") == "array":
        return f"list of {_kind(of.get('items', {}), root)}"
    if of.get("type") == "object":
        return f"mapping of names to {_kind(of.get('additionalProperties', {}), root)}"
    bounds = [f"{sign} {of[name]:g}" for name, sign in _BOUNDS.items() if name in of]
    name = str(of.get("type", "any"))
    return " ".join([kind.get(name, name), *bounds])


def _shown(value: object) -> str:
    return show(value).replace("|", "\\|")


if __name__ == "__main__":
    write_text(PAGE, reference())
