"""The folders of the package: imports only go down, folders of one layer do not import each other, and no circles."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "mavl"
LAYERS = (
    ("vocab", "files", "progress", "provenance", "cpu", "metrics"),
    ("config", "text", "backbones"),
    ("data", "model", "llm"),
    ("checkpoint", "report"),
    ("scorers",),
    ("train", "evaluate", "predict", "prepare", "concepts"),
)
"""From the ground up, as docs/architecture.md draws them."""
LAZY_EXCEPTION = ("mavl.model.mavl", "mavl.checkpoint")
"""MAVL.from_pretrained, inside the function."""
MOST_FILES, MOST_ENTRIES = 12, 21


def name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> Iterator[str]:
    """Modules of the package that a module imports, anywhere in its code."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mavl":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "mavl")


EDGES = {module: sorted({other for other in imports(module) if other != module}) for module in MODULES}
LAYER_OF = {folder: layer for layer, folders in enumerate(LAYERS) for folder in folders}


def folder(module: str) -> str:
    return module.split(".")[1]


def test_every_folder_has_a_layer():
    assert {folder(module) for module in MODULES if module != "mavl"} == set(LAYER_OF)


def test_imports_only_go_down():
    up = [
        f"{module} imports {other}"
        for module, others in EDGES.items()
        for other in others
        if "mavl" not in (module, other)
        and folder(module) != folder(other)
        and LAYER_OF[folder(other)] >= LAYER_OF[folder(module)]
        and (module, other) != LAZY_EXCEPTION
    ]
    assert up == []


def test_no_circle_but_the_written_exception():
    """Modules are removed while they import none that is left; a circle would remain."""
    left = {
        module: {other for other in others if (module, other) != LAZY_EXCEPTION and other != "mavl"}
        for module, others in EDGES.items()
        if module != "mavl"
    }
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    assert left == {}


def test_folders_are_small():
    folders = {path.parent for path in MODULES.values()}
    assert len([path for path in PACKAGE.iterdir() if path.name not in ("__pycache__", "py.typed")]) <= MOST_ENTRIES
    large = {
        folder.relative_to(PACKAGE).as_posix(): len(files)
        for folder in folders
        if len(files := [path for path in folder.glob("*.py") if not path.stem.startswith("__")]) > MOST_FILES
    }
    assert large == {}
