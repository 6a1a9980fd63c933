"""Models on disk: one folder of safetensors, JSON and text embeddings; released .pth files are converted.

A folder holds `mavl.json` (arguments of the network, its vocabulary, text settings, hashes of books, versions),
`model.safetensors` (weights, with epoch and step in its metadata), `bank.safetensors` (the text vectors of the
training) and, for a text encoder of random weights, `text_encoder/`. An image encoder of transformers has its config
and preprocessing in `image_encoder/`. The folders of fine-tuned models (mavl.checkpoint.finetuned) name their kind and
hold no text.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from mavl.backbones import Preprocessing
from mavl.backbones.adapters import merge_adapters
from mavl.backbones.transformers import PREFIX, TransformersBackbone
from mavl.backbones.weights import not_a_model
from mavl.checkpoint.about import ABOUT, check_about
from mavl.checkpoint.encoders import copy_text_encoder, stored_backbone, stored_encoder
from mavl.checkpoint.released import MAVL_KIND, CheckpointError, build, convert, non_finite, read_checkpoint
from mavl.config.settings import BUNDLED
from mavl.files import NotJSONError, read_json, refuse_link, whole_file, write_json
from mavl.model.mavl import MAVL
from mavl.provenance import provenance
from mavl.text.embeddings import FORMER, TextEmbeddings
from mavl.text.encoder import split_kind
from mavl.vocab import ANATOMIES, FINDINGS

FORMAT = 1
WEIGHTS, EMBEDDINGS, TEXT_ENCODER = "model.safetensors", "bank.safetensors", "text_encoder"
IMAGE_ENCODER = "image_encoder"
FORMER_NAMES = {"log_scale": "logit_scale"}
"""{name of a parameter in older model folders: its name today}"""
HUB = "hf://"
"""Before the id of a model of the Hugging Face hub, so that a mistyped folder is never asked for there."""
BUNDLED_FOLDER = Path(__file__).with_name("films")
"""Of the model BUNDLED."""
LAST, BEST = "last", "best"
"""The model folders in the folder of a run."""
RELEASED_TEXT = {
    "encoder": "emilyalsentzer/Bio_ClinicalBERT",
    "sep": False,
    "max_length": 128,
    "lower_case": True,
    **FORMER,
}


@dataclass(frozen=True)
class Pretrained:
    """A pre-trained model on the CPU, in evaluation mode.

    embeddings: None for released files, whose text vectors must be computed from books. findings: the vocabulary of its
    training, in order. text: keyword arguments of its text encoder, and the encoder's name as "encoder". about: the
    content of mavl.json and, as "state", the epoch, step and metrics of its weights. trained_on: as
    mavl.checkpoint.about.TrainedOn; None where the folder does not say.
    """

    model: MAVL
    embeddings: TextEmbeddings | None
    findings: tuple[str, ...]
    text: dict
    about: dict
    trained_on: dict | None = None


def save(
    folder: Path,
    model: MAVL,
    arguments: dict,
    embeddings: TextEmbeddings,
    text: dict,
    state: dict,
    config: dict,
    trained_on: dict | None = None,
    lora: dict | None = None,
) -> None:
    """Write a model folder. The weights are last, in one rename: after a kill the former or the new ones are there.

    Args:
        arguments: keyword arguments of MAVL.
        text: keyword arguments of the text encoder, and its name as "encoder"; a folder is copied.
        state: epoch, step, metrics.
        config: the settings of the run.
        trained_on: as mavl.checkpoint.about.TrainedOn.
        lora: of mavl.config.training.LoraSettings, where the backbone has adapters.
    """
    make_folder(folder)
    encoder = Path(split_kind(text["encoder"])[1])
    if encoder.is_dir():
        copy_text_encoder(encoder, folder / TEXT_ENCODER)
        text = text | {"encoder": TEXT_ENCODER}
    embeddings.save(folder / EMBEDDINGS)
    about = {
        "model": arguments,
        "preprocessing": model.preprocessing.to_dict(),
        "text": text,
        "findings": embeddings.findings,
        "aspects": embeddings.aspects,
        "anatomies": embeddings.anatomies,
        "books": embeddings.about["books"],
        "config": config,
        "trained_on": trained_on,
    } | ({"lora": lora} if lora else {})
    write_model(folder, model, about, state)


def make_folder(folder: Path) -> None:
    """Make the folder of a model, if there is none; OutsideError for a link, whose target would be written."""
    refuse_link(folder)
    folder.mkdir(parents=True, exist_ok=True)


def write_model(folder: Path, model: Any, about: dict, state: dict) -> None:
    """`about`, with the format and the versions, then the weights, with `state` in their metadata.

    Of what `torch.compile` returns, the model inside is written, so that its tensors have the names of a plain model.
    A backbone of transformers is named by the folder with its files, from which it can be built without its source.
    """
    model = getattr(model, "_orig_mod", model)
    if isinstance(backbone := model.backbone, TransformersBackbone):
        refuse_link(folder / IMAGE_ENCODER)
        backbone.save_files(folder / IMAGE_ENCODER)
        about = about | {"model": about["model"] | {"backbone": PREFIX + IMAGE_ENCODER}}
    write_json(folder / ABOUT, {"format": FORMAT, **about, "provenance": provenance()})
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with whole_file(folder / WEIGHTS, "wb") as file:  # not by save_file, whose files only their owner may read
        file.write(serialize(tensors, {"state": json.dumps(state)}))


def add_operating_points(folder: Path, points: dict) -> None:
    """Write operating points, as mavl.checkpoint.about.OperatingPoints, into mavl.json of a model folder."""
    refuse_link(folder)
    about = read_about(folder)
    check_about(about | {"operating_points": points}, folder / ABOUT)
    stored = read_json(folder / ABOUT)
    write_json(folder / ABOUT, {**stored, "operating_points": points})


def load(source: str | Path) -> Pretrained:
    """A model folder, a released .pth, a hub id or BUNDLED -> Pretrained."""
    model, about, path = read_model(source, [MAVL_KIND])
    embeddings, text = None, FORMER | about["text"]
    if path.is_dir():
        embeddings = TextEmbeddings.load(path / EMBEDDINGS)
        if names := non_finite({"vectors": embeddings.vectors, "anatomy_vectors": embeddings.anatomy_vectors}):
            raise CheckpointError(f"{path / EMBEDDINGS}: damaged: NaN or infinite values in {names}")
        _check_same_names(path, about["findings"], embeddings.findings, "findings")
        _check_same_names(path, cast(MAVL, model).aspects, embeddings.aspects, "aspects")
        _check_same_names(path, about.get("anatomies") or ANATOMIES, embeddings.anatomies, "anatomies")
        text["encoder"] = stored_encoder(path, text["encoder"])
    return Pretrained(cast(MAVL, model), embeddings, tuple(about["findings"]), text, about, about.get("trained_on"))


def read_model(source: str | Path, kinds: Collection[str]) -> tuple[nn.Module, dict, Path]:
    """The network in a model folder, a released .pth or a hub id, in evaluation mode; what is stored on it; its path.

    kinds: those of mavl.checkpoint.released.NETWORKS that are accepted. CheckpointError for another kind, and for a
    file, a key or a part of the weights that is missing or damaged or does not fit.
    """
    path = find(source)
    about, weights = _read_released(path) if path.is_file() else read_folder(path)
    if about["kind"] not in kinds:
        raise CheckpointError(f"{path}: a model of kind {about['kind']!r}; expected {' or '.join(kinds)}")
    model: Any = build(about["kind"], about["model"], weights, str(path))
    stored = {key: value for key, value in about["preprocessing"].items() if key != "equalize"}
    try:
        model.backbone.preprocessing = Preprocessing.from_dict(stored)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: preprocessing: {error}") from error
    return model.eval(), about, path


def _check_same_names(folder: Path, stated: Sequence[str], held: Sequence[str], what: str) -> None:
    """CheckpointError where the description of a model and its text embeddings do not name the same, in one order."""
    if differing := [pair for pair in zip_longest(stated, held) if len(set(pair)) > 1]:
        first, other = differing[0]
        raise CheckpointError(
            f"{folder}: the {what} of {ABOUT} and of {EMBEDDINGS} differ, first {first!r} and {other!r}: files of two "
            "models? Copy the folder again"
        )


def find(source: str | Path) -> Path:
    """The file or folder itself, the folder that a hub id was downloaded to, or that of BUNDLED.

    CheckpointError for a file of weights alone and for the folder of a run, with the path to use instead.
    """
    path = BUNDLED_FOLDER if source == BUNDLED else Path(source)
    if path.suffix == ".safetensors" and path.is_file():
        raise CheckpointError(f"{source}: give the folder that holds it, not the file")
    if (path / BEST / ABOUT).is_file() and not (path / ABOUT).exists():
        raise CheckpointError(f"{source}: the folder of a run, not of a model; its best one is {path / BEST}")
    if path.exists():
        return path
    if not str(source).startswith(HUB):
        fix = f"a model of the Hugging Face hub is written {HUB}OWNER/NAME"
        raise CheckpointError(f"{source}: no such file{'' if path.suffix == '.pth' else f' or folder; {fix}'}")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(source).removeprefix(HUB)))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{source}: not available from the hub ({type(error).__name__})") from error


def read_about(folder: Path) -> dict:
    """The content of mavl.json, with the kind of the model; CheckpointError for another format."""
    if not (folder / ABOUT).exists():
        raise CheckpointError(f"{folder}: not a model folder, {ABOUT} is missing")
    try:
        about = read_json(folder / ABOUT)
    except NotJSONError as error:
        reason = not_a_model(folder / ABOUT)
        raise CheckpointError(f"{folder / ABOUT}: {reason}" if reason else f"{error}; copy it again") from error
    found = about.get("format") if isinstance(about, dict) else type(about).__name__
    if found != FORMAT or isinstance(found, bool):
        raise CheckpointError(f"{folder / ABOUT}: format {found!r}; this version reads {FORMAT}")
    about = {"kind": MAVL_KIND} | about
    check_about(about, folder / ABOUT)
    return about


def read_folder(folder: Path) -> tuple[dict, dict[str, Tensor]]:
    """What is stored on the model of a folder, and its weights, with adapters merged into their layers."""
    about = read_about(folder)
    about["model"] = about["model"] | stored_backbone(folder, about["model"])
    files = [WEIGHTS, EMBEDDINGS] if about["kind"] == MAVL_KIND else [WEIGHTS]
    for name in files:
        if not (folder / name).exists():
            raise CheckpointError(f"{folder}: not a model folder, {name} is missing")
    try:
        weights = {FORMER_NAMES.get(name, name): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
        with safe_open(folder / WEIGHTS, framework="pt") as file:
            about["state"] = json.loads((file.metadata() or {}).get("state", "{}"))
        if lora := about.get("lora"):
            weights = merge_adapters(weights, lora["rank"], lora["alpha"])
    except (SafetensorError, OSError, ValueError) as error:
        reason = not_a_model(folder / WEIGHTS) or f"damaged ({error}); copy it again"
        raise CheckpointError(f"{folder / WEIGHTS}: {reason}") from error
    former = {"image_size": about["model"].get("image_size", 224)}  # of folders that were written without preprocessing
    about["preprocessing"] = about.get("input") or about.get("preprocessing") or former
    return about, weights


def _read_released(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """As of a model folder. A released file holds neither names of the outputs of a classifier nor preprocessing."""
    state, config = read_checkpoint(path)
    try:
        kind, arguments, weights = convert(state, config, str(path))
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = f"its config or its parameters are not those of a released model ({error})"
        raise CheckpointError(f"{path}: {reason}") from error
    image_size = 224 if kind == MAVL_KIND else config.get("image_res", 224)
    names = FINDINGS if kind == MAVL_KIND else [f"class {number + 1}" for number in range(arguments.get("classes", 1))]
    text = RELEASED_TEXT | ({"encoder": config["text_encoder"]} if "text_encoder" in config else {})
    about = {"kind": kind, "model": arguments, "findings": names, "text": text, "released_file": path.name}
    check_about(about | {"input": {}}, path)
    return about | {"preprocessing": {"image_size": image_size, "equalize": False}, "config": config}, weights
