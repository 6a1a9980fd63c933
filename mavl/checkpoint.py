"""Models on disk: one folder of safetensors, JSON and the bank; released .pth files are converted on the way in.

A folder holds `mavl.json` (how to build the model, its vocabulary, text settings, book hashes, versions),
`model.safetensors` (weights; its metadata says of which epoch and step), `bank.safetensors` (the text vectors it was
trained with) and, when the text encoder was drawn from a seed, `text_encoder/`.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from mavl import released
from mavl.bank import Bank
from mavl.model import MAVL
from mavl.provenance import provenance
from mavl.vocab import ANATOMIES, FINDINGS

FORMAT = 1
ABOUT, WEIGHTS, BANK, TEXT_ENCODER = "mavl.json", "model.safetensors", "bank.safetensors", "text_encoder"
RELEASED_TEXT = {"encoder": "emilyalsentzer/Bio_ClinicalBERT", "sep": False, "max_length": 128, "lower_case": True}


class CheckpointError(ValueError):
    """A source that holds no usable model; the message names it and what is wrong."""


@dataclass(frozen=True)
class Pretrained:
    """A model as it was saved. bank is None for released files, whose text vectors must be built from books.

    findings: the vocabulary it was trained with, in order; text: keyword arguments of its TextEncoder; about: all the rest.
    """

    model: MAVL
    bank: Bank | None
    findings: tuple[str, ...]
    text: dict
    about: dict


def save(folder: Path, model: MAVL, arguments: dict, bank: Bank, text: dict, state: dict, config: dict) -> None:
    """Write a model folder. The weights go last and in one rename: a kill leaves the former weights or the new ones.

    arguments: what MAVL was built with; text: what its TextEncoder was built with; state: epoch, step, metrics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = dict(text)
    encoder = Path(text["encoder"])
    if encoder.is_dir() and not (folder / TEXT_ENCODER).exists():
        shutil.copytree(encoder, folder / TEXT_ENCODER)
    if (folder / TEXT_ENCODER).exists():
        text["encoder"] = TEXT_ENCODER
    about = {
        "format": FORMAT,
        "model": arguments,
        "text": text,
        "findings": bank.findings,
        "aspects": bank.aspects,
        "anatomies": ANATOMIES,
        "books": bank.about["books"],
        "provenance": provenance(),
        "config": config,
    }
    _replace(folder / ABOUT, lambda draft: draft.write_text(json.dumps(about, indent=2) + "\n"))
    if not (folder / BANK).exists():
        bank.save(folder / BANK)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    _replace(folder / WEIGHTS, lambda draft: save_file(tensors, draft, metadata={"state": json.dumps(state)}))


def load(source: str | Path) -> Pretrained:
    """A model folder, a released .pth, or a hub id -> Pretrained, on the CPU, in evaluation mode."""
    path = Path(source)
    if path.is_file():
        return _load_released(path)
    if not path.is_dir():
        path = _download(str(source))
    return _load_folder(path)


def _load_released(path: Path) -> Pretrained:
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: give the folder that holds it, not the file")
    state, config = released.read_checkpoint(path)
    arguments, state = released.convert(state, config, str(path))
    model = MAVL(**arguments)
    model.load_state_dict(state)
    text = RELEASED_TEXT | ({"encoder": config["text_encoder"]} if "text_encoder" in config else {})
    about = {"model": arguments, "released_file": path.name, "config": config}
    return Pretrained(model.eval(), None, FINDINGS, text, about)


def _load_folder(folder: Path) -> Pretrained:
    for name in (ABOUT, WEIGHTS, BANK):
        if not (folder / name).exists():
            raise CheckpointError(f"{folder}: not a model folder, {name} is missing")
    about = json.loads((folder / ABOUT).read_text())
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{folder / ABOUT}: format {about.get('format')!r}; this version reads {FORMAT}")
    try:
        state = load_file(folder / WEIGHTS)
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            about["state"] = json.loads((file.metadata() or {}).get("state", "{}"))
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: damaged ({error}); copy it again") from error
    model = MAVL(**about["model"])
    released.check_state(state, model.state_dict(), str(folder / WEIGHTS))
    model.load_state_dict(state)
    text = dict(about["text"])
    if (folder / text["encoder"]).is_dir():
        text["encoder"] = str(folder / text["encoder"])
    return Pretrained(model.eval(), Bank.load(folder / BANK), tuple(about["findings"]), text, about)


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(hub_id))
    except (OSError, ValueError, HFValidationError) as error:
        raise CheckpointError(
            f"{hub_id}: no such file or folder, and not to be had from the hub ({type(error).__name__})"
        ) from error


def _replace(path: Path, write) -> None:
    """Write beside the path, then rename over it: readers see the old file or the new one, never a part."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    write(draft)
    os.replace(draft, path)
