"""Fine-tuned models on disk: folders like a pre-trained model's (mavl.checkpoint.folder), or released .pth files.

`KINDS` lists the kinds of fine-tuned models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from mavl.checkpoint.folder import (
    CheckpointError,
    find,
    kind_of,
    read_folder,
    stored_preprocessing,
    write_about,
    write_weights,
)
from mavl.checkpoint.released import check_state, read_checkpoint
from mavl.checkpoint.released_finetuned import convert_classifier, convert_segmenter, released_kind
from mavl.model.classifier import Classifier
from mavl.model.unet import UNet

Converter = Callable[[Mapping[str, Tensor], str], tuple[dict, dict[str, Tensor]]]

KINDS: dict[str, tuple[type[nn.Module], Converter]] = {
    "classifier": (Classifier, convert_classifier),
    "segmenter": (UNet, convert_segmenter),
}
"""kind: (network, function from the parameters of a released file to the network's keyword arguments and state dict)"""


@dataclass(frozen=True)
class Finetuned:
    """A model as it was saved, on the CPU in evaluation mode.

    findings: of its outputs, in order. equalize: whether histograms are equalized before its preprocessing. about: the
    content of mavl.json.
    """

    kind: str
    model: nn.Module
    findings: tuple[str, ...]
    equalize: bool
    about: dict


def save(
    folder: Path,
    kind: str,
    model: nn.Module,
    arguments: dict,
    findings: tuple[str, ...],
    equalize: bool,
    state: dict,
    config: dict,
) -> None:
    """Write a model folder; the weights are written last.

    Args:
        arguments: keyword arguments that the network was built with.
        equalize: whether histograms were equalized before the model's preprocessing.
        state: epoch, step, metrics.
        config: the settings of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = model.preprocessing.to_dict() | {"equalize": equalize}
    about = {"kind": kind, "model": arguments, "findings": findings, "input": shown, "config": config}
    write_about(folder, about)
    write_weights(folder, model, state)


def source_kind(source: str | Path) -> str:
    """mavl.checkpoint.folder.MAVL_KIND or one of KINDS: what a model folder, released .pth or hub id holds."""
    path = find(source)
    return released_kind(read_checkpoint(path)[0]) if path.is_file() else kind_of(path)


def load(source: str | Path) -> Finetuned:
    """A model folder, released .pth or hub id -> Finetuned; CheckpointError where it is of another kind.

    A released file holds neither names of its outputs, which are called class 1, 2, …, nor its preprocessing.
    """
    path = find(source)
    if path.is_file():
        weights, config = read_checkpoint(path)
        kind = _known(released_kind(weights), path)
        arguments, weights = KINDS[kind][1](weights, str(path))
        names = tuple(f"class {number + 1}" for number in range(arguments.get("classes", 1)))
        shown = {"image_size": config.get("image_res", 224), "equalize": False}
        about = {"kind": kind, "model": arguments, "findings": names, "input": shown, "config": config}
    else:
        kind = _known(kind_of(path), path)
        about, weights = read_folder(path, ("model", "findings", "input"))
    try:
        model = KINDS[kind][0](**about["model"])
    except TypeError as error:  # a keyword that is not, or no longer, one of the network's
        raise CheckpointError(f"{path}: {error}") from error
    check_state(weights, model.state_dict(), str(path))
    model.load_state_dict(weights)
    shown = dict(about["input"])
    equalize = shown.pop("equalize")
    model.backbone.preprocessing = stored_preprocessing(shown, path)
    return Finetuned(kind, model.eval(), tuple(about["findings"]), equalize, about)


def _known(kind: str, path: Path) -> str:
    if kind not in KINDS:
        raise CheckpointError(f"{path}: a model of kind {kind!r}; a fine-tuned one is {' or '.join(KINDS)}")
    return kind
