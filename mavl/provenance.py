"""What a result was computed with: package versions, git revision, machine."""

import platform
import subprocess
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("mavl", "torch", "torchvision", "transformers", "accelerate", "timm", "numpy", "pillow", "pydicom")


def provenance() -> dict:
    """{"python", "platform", "packages": {name: version or None}, "git": revision or None, ending in "+" if dirty}."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_revision(),
    }


def training_images(about: dict[str, Any]) -> dict[str, Any] | None:
    """What a model folder's `about` says of its training images: {kind, list or source, images}; None if nothing.

    Folders that do not name them have the settings of their run, which name phantoms.
    """
    if isinstance(stated := about.get("trained_on"), dict):
        return stated
    config = about.get("config")
    data = config.get("data") if isinstance(config, dict) else None
    if isinstance(data, dict) and data.get("source") == "phantom":
        return {"kind": "phantom drawings", "source": "phantom", "images": data.get("train")}
    return None


def training_sentence(images: object) -> str:
    """A sentence about the training images of a model (`training_images`), empty if they are not known.

    >>> training_sentence({"kind": "phantom drawings", "source": "phantom", "images": 2000})
    'Trained on 2,000 phantom drawings, not on radiographs: its scores of real films mean nothing.'
    """
    if not isinstance(images, dict) or not isinstance(kind := images.get("kind"), str) or not kind:
        return ""
    number, source = images.get("images"), images.get("source") or images.get("list")
    text = f"Trained on {number:,} {kind}" if type(number) is int else f"Trained on {kind}"
    if "drawing" in kind or "phantom" in kind:
        return f"{text}, not on radiographs: its scores of real films mean nothing."
    return f"{text} of {source}." if isinstance(source, str) and source else f"{text}."


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
