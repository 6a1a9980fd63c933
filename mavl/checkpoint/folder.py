"""Models on disk: one folder of safetensors, JSON and text embeddings; released .pth files are converted.

A folder holds `mavl.json` (how to build the model, its vocabulary, text settings, book hashes, versions),
`model.safetensors` (weights; its metadata says of which epoch and step), `bank.safetensors` (the text vectors it was
trained with) and, when the text encoder was drawn from a seed, `text_encoder/`. The folders of fine-tuned models
(mavl.checkpoint.finetuned) are of the same make, without text, and name their kind.
"""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from mavl.backbones import Preprocessing
from mavl.checkpoint import released
from mavl.model.mavl import MAVL
from mavl.provenance import provenance
from mavl.text.bert import BertEncoder
from mavl.text.embeddings import TextEmbeddings
from mavl.vocab import ANATOMIES, FINDINGS

FORMAT = 1
MAVL_KIND = "mavl"
ABOUT, WEIGHTS, EMBEDDINGS, TEXT_ENCODER = "mavl.json", "model.safetensors", "bank.safetensors", "text_encoder"
FORMER_NAMES = {"log_scale": "logit_scale"}
"""Parameters that older model folders hold under another name: {their name: today's}."""
LAST, BEST = "last", "best"
"""The model folders in the folder of a run."""
RELEASED_TEXT = {"encoder": "emilyalsentzer/Bio_ClinicalBERT", "sep": False, "max_length": 128, "lower_case": True}


class CheckpointError(ValueError):
    """A source that holds no usable model; the message names it and what is wrong."""


@dataclass(frozen=True)
class Pretrained:
    """A model as it was saved. embeddings is None for released files, whose text vectors must be built from books.

    findings: the vocabulary it was trained with, in order; text: keyword arguments of its TextEncoder, with its name as
    "encoder"; about: all the rest.
    """

    model: MAVL
    embeddings: TextEmbeddings | None
    findings: tuple[str, ...]
    text: dict
    about: dict


def save(
    folder: Path, model: MAVL, arguments: dict, embeddings: TextEmbeddings, text: dict, state: dict, config: dict
) -> None:
    """Write a model folder. The weights go last and in one rename: a kill leaves the former weights or the new ones.

    arguments: keyword arguments of MAVL; text: those of its text encoder; state: epoch, step, metrics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = Path(text["encoder"])
    if encoder.is_dir():
        _copy_text_encoder(encoder, folder / TEXT_ENCODER)
    about = {
        "model": arguments,
        "preprocessing": model.preprocessing.to_dict(),
        "text": text | ({"encoder": TEXT_ENCODER} if encoder.is_dir() else {}),
        "findings": embeddings.findings,
        "aspects": embeddings.aspects,
        "anatomies": ANATOMIES,
        "books": embeddings.about["books"],
        "config": config,
    }
    write_about(folder, about)
    embeddings.save(folder / EMBEDDINGS)
    write_weights(folder, model, state)


def write_about(folder: Path, about: dict) -> None:
    """`about` into the model folder, with the format and the versions."""
    about = {"format": FORMAT, **about, "provenance": provenance()}
    _replace(folder / ABOUT, lambda draft: draft.write_text(json.dumps(about, indent=2) + "\n"))


def write_weights(folder: Path, model: nn.Module, state: dict) -> None:
    """The model's tensors into the model folder, with `state` (epoch, step, metrics) beside them."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # not save_file, whose files none but their owner may read
    _replace(folder / WEIGHTS, lambda draft: draft.write_bytes(serialize(tensors, {"state": json.dumps(state)})))


def load(source: str | Path) -> Pretrained:
    """A model folder, a released .pth, or a hub id -> Pretrained, on the CPU, in evaluation mode."""
    path = find(source)
    return _load_released(path) if path.is_file() else _load_folder(path)


