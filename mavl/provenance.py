"""What a result was computed with: package versions, git revision, machine."""

import platform
import subprocess
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mavl", "torch", "torchvision", "transformers", "accelerate", "timm", "numpy", "pillow", "pydicom")


def provenance() -> dict:
    """{"python", "platform", "packages": {name: version}, "git": revision or None, "+" behind it for changed files}."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "git": _git_revision(),
    }


def _git_revision() -> str | None:
    file = Path(__file__).resolve()
    git = partial(subprocess.run, cwd=file.parent, capture_output=True, text=True, check=True, timeout=10)
    try:
        git(["git", "ls-files", "--error-unmatch", file.name])  # else it is installed inside a repository of others
        return git(["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
