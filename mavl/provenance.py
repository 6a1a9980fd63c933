"""What a result was computed with: package versions, git revision, machine."""

import platform
import subprocess
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mavl", "torch", "torchvision", "transformers", "accelerate", "timm", "numpy", "pillow", "pydicom")


def provenance() -> dict:
    """{"python", "platform", "packages": {name: version or None}, "git": revision or None, ending in "+" if dirty}."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_revision(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    file = Path(__file__).resolve()
    git = partial(subprocess.run, cwd=file.parent, capture_output=True, text=True, check=True, timeout=10)
    try:
        git(["git", "ls-files", "--error-unmatch", file.name])  # else another repository holds the installed package
        return git(["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