def find(source: str | Path) -> Path:
    """The file or folder itself, or the folder that a hub id was downloaded to.

    CheckpointError for what is near to a model, and none: weights alone, the folder of a run.
    """
    path = Path(source)
    if path.suffix == ".safetensors" and path.is_file():
        raise CheckpointError(f"{source}: give the folder that holds it, not the file")
    if (path / BEST / ABOUT).is_file() and not (path / ABOUT).exists():
        raise CheckpointError(f"{source}: the folder of a run, not of a model; its best one is {path / BEST}")
    if not path.exists() and path.suffix == ".pth":  # a file that is meant, not a hub id: no need to ask the hub
        raise CheckpointError(f"{source}: no such file")
    return path if path.exists() else _download(str(source))


def _load_released(path: Path) -> Pretrained:
    state, config = released.read_checkpoint(path)
    arguments, state = released.convert(state, config, str(path))
    model = MAVL(**arguments)
    model.load_state_dict(state)
    text = RELEASED_TEXT | ({"encoder": config["text_encoder"]} if "text_encoder" in config else {})
    about = {"model": arguments, "released_file": path.name, "config": config}
    model.backbone.preprocessing = Preprocessing()
    return Pretrained(model.eval(), None, FINDINGS, text, about)


def _load_folder(folder: Path) -> Pretrained:
    if (kind := kind_of(folder)) != MAVL_KIND:
        raise CheckpointError(f"{folder}: a fine-tuned {kind}, where a pre-trained MAVL or MedKLIP is needed")
    about, state = read_folder(folder, ("model", "text", "findings"), (ABOUT, WEIGHTS, EMBEDDINGS))
    try:
        model = MAVL(**about["model"])
    except TypeError as error:  # a keyword that is not, or no longer, one of MAVL's
        raise CheckpointError(f"{folder / ABOUT}: {error}") from error
    released.check_state(state, model.state_dict(), str(folder / WEIGHTS))
    model.load_state_dict(state)
    former = {"image_size": about["model"].get("image_size", 224)}  # before preprocessing was stored, it was ImageNet's
    model.backbone.preprocessing = stored_preprocessing(about.get("preprocessing", former), folder)
    text = dict(about["text"])
    if (folder / text["encoder"]).is_dir():
        text["encoder"] = str(folder / text["encoder"])
    return Pretrained(model.eval(), TextEmbeddings.load(folder / EMBEDDINGS), tuple(about["findings"]), text, about)


def stored_preprocessing(stored: dict, source: Path) -> Preprocessing:
    """The preprocessing that a model folder states; CheckpointError for one that cannot be."""
    try:
        return Preprocessing.from_dict(stored)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: preprocessing: {error}") from error


def kind_of(folder: Path) -> str:
    """The kind of model in a model folder; MAVL_KIND, unless it names another one."""
    return read_about(folder / ABOUT).get("kind", MAVL_KIND) if (folder / ABOUT).exists() else MAVL_KIND


def read_folder(
    folder: Path, needed: Sequence[str], files: Sequence[str] = (ABOUT, WEIGHTS)
) -> tuple[dict, dict[str, Tensor]]:
    """What a model folder tells of its model, with the `state` beside the weights, and the weights.

    CheckpointError where a file, a needed key or a part of the weights is missing.
    """
    for name in files:
        if not (folder / name).exists():
            raise CheckpointError(f"{folder}: not a model folder, {name} is missing")
    about = read_about(folder / ABOUT)
    if missing := [key for key in needed if key not in about]:
        raise CheckpointError(f"{folder / ABOUT}: {', '.join(missing)} missing; copy it again")
    try:
        weights = {FORMER_NAMES.get(name, name): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            about["state"] = json.loads((file.metadata() or {}).get("state", "{}"))
    except SafetensorError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: damaged ({error}); copy it again") from error
    return about, weights


def read_about(path: Path) -> dict:
    """The JSON of a model folder, of a format that this version reads."""
    try:
        about = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error}); copy it again") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else type(about).__name__
        raise CheckpointError(f"{path}: format {found!r}; this version reads {FORMAT}")
    return about


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
    try:
        write(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _copy_text_encoder(source: Path, target: Path) -> None:
    """Whole or not at all, and not again where the same encoder lies already."""
    if target.exists() and BertEncoder(str(target)).fingerprint == BertEncoder(str(source)).fingerprint:
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copytree(source, draft, dirs_exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(draft, target)
