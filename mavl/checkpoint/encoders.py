"""The files of the text and image encoder in a model folder: copied there, and found by the names in mavl.json."""

import os
import shutil
from pathlib import Path

from mavl.backbones.transformers import CONFIG, PREFIX
from mavl.checkpoint.about import ABOUT
from mavl.checkpoint.released import CheckpointError
from mavl.files import OutsideError, inside
from mavl.text.encoder import split_kind
from mavl.text.encoders.transformers import TransformerEncoder, encoder_files


def stored_encoder(folder: Path, name: str) -> str:
    """The name of a model's text encoder, or its path where it is in the folder.

    CheckpointError for a relative name that leads out of the folder.
    """
    _, inner = split_kind(name)
    if Path(inner).is_absolute():
        return name
    try:
        own = inside(folder, inner)
    except OutsideError as error:
        raise CheckpointError(f"{folder / ABOUT}: text.encoder: {error}") from error
    return str(own) if own.is_dir() else name


def stored_backbone(folder: Path, arguments: dict) -> dict[str, str]:
    """The backbone of transformers under a name by which it can be built, the path of its files; {} for another one.

    CheckpointError for a name that leads out of the folder or that has no files in it.
    """
    name = arguments.get("backbone", "")
    if not name.startswith(PREFIX):
        return {}
    try:
        config = inside(folder, f"{name.removeprefix(PREFIX)}/{CONFIG}")
    except OutsideError as error:
        raise CheckpointError(f"{folder / ABOUT}: model.backbone: {error}") from error
    if not config.is_file():
        raise CheckpointError(f"{folder}: not a model folder, {config.relative_to(folder)} is missing")
    return {"backbone": f"{PREFIX}{config.parent}"}


def copy_text_encoder(source: Path, target: Path) -> None:
    """Copy all files that are read, or nothing; do not copy the same encoder again."""
    if target.exists() and TransformerEncoder(str(target)).fingerprint == TransformerEncoder(str(source)).fingerprint:
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    for file in encoder_files(source):
        copy = draft / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(draft, target)
